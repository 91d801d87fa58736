"""Pictures without files, for tests and smoke runs: a bar whose angle tells its class."""

import math

import torch
from torch import Tensor
from typing_extensions import override

from src.datamodules.in_memory import InMemoryDataModule
from src.images import Labelled


class SyntheticDataModule(InMemoryDataModule):
    """As many pictures as the split asks for; ``split_seed`` alone determines them."""

    @override
    def load(self) -> tuple[Labelled, Labelled]:
        train, val, test = self.train_val_test_split
        generator = torch.Generator().manual_seed(self.split_seed)
        return self.draw(train + val, generator), self.draw(test, generator)

    def draw(self, count: int, generator: torch.Generator) -> Labelled:
        """``count`` pictures with the classes in turn."""
        labels = torch.arange(count) % self.n_classes
        angles = (labels + jitter(count, 0.5, generator)) * (math.pi / self.n_classes)
        bars = draw_bars(angles, jitter(count, 0.2, generator), self.img_size)
        shape = (count, self.channels, self.img_size, self.img_size)
        noise = torch.rand(shape, generator=generator)
        images = 200 * bars.unsqueeze(1) + 55 * noise  # (N, C, S, S) in [0, 255]
        return Labelled(images.to(torch.uint8), labels)


def jitter(count: int, width: float, generator: torch.Generator) -> Tensor:
    """Uniform within ``width`` around zero, (N,)."""
    return (torch.rand(count, generator=generator) - 0.5) * width


def draw_bars(angles: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Bars with soft edges through the picture, (N, S, S) in [0, 1]; coordinates are in [-1, 1]."""
    axis = torch.linspace(-1, 1, size)
    angles, offsets = angles.view(-1, 1, 1), offsets.view(-1, 1, 1)
    distances = axis * angles.sin() - axis.view(-1, 1) * angles.cos() - offsets
    return (1.5 - distances.abs() * 5).clamp(0, 1)
