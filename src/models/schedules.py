"""Values that change in training: pure functions of the number of real images seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi
from typing import TypedDict

import numpy as np
from torch.optim import Optimizer

from src.errors import InputError

Schedule = Callable[[int], float]  # real images seen -> value


class Rates(TypedDict, total=False):
    """What may change in all families: ``lr``, a factor of what is configured, and ``beta2``."""

    lr: Schedule
    beta2: Schedule


@dataclass(frozen=True)
class Cosine:
    """Burn-in: half a cosine from start to end, then constant (R3GAN, arXiv:2501.05441)."""

    start: float
    end: float
    over_images: int

    def __post_init__(self) -> None:
        if self.over_images < 1:
            raise InputError(f"over_images={self.over_images} is not allowed: type 1 or more")

    def __call__(self, n_images: int) -> float:
        done = min(n_images / self.over_images, 1.0)
        return self.end + (self.start - self.end) * (1 + cos(pi * done)) / 2


@dataclass(frozen=True)
class Linear:
    """Straight lines through points [images, value], and constant before and after them.

    A warm-up is [[0, 0], [N, 1]], a decay [[N, 1], [M, 0]], and both are four points.
    """

    points: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        well_formed = self.points and all(len(point) == 2 for point in self.points)
        if not well_formed or any(a[0] >= b[0] for a, b in pairwise(self.points)):
            raise InputError(
                f"points={self.points} is not allowed: type [IMAGES,VALUE] pairs in the order of "
                "their images, as in [[0,1],[500000,1],[1000000,0]]"
            )

    def __call__(self, n_images: int) -> float:
        images, values = zip(*self.points, strict=True)
        return float(np.interp(n_images, images, values))


def set_rates(optimizer: Optimizer, scheduled: Mapping[str, float]) -> None:
    """Set the learning rate and Adam's beta2 of all parameter groups, where they are scheduled.

    ``lr`` is a factor of the configured rate, also in a resumed run; ``beta2`` is the value itself.

    Raises:
        InputError: if ``beta2`` is scheduled and the optimizer has no betas.
    """
    for group in optimizer.param_groups:
        if "lr" in scheduled:
            group["lr"] = optimizer.defaults["lr"] * scheduled["lr"]
        if "beta2" in scheduled:
            if "betas" not in group:
                raise InputError(
                    f"model.schedules.beta2 is not for {type(optimizer).__name__}, which has no "
                    "betas: choose torch.optim.Adam, or type ~model.schedules.beta2"
                )
            group["betas"] = group["betas"][0], scheduled["beta2"]
