"""Stacked MNIST: three random digits as the colour channels of one image, 1,000 modes in all."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from src.datamodules.mnist import MNIST
from src.images import Labelled
from src.metrics.modes import ModeEvaluation


class StackedMNIST(MNIST):
    """Triples of digits, as many as ``split`` asks for; ``seed`` determines them.

    Each part stacks digits of its own: of the official training images those that MNIST's own
    split trains on, those that it validates on, and the official test images. All
    triples have label 0, and are kept whole, 2,352 bytes each.
    """

    name = "stacked_mnist"
    evaluation = ModeEvaluation
    channels, n_classes = 3, 1
    n_validation_digits: ClassVar[int] = 5_000

    def __init__(self, *, data_dir: str, split: Sequence[int], seed: int = 0) -> None:
        """``split`` counts the triples for training, validation and test."""
        super().__init__(data_dir=data_dir)
        self.split, self.seed = split, seed

    @override
    def load(self) -> tuple[Labelled, Labelled]:
        """The official training images as training triples, then validation triples."""
        (digits, _), (test_digits, _) = super().load()
        train, val, test = self.split
        order = super().order(len(digits), seed=self.seed)
        kept, held_out = order.tensor_split([len(digits) - self.n_validation_digits])
        both = torch.cat([self.stack(digits[kept], train), self.stack(digits[held_out], val)])
        return one_class(both), one_class(self.stack(test_digits, test))

    @override
    def order(self, count: int, *, seed: int) -> Tensor:
        """Rows (count,) as ``load`` has joined them: no digit may be in train and in val."""
        return torch.arange(count)

    def stack(self, digits: Tensor, count: int) -> Tensor:
        """Images (count, 3, H, W) of uint8 digits (N, 1, H, W), drawn with replacement.

        Each draw has a generator of its own, so that no part depends on the size of another.
        """
        generator = torch.Generator().manual_seed(self.seed)
        rows = torch.randint(len(digits), (count, 3), generator=generator)
        return digits.squeeze(1)[rows]


def one_class(images: Tensor) -> Labelled:
    """Images (N, C, H, W) with label 0 for all."""
    return Labelled(images, torch.zeros(len(images), dtype=torch.int64))
