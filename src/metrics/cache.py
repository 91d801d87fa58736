"""Tensors that are computed once: the real data's side of every evaluation."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from src.files import write_atomically
from src.images import Labelled

Tensors = dict[str, Tensor]
Row = dict[str, float]


def remembered(folder: Path, *key: object, compute: Callable[[], Tensors]) -> Tensors:
    """Return the tensors stored for ``key``, or else compute and store them.

    The key includes the version of the code that measures.
    """
    digest = hashlib.sha256(repr((*key, code_version())).encode()).hexdigest()[:16]
    path = folder / f"{key[0]}-{digest}.safetensors"
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError):
        tensors = compute()
        content = save({name: part.contiguous() for name, part in tensors.items()})
        with suppress(OSError):  # a full disk costs time, not the evaluation
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        return tensors


def remembered_row(folder: Path, *key: object, compute: Callable[[], Row]) -> Row:
    """Return the numbers stored for ``key``, or else compute and store them."""
    tensors = remembered(folder, *key, compute=lambda: as_tensors(compute()))
    return {name: value.item() for name, value in tensors.items()}


def as_tensors(row: Row) -> Tensors:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in row.items()}


@cache
def code_version() -> str:
    """Hash of our code that a remembered value depends on."""
    here = Path(__file__).parent
    others = here.parent / "networks" / "classifier.py", here.parent / "images.py"
    files = [*sorted(here.glob("*.py")), *others]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def md5_of_data(data: Labelled) -> str:
    """Hash of a part's pixels and labels as they are used, after any resizing."""
    # Without a copy, for the pixels may be gigabytes.
    digest = hashlib.md5(data.images.contiguous().numpy().data, usedforsecurity=False)
    digest.update(data.labels.contiguous().numpy().data)
    return digest.hexdigest()
