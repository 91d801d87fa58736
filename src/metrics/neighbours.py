"""Statistics of nearest neighbours between sets of points (N, D), in blocks of bounded memory."""

from collections.abc import Callable, Iterator
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 500  # rows of a distance matrix that exist at once
FLOATS = 2_000  # points that exist as float32 at once, where they are uint8


class Manifold(NamedTuple):
    """Precision, recall, density and coverage: shares in [0, 1], but density may exceed 1."""

    precision: float  # of generated points that lie among real ones
    recall: float  # of real points that lie among generated ones
    density: float  # of real balls per generated point, over k
    coverage: float  # of real balls that hold a generated point


def squared_distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Squared Euclidean distances between two sets of points, BLOCK rows (BLOCK, M) at a time."""
    norms = y.square().sum(1)
    for rows in (each.to(y.dtype) for each in x.split(BLOCK)):
        product = torch.addmm(norms, rows, y.T, alpha=-2)
        yield product.add_(rows.square().sum(1, keepdim=True)).clamp_min_(0)


def radii(points: Tensor, k: int) -> Tensor:
    """Squared distance of each point to its k-th neighbour, itself not counted, (N,)."""
    return torch.cat(
        [rows.kthvalue(k + 1, dim=1).values for rows in squared_distances(points, points)]
    )


def manifold(fake: Tensor, real: Tensor, *, k: int = 5) -> Manifold:
    """Precision and recall (arXiv:1904.06991, eq. 1-2), density and coverage (arXiv:2002.09797, eq. 3-4).

    All four depend on both sizes: they compare only between equal N and M.
    """  # noqa: E501
    fake, real = fake.double(), real.double()
    fake_radii, real_radii = radii(fake, k), radii(real, k)
    inside = torch.zeros((), dtype=torch.long, device=fake.device)  # fakes in some real ball
    pairs = torch.zeros_like(inside)  # of a fake and a real ball that holds it
    recalled = torch.zeros(len(real), dtype=torch.bool, device=fake.device)
    covered = torch.zeros_like(recalled)
    for rows, own in zip(squared_distances(fake, real), fake_radii.split(BLOCK), strict=True):
        held = rows < real_radii
        inside += held.any(1).sum()
        pairs += held.sum()
        covered |= held.any(0)
        recalled |= (rows < own.unsqueeze(1)).any(0)
    return Manifold(
        precision=int(inside) / len(fake),
        recall=float(recalled.double().mean()),
        density=int(pairs) / (k * len(fake)),
        coverage=float(covered.double().mean()),
    )


class Nearest(NamedTuple):
    """Euclidean distances (N,) and indices (N,) of the nearest points."""

    distances: Tensor
    indices: Tensor


def nearest(queries: Tensor, points: Tensor) -> Nearest:
    """Nearest of ``points`` to each query, found in float32 and then measured in float64.

    The distance to a copy, of bytes or float32, is exactly 0. Few bytes exist as floats at once.
    """
    parts = []
    for start in range(0, len(points), FLOATS):
        part = points[start : start + FLOATS].float()
        found = [rows.argmin(1) for rows in squared_distances(queries, part)]
        gaps = [
            (mine.double() - part[rows].double()).square().sum(1).sqrt()
            for mine, rows in zip(queries.split(BLOCK), found, strict=True)
        ]
        parts.append(Nearest(torch.cat(gaps), torch.cat(found) + start))
    return reduce(nearer, parts)


def nearer(one: Nearest, other: Nearest) -> Nearest:
    """Whichever of two is nearer, query by query."""
    is_first = one.distances <= other.distances
    pairs = zip(one, other, strict=True)
    return Nearest(*(torch.where(is_first, mine, theirs) for mine, theirs in pairs))


def share_nearer(fake: Tensor, test: Tensor) -> float:
    """Probability that a generated point is nearer to the training set than a test point is.

    Both arguments are distances to the nearest training point, (N,) and (M,); ties count half.
    0.5 is what unseen real data give, 1 is a copier.
    """
    ordered = test.sort().values
    above = len(test) - torch.searchsorted(ordered, fake, right=True)
    ties = torch.searchsorted(ordered, fake, right=True) - torch.searchsorted(ordered, fake)
    return float((above + ties / 2).double().mean() / len(test))


def mean_over_classes(
    score: Callable[[Tensor, Tensor], float],
    fake: Tensor, fake_labels: Tensor, test: Tensor, test_labels: Tensor,
) -> float:  # fmt: skip
    """The scores of each class, averaged by the class's share of the test set.

    So a score does not depend on how frequent the classes are among the generated points.
    """
    labels = [label for label in test_labels.unique().tolist() if (fake_labels == label).any()]
    pairs = [(fake[fake_labels == label], test[test_labels == label]) for label in labels]
    total = sum(len(b) for _, b in pairs)
    return sum(score(a, b) * len(b) / total for a, b in pairs)


def mann_whitney(fake: Tensor, test: Tensor) -> float:
    """The z-score of a Mann-Whitney test: below 0 where the generated points are nearer."""
    n_pairs = len(fake) * len(test)
    variance = n_pairs * (len(fake) + len(test) + 1) / 12
    return n_pairs * (0.5 - share_nearer(fake, test)) / variance**0.5


def c_t(fake: Tensor, fake_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Data-copying statistic C_T (arXiv:2004.05675, section 4), with the classes as its cells.

    The z-score of a Mann-Whitney test on the distances to the training set, in each class, averaged
    by the class's share of the test set: far below 0 is copying, far above 0 underfitting. For
    unseen images of ten equal classes its standard deviation is 10^-1/2. It grows with the number
    of images, so that it compares only between equal ones. Unlike there, distances are to the whole
    training set, not to the part of it in the same cell. A class that is copied can hide behind
    others that underfit.
    """
    return mean_over_classes(mann_whitney, fake, fake_labels, test, test_labels)


def spread_per_class(features: Tensor, labels: Tensor, *, most: int = 1_000) -> dict[int, float]:
    """Mean distance between two of the first ``most`` points of each class."""
    return {
        label: float(torch.pdist(features[labels == label][:most].double()).mean())
        for label in labels.unique().tolist()
    }
