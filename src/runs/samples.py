"""Files of labelled images, from ``task=generate`` or from elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src.errors import InputError
from src.images import Labelled


def read_samples(path: Path, *, shape: tuple[int, ...], n_classes: int) -> Labelled:
    """Read the arrays ``images`` and ``labels`` of a .npz file, in a random but fixed order.

    Args:
        path: images uint8 (N, C, H, W), or (N, H, W) for one channel, and labels (N,).
        shape: the (C, H, W) that the images must have.
        n_classes: labels are integers from 0 to below this.

    Raises:
        InputError: if the file is missing, cannot be read, or holds something else.
    """
    arrays = read_arrays(path)
    images, labels = check_images(arrays, path, shape), check_labels(arrays, path, n_classes)
    if len(images) != len(labels):
        raise InputError(
            f"samples={path} has {len(images)} images but {len(labels)} labels: give one for each"
        )
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return Labelled(
        torch.from_numpy(images).view(-1, *shape)[order],
        torch.from_numpy(labels.astype(np.int64))[order],
    )


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays ``images`` and ``labels`` of a .npz file, without unpickling anything."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("images", "labels") if name in file}
    except FileNotFoundError as error:
        raise InputError(f"samples={path} does not exist: name a .npz file") from error
    except Exception as error:  # what foreign bytes make of numpy is anybody's guess
        raise InputError(
            f"samples={path} is not a whole .npz file: write it with "
            "numpy.savez(FILE, images=..., labels=...)"
        ) from error
    for name in ("images", "labels"):
        if name not in arrays:
            raise InputError(
                f"samples={path} has no array {name}: write it with "
                "numpy.savez(FILE, images=..., labels=...)"
            )
    return arrays


def check_images(
    arrays: dict[str, NDArray[Any]], path: Path, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Refuse images that are not uint8 from 0 to 255, or of another shape than the data set's."""
    images = arrays["images"]
    if images.dtype != np.uint8:
        raise InputError(
            f"samples={path} has images of type {images.dtype}: give uint8 from 0 to 255; from "
            "[-1, 1] that is numpy.rint((x + 1) * 127.5).astype('uint8')"
        )
    allowed = [shape, shape[1:]] if shape[0] == 1 else [shape]
    if images.shape[1:] not in allowed:
        raise InputError(
            f"samples={path} has images of shape {images.shape[1:]}, the data set has {shape}: "
            f"give (N, {', '.join(map(str, shape))}), or type datamodule=NAME of another data set"
        )
    if images.size and images.max() <= 1:
        raise InputError(
            f"samples={path} has pixels from {images.min()} to {images.max()}: give uint8 from 0 "
            "to 255; from [0, 1] that is numpy.rint(255 * x).astype('uint8')"
        )
    return np.ascontiguousarray(images)


def check_labels(
    arrays: dict[str, NDArray[Any]], path: Path, n_classes: int
) -> NDArray[np.integer[Any]]:
    """Refuse labels that are not one integer for each image, from 0 to below ``n_classes``."""
    labels = arrays["labels"]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"samples={path} has labels of type {labels.dtype} and shape {labels.shape}: "
            "give one integer for each image"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < n_classes:
        raise InputError(
            f"samples={path} has labels from {labels.min()} to {labels.max()}: "
            f"the classes are 0..{n_classes - 1}"
        )
    return labels
