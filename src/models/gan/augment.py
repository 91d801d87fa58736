"""Augmentations that the discriminator sees images through, differentiable to the images.

Real and generated images take the same kind, so that the generator does not learn it
(DiffAugment, arXiv:2006.10738). Mirroring is none of them: it makes other digits.
"""

from dataclasses import dataclass

from torch import Tensor

from src.errors import InputError
from src.images import translated

BLACK = -1.0


@dataclass(frozen=True)
class Translation:
    """Shifts each image by up to ``max_pixels`` along both axes, and fills up with black."""

    max_pixels: int

    def __post_init__(self) -> None:
        if self.max_pixels < 0:
            raise InputError(f"max_pixels={self.max_pixels} is not allowed: type 0 or more")

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to shifted ones of the same shape, by whole pixels."""
        return translated(images, self.max_pixels, fill=BLACK)
