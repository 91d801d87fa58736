"""What a data set says of itself: its name, its shape, its classes and its pictures."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from src.class_names import numbered
from src.images import Labelled
from src.metrics.classes import ClassEvaluation
from src.metrics.evaluation import Evaluation


class DataSet:
    """Labelled pictures of one shape, which are there once ``prepare`` has fetched them.

    A subclass sets ``name``, ``channels``, ``n_classes`` and ``size``, on its class or on each
    object. They are asked for before ``prepare``, so that finding them must fetch nothing.
    """

    name: str
    evaluation: ClassVar[type[Evaluation]] = ClassEvaluation  # how generated images are judged
    typed: str = "datamodule=NAME, with the options of its data"  # the options that name it
    flip: bool = False  # whether a picture's mirror image is as likely, so that training takes both
    channels: int
    n_classes: int
    size: int  # of a side in pixels, before any resizing
    sizes: Sequence[int] | None = None  # of train, val and test, where the data themselves say so

    @property
    def class_names(self) -> Sequence[str]:
        """A name for each class, in the order of the labels."""
        return numbered(self.n_classes)

    def prepare(self) -> None:
        """Fetch what is not there yet; one process of a machine does so before all ``load``."""

    def load(self) -> tuple[Labelled, Labelled]:
        """The official train and test sets: uint8 images (N, C, H, W) and int64 labels (N,)."""
        raise NotImplementedError

    def order(self, count: int, *, seed: int) -> Tensor:
        """Rows (count,) of the official train set in the order of division: train, then val.

        A generator of its own draws them: the same pictures whatever the global seed.
        """
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
