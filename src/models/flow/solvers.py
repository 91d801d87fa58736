"""Solvers of a flow's equation dx/dt = velocity(x, t): from noise at t = 1 to images at t = 0."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from torch import Tensor

Velocities = Callable[[Tensor, float], Tensor]  # points (N, C, H, W), their time -> velocities


def times(n_steps: int, *, shift: float) -> list[float]:
    """The ends of ``n_steps`` steps from 1 to 0, denser near 1 for a larger ``shift``.

    t -> shift t / (1 + (shift - 1) t) (arXiv:2403.03206, eq. 23).
    """
    even = [1 - i / n_steps for i in range(n_steps + 1)]
    return [shift * t / (1 + (shift - 1) * t) for t in even]


def steps(ends: list[float]) -> Iterator[tuple[float, float]]:
    """The time at which each step starts, and its length, which is negative."""
    return ((start, end - start) for start, end in pairwise(ends))


class Euler:
    """First order: one velocity for each step."""

    def __call__(self, velocity: Velocities, x: Tensor, ends: list[float]) -> Tensor:
        for t, h in steps(ends):
            x = x + h * velocity(x, t)
        return x


class Heun:
    """Second order: the mean of the velocities at both ends of each step."""

    def __call__(self, velocity: Velocities, x: Tensor, ends: list[float]) -> Tensor:
        for t, h in steps(ends):
            start = velocity(x, t)
            end = velocity(x + h * start, t + h)
            x = x + h / 2 * (start + end)
        return x


class AdamsBashforth:
    """Second order from one velocity for each step, and the one before it; the first is Euler's.

    For steps h after g, the polynomial through both velocities gives h (1 + h / 2g) of the new
    one, less h^2 / 2g of the one before.
    """

    def __call__(self, velocity: Velocities, x: Tensor, ends: list[float]) -> Tensor:
        before, g = None, 0.0
        for t, h in steps(ends):
            now = velocity(x, t)
            forward = now if before is None else now + h / (2 * g) * (now - before)
            x, before, g = x + h * forward, now, h
        return x
