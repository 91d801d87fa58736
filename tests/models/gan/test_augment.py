"""Translated images are exact copies of shifted pixels on black, and pass gradients back."""

from itertools import product

import pytest
import torch
from torch import Tensor

from src.errors import InputError
from src.models.gan.augment import Translation

SIZE = 6


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """By hand: pixel (y, x) moves to (y + down, x + right)."""
    moved = torch.full_like(image, -1.0)
    for y, x in product(range(SIZE), repeat=2):
        if 0 <= y + down < SIZE and 0 <= x + right < SIZE:
            moved[:, y + down, x + right] = image[:, y, x]
    return moved


def images(count: int, *, channels: int = 1) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, SIZE, SIZE, generator=draw) * 2 - 1


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_shifted_on_its_own_and_every_shift_occurs(channels: int) -> None:
    originals = images(300, channels=channels)
    torch.manual_seed(0)
    found = []
    for original, moved in zip(originals, Translation(max_pixels=1)(originals), strict=True):
        (shift,) = [
            shift
            for shift in product((-1, 0, 1), repeat=2)
            if torch.equal(shifted(original, *shift), moved)
        ]
        found.append(shift)
    counts = torch.tensor([found.count(shift) for shift in product((-1, 0, 1), repeat=2)])
    assert counts.sum() == 300
    assert (counts > 300 / 9 / 3).all()


def test_no_pixels_leave_the_images_as_they_are() -> None:
    assert torch.equal(Translation(max_pixels=0)(images(5)), images(5))


def test_gradients_return_to_the_pixels_that_are_still_seen() -> None:
    originals = images(50).requires_grad_()
    values = torch.randn(50, 1, SIZE, SIZE)
    torch.manual_seed(1)
    seen = Translation(max_pixels=2)(originals)
    (slope,) = torch.autograd.grad((seen * values).sum(), originals)
    torch.manual_seed(1)
    marks = Translation(max_pixels=2)(torch.zeros(50, 1, SIZE, SIZE)) == 0  # no margin
    torch.testing.assert_close((slope * originals).sum(), (seen * values)[marks].sum())
    assert ((slope != 0).sum((1, 2, 3)) == marks.sum((1, 2, 3))).all()
    assert (slope == 0).any()


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(InputError, match="max_pixels=-1 is not allowed"):
        Translation(max_pixels=-1)
