"""The pixel convention of the project, and image grids."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid


class Labelled(NamedTuple):
    """Images (N, C, H, W) and their class indices (N,), int64."""

    images: Tensor
    labels: Tensor

    def take(self, rows: Tensor | slice) -> "Labelled":
        return Labelled(self.images[rows], self.labels[rows])


def to_float(images: Tensor) -> Tensor:
    """Map uint8 [0, 255] to float32 [-1, 1], the range that every network sees."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Map floats [-1, 1] to uint8 [0, 255]: exactly the inverse of ``to_float`` on its results."""
    return images.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def translated(images: Tensor, by: int, *, fill: float) -> Tensor:
    """Move every image of (N, C, H, W) by random whole pixels, at most ``by`` along each axis.

    Pixels are copied exactly, those that enter are ``fill``, and gradients pass back.
    """
    count, channels, height, width = images.shape
    top, left = torch.randint(2 * by + 1, (2, count, 1, 1), device=images.device)
    rows = top + torch.arange(height, device=images.device).view(-1, 1)  # (N, H, 1)
    columns = left + torch.arange(width, device=images.device)  # (N, 1, W)
    places = (rows * (width + 2 * by) + columns).flatten(1)  # (N, H * W)
    padded = F.pad(images, [by] * 4, value=fill).flatten(2)
    picked = padded.gather(2, places.unsqueeze(1).expand(-1, channels, -1))
    return picked.view_as(images)


def mirrored(images: Tensor, which: Tensor) -> Tensor:
    """Images (N, C, H, W), mirrored left to right where the booleans ``which`` (N,) say so."""
    return torch.where(which.view(-1, 1, 1, 1), images.flip(3), images)


def picture(image: Tensor) -> Image.Image:
    """A uint8 image (C, H, W) of one channel or three as a picture that can be saved."""
    pixels = image.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


def grid(images: Tensor, *, columns: int, scale: int = 2) -> Image.Image:
    """Lay uint8 images (N, C, H, W) out row by row; each pixel becomes ``scale`` x ``scale``."""
    tiled = make_grid(images, nrow=columns, padding=2)  # (3, rows * (H + 2) + 2, ...)
    small = picture(tiled)
    return small.resize((small.width * scale, small.height * scale), Image.Resampling.NEAREST)
