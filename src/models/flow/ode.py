"""From noise to images: a flow's equation solved, with guidance."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.models.flow.solvers import times

Solver = Callable[[Callable[[Any, float], Any], Any, list[float]], Any]  # as in solvers.py


class Guidance(NamedTuple):
    """Velocities ``weight`` times as far from those of any class as those of the class are.

    Classifier-free guidance (arXiv:2207.12598), where ``low`` <= t <= ``high`` (arXiv:2404.07724):
    a weight of 1 is none, 0 is without classes.
    """

    weight: float
    low: float
    high: float

    def acts(self, t: float) -> bool:
        return self.weight != 1 and self.low <= t <= self.high


class Ode(nn.Module):
    """Maps noise (N, C, H, W) and class indices (N,) to images (N, C, H, W), the same every time.

    ``velocity`` maps points, times (N,) and class indices, of which ``any_class`` stands for any.
    """

    def __init__(
        self,
        velocity: nn.Module,
        *,
        solver: Solver,
        n_steps: int,
        shift: float,
        guidance: Guidance,
        any_class: int,
    ) -> None:
        super().__init__()
        self.velocity, self.solver, self.guidance = velocity, solver, guidance
        self.ends = times(n_steps, shift=shift)
        self.any_class = any_class

    @override
    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        return self.solver(partial(self.guided, labels=labels), noise, self.ends)

    def guided(self, x: Tensor, t: float, *, labels: Tensor) -> Tensor:
        """The velocity of points x (N, C, H, W) at time ``t``."""
        at = x.new_full(x.shape[:1], t)
        of_class = self.velocity(x, at, labels)
        if not self.guidance.acts(t):
            return of_class
        of_any = self.velocity(x, at, torch.full_like(labels, self.any_class))
        return torch.lerp(of_any, of_class, self.guidance.weight)

    def n_evaluations(self) -> int:
        """How often the network is called for an image."""
        asked: list[float] = []

        def still(_: float, t: float) -> float:
            asked.append(t)
            return 0.0

        self.solver(still, 0.0, self.ends)
        return len(asked) + sum(map(self.guidance.acts, asked))
