"""An exported folder: its files are verified, its generator runs, and torch is not needed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from src.serving.noise import Normal

SUMS, GENERATOR, JUDGE = "SHA256SUMS", "generator.onnx", "judge.onnx"
GOLDEN, REFERENCE, CANARY = "golden.npz", "reference.npz", "canary.json"
PAGE = "digits.html"
CHUNK = 64  # images that the generator makes at once, so that memory stays flat
SEED_CHUNK = 1_000  # images whose noise is drawn at once: part of what a seed means
Images = NDArray[np.uint8]
Numbers = NDArray[np.float64]


class BundleError(Exception):
    """Says in one sentence why a folder cannot be used."""


class Bundle:
    """A verified folder of task=export.

    Raises:
        BundleError: if a file is missing, or is another than ``SHA256SUMS`` says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sha256s = verified(folder)
        self.session = session(folder / GENERATOR)
        self.metadata: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.class_names: list[str] = json.loads(self.metadata["class_names"])
        self.noise_shape: tuple[int, ...] = tuple(json.loads(self.metadata["noise_shape"]))
        self.image_shape: tuple[int, ...] = tuple(json.loads(self.metadata["image_shape"]))

    @property
    def sha256(self) -> str:
        """The hash of the generator."""
        return self.sha256s[GENERATOR]

    def of_noise(self, noise: NDArray[np.float32], labels: NDArray[np.int64]) -> Images:
        """Map noise (N, *noise_shape) and class indices (N,) to uint8 images (N, C, H, W)."""
        made = []
        for start in range(0, len(labels), CHUNK):
            rows = slice(start, start + CHUNK)
            inputs = {"noise": noise[rows], "labels": labels[rows]}
            made.append(self.session.run(None, inputs)[0])
        return np.concatenate(made)

    def of_seed(self, labels: NDArray[np.int64], seed: int) -> Images:
        """The images that task=generate makes of a seed."""
        return self.of_noise(self.draw(len(labels), seed=seed), labels)

    def draw(self, n: int, *, seed: int) -> NDArray[np.float32]:
        """The noise (n, *noise_shape) by which task=generate makes n images of ``seed``."""
        normal, size = Normal(seed), int(np.prod(self.noise_shape))
        counts = [min(SEED_CHUNK, n - start) for start in range(0, n, SEED_CHUNK)]
        numbers = np.concatenate([normal.draw(count * size) for count in counts])
        return numbers.reshape(n, *self.noise_shape)

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the generator, as JSON has it."""
        return {
            **self.metadata, "class_names": self.class_names, "noise_shape": self.noise_shape,
            "image_shape": self.image_shape,
        }  # fmt: skip

    @cached_property
    def golden(self) -> dict[str, NDArray[Any]]:
        """Noise, labels and the images that torch made of them."""
        with np.load(self.folder / GOLDEN) as arrays:
            return dict(arrays)

    @cached_property
    def judge(self) -> "Judge | None":
        """The exported judges, if the data have some."""
        if JUDGE not in self.sha256s:
            return None
        with np.load(self.folder / REFERENCE) as arrays:
            return Judge(session(self.folder / JUDGE), **arrays)

    @cached_property
    def bounds(self) -> dict[str, float]:
        """What the judges may say of a canary at most and at least."""
        return json.loads((self.folder / CANARY).read_text())


@dataclass(frozen=True)
class Judge:
    """Both judges in one network, and the features of healthy images of a generator."""

    network: ort.InferenceSession
    mean: Numbers  # (D,)
    covariance: Numbers  # (D, D)

    def distance(self, features: Numbers) -> float:
        """The Frechet distance (arXiv:1706.08500, eq. 6) of features (N, D) to healthy ones."""
        covariance = np.cov(features, rowvar=False)
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(values.clip(0)) @ vectors.T
        overlap = np.sqrt(np.linalg.eigvalsh(root @ covariance @ root).clip(0)).sum()
        spread = np.trace(covariance) + np.trace(self.covariance) - 2 * overlap
        return float(np.square(features.mean(0) - self.mean).sum() + spread)


def read(network: ort.InferenceSession, images: Images) -> tuple[Numbers, NDArray[np.int64]]:
    """The features (N, D) of images, and the classes (N,) that they are read as."""
    features, classes = [], []
    for start in range(0, len(images), CHUNK):
        found, probabilities = network.run(None, {"images": images[start : start + CHUNK]})
        features.append(found.astype(np.float64))
        classes.append(probabilities.argmax(1))
    return np.concatenate(features), np.concatenate(classes)


def session(path: Path) -> ort.InferenceSession:
    """A network that runs on one thread, as fast as on two for images that are this small."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is refused is said by an exception
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def verified(folder: Path) -> dict[str, str]:
    """The sha256 of each file that ``SHA256SUMS`` lists, once all of them are as it says."""
    if not (folder / SUMS).is_file():
        raise BundleError(
            f"{folder} has no {SUMS}: name a folder that python run.py task=export has written"
        )
    sums = {}
    for line in (folder / SUMS).read_text().splitlines():
        wanted, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or Path(name).name != name:
            raise BundleError(f"{path} is missing, which {SUMS} lists: copy or export it again")
        found = hash_of(path)
        if found != wanted:
            raise BundleError(
                f"{path} has the sha256 {found[:12]}..., not {wanted[:12]}... as {SUMS} says: "
                "copy or export the folder again"
            )
        sums[name] = wanted
    require_listed(folder, sums)
    return sums


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_listed(folder: Path, sums: Mapping[str, str]) -> None:
    """Refuse a list that leaves out what would be loaded."""
    needed = [GENERATOR, GOLDEN]
    if any(name in sums or (folder / name).exists() for name in (JUDGE, REFERENCE, CANARY)):
        needed += [JUDGE, REFERENCE, CANARY]
    if missing := [name for name in needed if name not in sums]:
        raise BundleError(f"{folder / SUMS} does not list {missing[0]}: copy or export it again")
