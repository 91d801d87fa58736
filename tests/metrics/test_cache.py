"""What is remembered: once per key and version, and never at the price of an evaluation."""

from pathlib import Path

import pytest
import torch

from src.images import Labelled
from src.metrics import cache
from src.metrics.cache import md5_of_data, remembered, remembered_row


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        return {"a": torch.arange(3) / 3, "b": torch.tensor(self.calls)}


def test_it_is_computed_once_per_key(tmp_path: Path) -> None:
    compute = Counted()
    first, again = (remembered(tmp_path, "x", 1, compute=compute) for _ in range(2))
    assert compute.calls == 1
    assert torch.equal(first["a"], again["a"])
    assert remembered(tmp_path, "x", 2, compute=compute)["b"] == 2


def test_it_is_computed_again_with_other_code_or_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Counted()
    remembered(tmp_path, "x", compute=compute)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:20])
    assert remembered(tmp_path, "x", compute=compute)["b"] == 2
    monkeypatch.setattr(cache, "code_version", lambda: "other")
    assert remembered(tmp_path, "x", compute=compute)["b"] == 3


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    compute = Counted()
    for calls in (1, 2):
        assert remembered(tmp_path / "file" / "folder", "x", compute=compute)["b"] == calls


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    row = {"fid": 1 / 3, "c_t": -1e-300}
    for _ in range(2):
        assert remembered_row(tmp_path, "row", compute=lambda: row) == row


def test_the_hash_of_data_sees_pixels_and_labels() -> None:
    data = Labelled(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]))
    pixel = data.images.clone()
    pixel[1, 0, 1, 1] = 1
    others = [Labelled(pixel, data.labels), Labelled(data.images, 1 - data.labels)]
    assert len({md5_of_data(each) for each in [data, *others]}) == 3
