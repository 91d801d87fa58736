"""One page that holds a generator and what runs it, and opens without a server or a network."""

import base64
import gzip
import hashlib
import html
import json
import re
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.datamodules.packages import npm_pack
from src.datamodules.sources import SourceError, failures_as_reasons
from src.exports.card import HEADLINES
from src.files import write_atomically
from src.metrics.panel import written
from src.models.generative import GenerativeModel
from src.serving.bundle import hash_of

HERE = Path(__file__).parent / "page"
RUNTIME = "onnxruntime-web@1.30.0"
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
SHA256S = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
N_DIRECTIONS = 8
N_POINTS = 64  # noises around which it is measured what changes images
STEP = 0.05


def load_runtime(folder: Path) -> dict[str, bytes]:
    """The two files of onnxruntime for browsers, from ``folder`` or else by npm into it.

    Raises:
        SourceError: if npm cannot give them.
    """
    paths = {name: folder / name for name in SHA256S}
    if not all(is_right(path) for path in paths.values()):
        with failures_as_reasons(), tempfile.TemporaryDirectory() as scratch:
            archive = npm_pack(RUNTIME, Path(scratch))
            with tarfile.open(archive) as files:
                there = files.getnames()
                folder.mkdir(parents=True, exist_ok=True)
                for name, path in paths.items():
                    inside = f"package/dist/{name}"
                    content = files.extractfile(inside) if inside in there else None
                    write_atomically(path, content.read() if content else b"")
    if wrong := [name for name, path in paths.items() if not is_right(path)]:
        raise SourceError(f"{wrong[0]} of {RUNTIME} is not the file that it was")
    return {name: path.read_bytes() for name, path in paths.items()}


def is_right(path: Path) -> bool:
    return path.is_file() and hash_of(path) == SHA256S[path.name]


@torch.inference_mode()
def directions(model: GenerativeModel, *, seed: int = 0) -> Tensor:
    """Orthonormal directions (K, Z) in which noise changes images most, the strongest first.

    They are the leading eigenvectors of the mean of J^T J (arXiv:2101.06006, section 2), where J
    is the change of an image with its noise, by differences around noises of all classes. Of noise
    that is an image itself there are none.
    """
    if len(model.noise_shape) != 1:
        return torch.empty(0, 0)
    (size,) = model.noise_shape
    points = model.draw_noise(N_POINTS, torch.Generator().manual_seed(seed))
    metric = torch.zeros(size, size, dtype=torch.float64)
    for i, point in enumerate(points):
        labels = torch.full((size + 1,), i % model.n_classes)
        moved = torch.cat([point[None], point + STEP * torch.eye(size)])
        images = model.sampler(moved, labels).flatten(1).double()
        change = (images[1:] - images[:1]) / STEP  # (Z, pixels)
        metric += change @ change.T / N_POINTS
    _, vectors = torch.linalg.eigh(metric)  # in ascending order
    return vectors.flip(1).T[:N_DIRECTIONS].float()


def write_page(
    generator: bytes,
    facts: Mapping[str, Any],
    runtime: Mapping[str, bytes],
    *,
    directions: Tensor,
    report: Mapping[str, Any] | None,
) -> str:
    """The text of a page: ``facts`` are the generator's metadata, with lists as lists."""
    known = dict(facts) | {"directions": directions.tolist()}
    filled = {
        "title": html.escape(f"{facts['data']}, drawn by a {facts['family']}"),
        "numbers": numbers(report),
        "sha256": hashlib.sha256(generator).hexdigest(),
        "facts": json.dumps(known).replace("<", "\\u003c"),
        "runtime": packed(runtime[SCRIPT]),
        "wasm": packed(runtime[WASM]),
        "model": packed(generator),
        "script": (HERE / "page.js").read_text(),
    }
    template = (HERE / "template.html").read_text()
    return re.sub(r"\{\{(\w+)\}\}", lambda place: filled[place[1]], template)


def packed(content: bytes) -> str:
    """Bytes as text, compressed; equal bytes give equal texts."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def numbers(report: Mapping[str, Any] | None) -> str:
    """The numbers that the foot of the page has, beside real images'."""
    if report is None:
        return "How good these images are has not been measured."
    rows = report["rows"]
    said = [
        f"{name} {written(rows['generated'], name)} (real images {written(rows['real'], name)})"
        for name in HEADLINES
        if name in rows["generated"]
    ]
    return f"Of {report['n']:,} images: {', '.join(said)}. fid_cnn is not Inception's FID."
