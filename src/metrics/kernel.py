"""The kernel distance (KID) between sets of features (N, D), in float64."""

from typing import NamedTuple

import torch
from torch import Tensor

MOST_POINTS = 5_000  # of a part, whose cost grows with the square


class Estimate(NamedTuple):
    value: float
    standard_error: float


def kernel_distance(fake: Tensor, real: Tensor, *, blocks: int = 10, seed: int = 0) -> Estimate:
    """Unbiased squared MMD with the kernel (x.y / D + 1)^3 (arXiv:1801.01401, section 4).

    The mean over ``blocks`` disjoint parts of both sets, which are thus independent: their spread
    gives an honest standard error, as overlapping subsets would not. The parts are drawn at random,
    because equally many of each class in a part would bias it below zero.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = (each[torch.randperm(len(each), generator=generator)] for each in (fake, real))
    pairs = zip(*(each.double().tensor_split(blocks) for each in shuffled), strict=True)
    values = torch.tensor(
        [squared_mmd(a[:MOST_POINTS], b[:MOST_POINTS]) for a, b in pairs], dtype=torch.float64
    )
    return Estimate(float(values.mean()), float(values.std() / blocks**0.5))


def squared_mmd(fake: Tensor, real: Tensor) -> float:
    between = kernel(fake, real).mean()
    return float(mean_of_pairs(fake) + mean_of_pairs(real) - 2 * between)


def mean_of_pairs(points: Tensor) -> Tensor:
    """Mean of the kernel over all pairs of distinct points."""
    values, n = kernel(points, points), len(points)
    return (values.sum() - values.trace()) / (n * (n - 1))


def kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T).div_(x.shape[1]).add_(1).pow_(3)
