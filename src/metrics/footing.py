"""Equal footing: real images and noise as many, and of such classes, as what they stand beside."""

from collections.abc import Callable

import torch
from torch import Tensor

from src.images import Labelled
from src.metrics.cache import Row


def count_classes(labels: Tensor, *, n_classes: int) -> Tensor:
    """How many labels (N,) there are of each class, int64 (K,)."""
    return torch.bincount(labels, minlength=n_classes)


def in_turn(counts: Tensor) -> Tensor:
    """Labels (N,), ``counts[k]`` of class k, each class evenly spread over the whole."""
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    places = [(torch.arange(count).double() + 0.5) / count for count in counts.tolist()]
    return labels[torch.cat(places).argsort(stable=True)]


def rows_like(labels: Tensor, counts: Tensor) -> Tensor:
    """Rows of ``labels`` (N,) with ``counts[k]`` of class k, the classes in turn.

    Where a class has fewer, all classes are taken in the proportion that it allows.
    """
    rows_of = [(labels == label).nonzero().squeeze(1) for label in range(len(counts))]
    there = torch.tensor([len(rows) for rows in rows_of])
    wanted = counts > 0
    scarcest = (there / counts)[wanted].argmin()
    most, of = there[wanted][scarcest], counts[wanted][scarcest]
    order = in_turn(counts * torch.minimum(most, of) // of)
    rows = torch.empty_like(order)
    for label, mine in enumerate(rows_of):
        places = order == label
        rows[places] = mine[: int(places.sum())]
    return rows


def noise(counts: Tensor, *, like: Labelled) -> Labelled:
    """Noise for the ceiling: uniform pixels, ``counts[k]`` of class k, the classes in turn."""
    generator = torch.Generator().manual_seed(0)
    shape = (int(counts.sum()), *like.images.shape[1:])
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return Labelled(images, in_turn(counts))


def mean_over_parts(measure: Callable[[slice], Row], n: int, *, size: int) -> Row:
    """The mean of what is measured of disjoint parts, so as biased as a set of ``size`` is.

    What is left over of ``n`` is left out.
    """
    rows = [measure(slice(start, start + size)) for start in range(0, n - size + 1, size)]
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
