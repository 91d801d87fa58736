"""The idx format."""

import struct
from pathlib import Path

import pytest
import torch

from src.datamodules.idx import parse, read_idx, serialise
from src.errors import InputError


def test_serialise_writes_the_documented_header() -> None:
    data = serialise(torch.arange(24, dtype=torch.uint8).view(2, 3, 4))
    assert data == struct.pack(">IIII", 2051, 2, 3, 4) + bytes(range(24))
    assert serialise(torch.zeros(5, dtype=torch.uint8))[:8] == struct.pack(">II", 2049, 5)


@pytest.mark.parametrize("shape", [(7,), (3, 28, 28)])
def test_parse_inverts_serialise(shape: tuple[int, ...]) -> None:
    values = torch.randint(256, shape, dtype=torch.uint8)
    assert torch.equal(parse(serialise(values)), values)


@pytest.mark.parametrize("length", [0, 3, 9, 30])
def test_a_cut_file_is_named(tmp_path: Path, length: int) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(serialise(torch.zeros(2, 3, 4, dtype=torch.uint8))[:length])
    with pytest.raises(InputError, match="t10k-images-idx3-ubyte is not a readable idx file"):
        read_idx(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent is not a readable idx file"):
        read_idx(tmp_path / "absent")
