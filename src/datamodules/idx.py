"""The idx files of MNIST, read and written."""

import struct
from pathlib import Path

import torch
from torch import Tensor

from src.errors import InputError


def read_idx(path: Path) -> Tensor:
    """The uint8 tensor in an idx file.

    Raises:
        InputError: if there is no readable idx file at ``path``.
    """
    try:
        return parse(path.read_bytes())
    except (OSError, struct.error, IndexError, RuntimeError) as error:
        raise InputError(
            f"{path} is not a readable idx file ({error}): delete it, then start again to fetch it"
        ) from error


def parse(data: bytes) -> Tensor:
    """The uint8 tensor in the bytes of an idx file.

    They are a magic number (its last byte is the rank), big-endian sizes, and one byte per value.
    """
    rank = data[3]
    start = 4 + 4 * rank
    shape = struct.unpack(f">{rank}I", data[4:start])
    # A bytearray, because a tensor over immutable bytes would warn.
    return torch.frombuffer(bytearray(data[start:]), dtype=torch.uint8).reshape(shape)


def serialise(values: Tensor) -> bytes:
    """The bytes that ``parse`` reads back; the third of the magic number, 8, means uint8."""
    rank = values.dim()
    header = struct.pack(f">4B{rank}I", 0, 0, 8, rank, *values.shape)
    return header + values.contiguous().numpy().tobytes()
