"""Augmentations against closed forms: what they keep, what they change, and their gradients."""

from itertools import product

import pytest
import torch
from torch import Tensor

from src.errors import InputError
from src.images import Labelled
from src.models.gan.augment import Brightness, Contrast, Cutout, Saturation, Translation
from src.models.gan.game import Augmentation, Game
from src.models.gan.losses import NonSaturating

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


# --- colours --------------------------------------------------------------------------------------


def test_brightness_adds_one_number_to_an_image_uniformly_around_0() -> None:
    originals = images(2000, channels=3)
    added = Brightness(0.5)(originals) - originals
    numbers = added.mean(dim=(1, 2, 3))
    torch.testing.assert_close(added, numbers[:, None, None, None].expand_as(added))
    assert numbers.abs().max() <= 0.5 + 1e-6
    assert numbers.mean().item() == pytest.approx(0, abs=0.03)
    assert numbers.std().item() == pytest.approx(1 / 12**0.5, rel=0.05)


def scales(changed: Tensor, originals: Tensor, means: Tensor) -> Tensor:
    """By how much each image's values lie farther from their means; the same for all of them."""
    factors = ((changed - means) * (originals - means)).sum(dim=(1, 2, 3))
    factors = factors / (originals - means).square().sum(dim=(1, 2, 3))
    expected = means + factors[:, None, None, None] * (originals - means)
    torch.testing.assert_close(changed, expected, atol=1e-5, rtol=1e-5)
    return factors


def test_saturation_scales_channels_about_their_mean() -> None:
    originals = images(2000, channels=3)
    changed, means = Saturation(1.0)(originals), originals.mean(dim=1, keepdim=True)
    torch.testing.assert_close(changed.mean(dim=1, keepdim=True), means)
    factors = scales(changed, originals, means)
    assert -1e-3 < factors.min() < 0.05
    assert 1.95 < factors.max() < 2 + 1e-3
    assert factors.mean().item() == pytest.approx(1, abs=0.05)
    grey = images(5)
    torch.testing.assert_close(Saturation(1.0)(grey), grey)


def test_contrast_scales_values_about_the_mean_of_their_image() -> None:
    originals = images(2000, channels=3)
    changed, means = Contrast(0.5)(originals), originals.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(changed.mean(dim=(1, 2, 3), keepdim=True), means)
    factors = scales(changed, originals, means)
    assert 0.5 - 1e-3 < factors.min() < 0.52
    assert 1.48 < factors.max() < 1.5 + 1e-3


@pytest.mark.parametrize("colour", [Brightness, Saturation, Contrast])
def test_no_strength_changes_no_colour_and_a_negative_one_is_refused(colour: type) -> None:
    originals = images(5, channels=3)
    torch.testing.assert_close(colour(0.0)(originals), originals)
    with pytest.raises(InputError, match=r"strength=-1 is not allowed"):
        colour(-1)


# --- cutout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3])
def test_cutout_covers_a_square_whose_centre_is_anywhere_in_the_image(length: int) -> None:
    originals = torch.full((5000, 3, SIZE, SIZE), 0.7)
    changed = Cutout(length / SIZE)(originals)
    covered = changed == 0
    assert (changed[~covered] == 0.7).all()
    assert torch.equal(covered.all(dim=1), covered.any(dim=1))
    rows, columns = covered[:, 0].any(dim=2).sum(dim=1), covered[:, 0].any(dim=1).sum(dim=1)
    assert torch.equal(covered[:, 0].sum(dim=(1, 2)), rows * columns)  # a rectangle
    firsts = range(-(length // 2), SIZE - length // 2 + 1 - length % 2)
    inside = [min(first + length, SIZE) - max(first, 0) for first in firsts]
    expected = sum(inside) / len(inside)
    assert rows.float().mean().item() == pytest.approx(expected, abs=0.05)
    assert columns.float().mean().item() == pytest.approx(expected, abs=0.05)
    assert {*rows.tolist()} == {*inside}
    assert (rows * columns).float().mean().item() == pytest.approx(expected**2, rel=0.05)


def test_cutout_of_nothing_changes_nothing_and_other_shares_are_refused() -> None:
    assert torch.equal(Cutout(0.0)(images(5)), images(5))
    for share in (-0.1, 1.1):
        with pytest.raises(InputError, match=r"share=.* is not allowed: type a number from 0 to 1"):
            Cutout(share)


# --- together -------------------------------------------------------------------------------------

ALL: dict[str, Augmentation] = {
    "brightness": Brightness(0.5), "saturation": Saturation(1.0), "contrast": Contrast(0.5),
    "translation": Translation(1), "cutout": Cutout(0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_images_draw_on_their_own_and_anew_and_gradients_flow(name: str) -> None:
    same = images(1, channels=3).expand(64, -1, -1, -1).clone().requires_grad_()
    first, again = ALL[name](same), ALL[name](same)
    assert first.shape == same.shape
    assert not torch.equal(first, again)
    assert len(first.flatten(1).unique(dim=0)) > 8
    (slope,) = torch.autograd.grad(first.square().sum(), same)
    assert (slope.flatten(1).abs().sum(dim=1) > 0).all()


def seen(p: float | None, *, n: int = 4000) -> tuple[Tensor, Tensor]:
    game = Game(NonSaturating(), augmentations={"invert": lambda images: -images})
    batch = Labelled(torch.full((n, 1, 2, 2), 0.5), torch.zeros(n).long())
    return batch.images, game.augmented(batch, augment_p=p).images


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_each_image_is_augmented_as_a_whole_with_the_probability(p: float) -> None:
    originals, augmented = seen(p)
    is_changed = (augmented == -originals).flatten(1)
    assert torch.equal(is_changed.all(dim=1), is_changed.any(dim=1))
    assert is_changed.float().mean().item() == pytest.approx(p, abs=0.03 if 0 < p < 1 else 0)


def test_what_is_certain_draws_nothing() -> None:
    state = torch.get_rng_state()
    originals, augmented = seen(None)
    assert torch.equal(augmented, -originals)
    assert torch.equal(torch.get_rng_state(), state)
