"""Augmentations that the discriminator sees images through, differentiable to the images.

Real and generated images take the same kind, so that the generator does not learn it
(DiffAugment, arXiv:2006.10738). Each image (N, C, H, W) of a batch draws its own; as there, colours
may leave [-1, 1]. Mirroring is none of them: it makes other digits.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from src.errors import InputError
from src.images import translated

BLACK, GREY = -1.0, 0.0


def about(middle: float, strength: float, images: Tensor) -> Tensor:
    """Draw a number within ``strength`` of ``middle`` for each image, (N, 1, 1, 1)."""
    return torch.rand_like(images[:, :1, :1, :1]).mul_(2 * strength).add_(middle - strength)


@dataclass(frozen=True)
class Recolouring:
    """What changes colours by up to ``strength``."""

    strength: float

    def __post_init__(self) -> None:
        if self.strength < 0:
            raise InputError(f"strength={self.strength} is not allowed: type 0 or more")


class Brightness(Recolouring):
    """Adds one number, at most ``strength`` from 0, to all pixels of an image."""

    def __call__(self, images: Tensor) -> Tensor:
        return images + about(0.0, self.strength, images)


class Saturation(Recolouring):
    """Scales how far channels are from their mean in each pixel, by 1 +- ``strength``."""

    def __call__(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=1, keepdim=True)
        return torch.lerp(mean, images, about(1.0, self.strength, images))


class Contrast(Recolouring):
    """Scales how far values are from the mean of their image, by 1 +- ``strength``."""

    def __call__(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return torch.lerp(mean, images, about(1.0, self.strength, images))


@dataclass(frozen=True)
class Translation:
    """Shifts each image by up to ``max_pixels`` along both axes.

    It fills up with black, which surrounds digits; DiffAugment fills up with grey.
    """

    max_pixels: int

    def __post_init__(self) -> None:
        if self.max_pixels < 0:
            raise InputError(f"max_pixels={self.max_pixels} is not allowed: type 0 or more")

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to shifted ones of the same shape, by whole pixels."""
        return translated(images, self.max_pixels, fill=BLACK)


@dataclass(frozen=True)
class Cutout:
    """Covers a square in each image with grey, ``share`` of its side long, centred in the image."""

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"share={self.share} is not allowed: type a number from 0 to 1")

    def __call__(self, images: Tensor) -> Tensor:
        side = images.shape[3]
        length = round(self.share * side)
        first = -(length // 2)  # the square's centre is anywhere in the image
        top, left = torch.randint(
            first, first + side + 1 - length % 2, (2, len(images), 1), device=images.device
        )
        pixels = torch.arange(side, device=images.device)
        rows, columns = ((start <= pixels) & (pixels < start + length) for start in (top, left))
        return images.masked_fill((rows[:, :, None] & columns[:, None]).unsqueeze(1), GREY)
