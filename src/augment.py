"""Augmentations that the discriminator sees images through, differentiable to the images.

Real and generated images take the same kind, so that the generator does not learn it
(DiffAugment, arXiv:2006.10738). Mirroring is none of them: it makes other digits.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import InputError

BLACK = -1.0


@dataclass(frozen=True)
class Translation:
    """Shifts each image by up to ``max_pixels`` along both axes, and fills up with black."""

    max_pixels: int

    def __post_init__(self) -> None:
        if self.max_pixels < 0:
            raise InputError(f"max_pixels={self.max_pixels} is not allowed: type 0 or more")

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape; exact copies of pixels."""
        count, channels, height, width = images.shape
        margin = self.max_pixels
        top, left = torch.randint(2 * margin + 1, (2, count, 1, 1), device=images.device)
        rows = top + torch.arange(height, device=images.device).view(-1, 1)  # (N, H, 1)
        columns = left + torch.arange(width, device=images.device)  # (N, 1, W)
        places = (rows * (width + 2 * margin) + columns).flatten(1)  # (N, H * W)
        padded = F.pad(images, [margin] * 4, value=BLACK).flatten(2)
        picked = padded.gather(2, places.unsqueeze(1).expand(-1, channels, -1))
        return picked.view_as(images)
