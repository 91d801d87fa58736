"""Stacked MNIST: three random digits as the colour channels of one image, 1,000 modes in all."""

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from src.datamodules.mnist import MNISTDataModule
from src.errors import InputError
from src.images import Labelled


class StackedMNISTDataModule(MNISTDataModule):
    """As many triples as the split asks for, all of one class; ``split_seed`` determines them.

    Each part stacks digits of its own: of the official training images those that MNIST's own
    split trains on, those that it validates on, and the official test images. Whole triples are
    kept, 2,352 bytes each.
    """

    n_validation_digits: ClassVar[int] = 5_000

    @override
    def load(self) -> tuple[Labelled, Labelled]:
        """The official training images as training triples, then validation triples."""
        (digits, _), (test_digits, _) = super().load()
        train, val, test = self.train_val_test_split
        order = torch.randperm(len(digits), generator=self.generator())
        kept, held_out = order.tensor_split([len(digits) - self.n_validation_digits])
        both = torch.cat([self.stack(digits[kept], train), self.stack(digits[held_out], val)])
        return one_class(both), one_class(self.stack(test_digits, test))

    @override
    def divide(self, data: Labelled) -> tuple[Labelled, Labelled]:
        """Where ``load`` has joined them: no digit may be in both."""
        sizes = list(self.train_val_test_split[:2])
        train, val = map(Labelled, data.images.split(sizes), data.labels.split(sizes))
        return train, val

    def stack(self, digits: Tensor, count: int) -> Tensor:
        """Images (count, 3, H, W) of uint8 digits (N, 1, H, W), drawn with replacement."""
        rows = torch.randint(len(digits), (count, 3), generator=self.generator())
        return digits.squeeze(1)[rows]

    def generator(self) -> torch.Generator:
        """Of each draw, so that no part depends on the size of another."""
        return torch.Generator().manual_seed(self.split_seed)

    @override
    def check_data(self, train: Labelled, test: Labelled) -> None:
        super().check_data(train, test)
        if self.n_classes != 1:
            raise InputError(
                f"model.n_classes={self.n_classes}, but stacked digits are of one class:"
                " type model.n_classes=1"
            )


def one_class(images: Tensor) -> Labelled:
    return Labelled(images, torch.zeros(len(images), dtype=torch.int64))
