"""Files of images from anywhere: read as they are, or refused with what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.errors import InputError
from src.runs.samples import read_samples

SHAPE = (1, 28, 28)


def write(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def images(n: int = 6, *shape: int) -> Any:
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(n, *(shape or SHAPE)), dtype=np.uint8)


@pytest.mark.parametrize("shape", [SHAPE, SHAPE[1:]])
def test_images_keep_their_labels_in_a_fixed_random_order(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    pixels = images(50, *shape)
    path = write(tmp_path / "a.npz", images=pixels, labels=np.arange(50))
    read, again = (read_samples(path, shape=SHAPE, n_classes=50) for _ in range(2))
    assert read.images.shape == (50, *SHAPE)
    assert torch.equal(read.images.view(pixels.shape), torch.from_numpy(pixels)[read.labels])
    assert torch.equal(read.labels, again.labels)
    assert read.labels.sort().values.tolist() == list(range(50)) != read.labels.tolist()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": images()}, "no array labels"),
        ({"labels": np.arange(6)}, "no array images"),
        ({"images": images() / 255.0, "labels": np.arange(6)}, "type float64: give uint8 .*rint"),
        ({"images": images() // 255, "labels": np.arange(6)}, "from 0 to 1: give .*255 . x"),
        ({"images": images(6, 1, 32, 32), "labels": np.arange(6)}, r"give \(N, 1, 28, 28\)"),
        ({"images": images(6, 3, 28, 28), "labels": np.arange(6)}, r"give \(N, 1, 28, 28\)"),
        ({"images": images(), "labels": np.arange(5)}, "6 images but 5 labels"),
        ({"images": images(), "labels": np.arange(6) + 5}, r"from 5 to 10: the classes are 0\.\.9"),
        ({"images": images(), "labels": np.arange(6) - 1}, "from -1 to 4"),
        ({"images": images(), "labels": np.arange(6.0)}, "one integer for each image"),
        ({"images": images(), "labels": np.eye(6, dtype=int)}, "one integer for each image"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_samples(write(tmp_path / "a.npz", **arrays), shape=SHAPE, n_classes=10)


def test_other_files_are_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.npz", images=images(), labels=np.arange(6)).read_bytes()
    np.save(tmp_path / "array.npy", images())
    contents = {
        "cut.npz": whole[:300],
        "text.npz": b"five",
        "empty.npz": b"",
        "array.npz": (tmp_path / "array.npy").read_bytes(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name} is not a whole .npz"):
            read_samples(tmp_path / name, shape=SHAPE, n_classes=10)
    with pytest.raises(InputError, match="does not exist"):
        read_samples(tmp_path / "nowhere.npz", shape=SHAPE, n_classes=10)
    with pytest.raises(InputError, match=r"is not a whole \.npz"):
        read_samples(tmp_path, shape=SHAPE, n_classes=10)
