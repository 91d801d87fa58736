"""Pictures without files, for tests and smoke runs: a bar whose angle tells its class."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from src.datamodules.data_set import DataSet
from src.images import Labelled


class Synthetic(DataSet):
    """Pictures of bars on noise, as many as ``split`` asks for; ``seed`` alone determines them."""

    name = "synthetic"

    def __init__(
        self,
        *,
        split: Sequence[int],
        seed: int = 0,
        n_classes: int = 10,
        channels: int = 1,
        size: int = 28,
    ) -> None:
        """``split`` counts the pictures for training, validation and test."""
        self.split, self.seed = split, seed
        self.n_classes, self.channels, self.size = n_classes, channels, size

    @override
    def load(self) -> tuple[Labelled, Labelled]:
        train, val, test = self.split
        generator = torch.Generator().manual_seed(self.seed)
        return self.draw(train + val, generator), self.draw(test, generator)

    def draw(self, count: int, generator: torch.Generator) -> Labelled:
        """Draw ``count`` pictures, with the classes in turn."""
        labels = torch.arange(count) % self.n_classes
        angles = (labels + jitter(count, 0.5, generator)) * (math.pi / self.n_classes)
        bars = draw_bars(angles, jitter(count, 0.2, generator), self.size)
        noise = torch.rand((count, self.channels, self.size, self.size), generator=generator)
        images = 200 * bars.unsqueeze(1) + 55 * noise  # (N, C, S, S) in [0, 255]
        return Labelled(images.to(torch.uint8), labels)


def jitter(count: int, width: float, generator: torch.Generator) -> Tensor:
    """Draw numbers (count,) uniform in [-width / 2, width / 2]."""
    return (torch.rand(count, generator=generator) - 0.5) * width


def draw_bars(angles: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Bars with soft edges through the picture, (N, S, S) in [0, 1]; coordinates are in [-1, 1]."""
    axis = torch.linspace(-1, 1, size)
    angles, offsets = angles.view(-1, 1, 1), offsets.view(-1, 1, 1)
    distances = axis * angles.sin() - axis.view(-1, 1) * angles.cos() - offsets
    return (1.5 - distances.abs() * 5).clamp(0, 1)
