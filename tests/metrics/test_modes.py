"""Modes and their divergence on shares that are known."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.images import Labelled
from src.metrics import modes
from src.metrics.judges import Judges
from src.metrics.modes import count_modes, count_once, digit_judges, read_modes


class Brightness(nn.Module):
    """Reads the digit k in an image whose pixels are 25 k."""

    def forward(self, images: Tensor) -> Tensor:
        levels = (images[:, 0, 0, 0] + 1) * 127.5 / 25
        return -(levels.view(-1, 1) - torch.arange(10)).square()


@pytest.fixture
def judges(tmp_path: Path) -> Judges:
    real = digit_judges(data_dir=tmp_path)  # the shipped ones, for their records
    return Judges(real.features, Brightness(), real.records, device="cpu")


def shades(triples: Tensor) -> Tensor:
    """Images (N, 3, 28, 28) for digits (N, 3)."""
    return (25 * triples).to(torch.uint8).view(-1, 3, 1, 1).expand(-1, 3, 28, 28)


def test_all_modes_equally_often_have_no_divergence() -> None:
    row = count_modes(torch.arange(26_000) % 1_000)
    assert row["modes"] == 1_000
    assert row["kl"] == pytest.approx(0, abs=1e-12)


def test_one_mode_has_the_divergence_of_a_thousand() -> None:
    assert count_modes(torch.full((500,), 999)) == {
        "modes": 1, "kl": pytest.approx(math.log(1_000)),
    }  # fmt: skip


def test_shares_known_by_hand() -> None:
    row = count_modes(torch.tensor([0, 7, 7, 999]))
    expected = 2 * 0.25 * math.log(250) + 0.5 * math.log(500)
    assert row == {"modes": 3, "kl": pytest.approx(expected)}


def test_channels_are_hundreds_tens_and_ones(judges: Judges) -> None:
    triples = torch.tensor([[0, 0, 0], [1, 2, 3], [9, 0, 4], [9, 9, 9]])
    assert read_modes(judges, shades(triples)).tolist() == [0, 123, 904, 999]


def test_every_mode_is_read_apart(judges: Judges) -> None:
    triples = torch.cartesian_prod(*3 * [torch.arange(10)])
    assert read_modes(judges, shades(triples)).tolist() == list(range(1_000))


def test_the_floor_is_the_scatter_of_shares_and_the_digits_own_frequencies() -> None:
    frequencies = torch.tensor([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    shares = frequencies.double() / 60_000
    of_one_digit = float((shares * (10 * shares).log()).sum())
    assert of_one_digit == pytest.approx(0.001426, abs=1e-6)
    generator = torch.Generator().manual_seed(0)
    n, repeats = 26_000, 10
    drawn = torch.multinomial(shares, 3 * n * repeats, replacement=True, generator=generator)
    numbers = drawn.view(repeats, n, 3) @ torch.tensor([100, 10, 1])
    mean = sum(count_modes(each)["kl"] for each in numbers) / repeats
    assert mean == pytest.approx(999 / (2 * n) + 3 * of_one_digit, rel=0.02)
    assert mean == pytest.approx(0.0235, abs=5e-4)


def test_the_same_images_are_read_once(
    judges: Judges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = shades(torch.tensor([[1, 2, 3], [4, 5, 6]]))
    data = Labelled(images, torch.zeros(2, dtype=torch.int64))
    first = count_once(judges, data, folder=tmp_path)
    assert first == {"modes": 2, "kl": pytest.approx(math.log(500))}
    monkeypatch.setattr(modes, "read_modes", None)
    assert count_once(judges, data, folder=tmp_path) == first
