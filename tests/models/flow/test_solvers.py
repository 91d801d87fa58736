"""Solvers of dx/dt = velocity(x, t) from t = 1 to t = 0."""

from itertools import pairwise
from math import exp

import pytest

from src.models.flow.solvers import AdamsBashforth, Euler, Heun, times


def test_times_go_from_one_to_zero_and_are_denser_near_the_noise() -> None:
    assert times(4, shift=1.0) == [1, 0.75, 0.5, 0.25, 0]
    assert times(2, shift=3.0) == pytest.approx([1, 0.75, 0])
    shifted = times(10, shift=2.0)
    lengths = [a - b for a, b in pairwise(shifted)]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("shift", [1.0, 2.0])
@pytest.mark.parametrize(("solver", "order"), [(Euler(), 1), (Heun(), 2), (AdamsBashforth(), 2)])
def test_an_exponential_is_solved_to_the_order(solver: object, order: int, shift: float) -> None:
    """dx/dt = x from x(1) = 1 ends at x(0) = exp(-1), also where steps differ in length."""
    ends = [solver(lambda x, t: x, 1.0, times(n, shift=shift)) for n in (50, 100)]
    errors = [abs(end - exp(-1)) for end in ends]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.08)


@pytest.mark.parametrize("solver", [Heun(), AdamsBashforth()])
def test_the_second_order_is_exact_for_velocities_linear_in_time(solver: object) -> None:
    ends = times(5, shift=1.7)
    # But for Adams-Bashforth's first step, which is Euler's.
    error = (ends[1] - ends[0]) ** 2 if isinstance(solver, AdamsBashforth) else 0.0
    assert solver(lambda x, t: 2 * t, 1.0, ends) == pytest.approx(-error, abs=1e-12)
