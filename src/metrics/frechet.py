"""Frechet distances between sets of features (N, D), in float64."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

SIZES = 15  # subsets from which the distance at infinite N is extrapolated


class Gaussian(NamedTuple):
    """What the distance knows of a set: mean (D,) and unbiased covariance (D, D)."""

    mean: Tensor
    covariance: Tensor


def fit(features: Tensor) -> Gaussian:
    features = features.double()
    return Gaussian(features.mean(0), torch.cov(features.T))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(A + B - 2 (AB)^(1/2)) (TTUR, arXiv:1706.08500, eq. 6).

    The eigenvalues of AB are those of the symmetric A^(1/2) B A^(1/2), which are real.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp_min(0).sqrt().sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return float((a.mean - b.mean).square().sum() + spread)


def frechet_at_infinity(features: Tensor, reference: Gaussian, *, seed: int = 0) -> float:
    """The distance without the bias of a finite N on the generated side.

    It falls linearly in 1/N: the intercept of a line through random subsets of N/10 to N
    (arXiv:1911.07023, section 4). The bias of the reference's own size remains.
    """
    generator = torch.Generator().manual_seed(seed)
    n, dim = features.shape
    sizes = torch.linspace(max(n // 10, dim + 1), n, SIZES).long()
    distances = [
        frechet_distance(fit(features[torch.randperm(n, generator=generator)[:size]]), reference)
        for size in sizes.tolist()
    ]
    line = torch.stack([torch.ones(SIZES), 1 / sizes], dim=1).double()  # (S, 2)
    values = torch.tensor(distances, dtype=torch.float64).unsqueeze(1)
    return float(torch.linalg.lstsq(line, values).solution[0])


def frechet_per_class(
    features: Tensor, labels: Tensor, reference: Mapping[int, Gaussian]
) -> dict[int, float]:
    """The distance of each class to the same class of the reference."""
    return {
        label: frechet_distance(fit(features[labels == label]), gaussian)
        for label, gaussian in reference.items()
    }


def fit_per_class(features: Tensor, labels: Tensor) -> dict[int, Gaussian]:
    return {label: fit(features[labels == label]) for label in labels.unique().tolist()}
