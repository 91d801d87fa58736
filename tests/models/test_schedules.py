"""Schedules against closed forms."""

from math import sqrt

import pytest

from src.errors import InputError
from src.models.schedules import Cosine, Linear


@pytest.mark.parametrize(
    ("share", "done"),
    [(0, 0.0), (1 / 4, (1 - sqrt(1 / 2)) / 2), (1 / 3, 1 / 4), (1 / 2, 1 / 2), (2 / 3, 3 / 4)],
)
def test_a_cosine_has_gone_its_share_of_the_way(share: float, done: float) -> None:
    schedule = Cosine(start=5.0, end=0.5, over_images=12_000)
    assert schedule(round(12_000 * share)) == pytest.approx(5 - 4.5 * done)


def test_a_cosine_begins_and_stays_at_its_ends_exactly() -> None:
    schedule = Cosine(start=0.9, end=0.99, over_images=1000)
    assert schedule(0) == pytest.approx(0.9, rel=1e-15)
    assert schedule(1000) == schedule(10**9) == 0.99


def test_lines_pass_through_their_points_and_end_flat() -> None:
    schedule = Linear([[10, 0.0], [20, 1.0], [50, 1.0], [100, 0.25]])
    wanted = {0: 0.0, 10: 0.0, 15: 0.5, 20: 1.0, 35: 1.0, 50: 1.0, 75: 0.625, 100: 0.25, 101: 0.25}
    assert {n_images: schedule(n_images) for n_images in wanted} == pytest.approx(wanted)
    assert Linear([[10, 0.5]])(0) == Linear([[10, 0.5]])(99) == 0.5


@pytest.mark.parametrize("points", [[], [[0, 1, 2]], [[5, 1], [5, 0]], [[5, 1], [4, 0]]])
def test_lines_through_anything_else_are_refused(points: list[list[float]]) -> None:
    with pytest.raises(InputError, match=r"type \[IMAGES,VALUE\] pairs"):
        Linear(points)


def test_a_cosine_over_no_images_is_refused() -> None:
    with pytest.raises(InputError, match="over_images=0 is not allowed"):
        Cosine(start=1.0, end=0.0, over_images=0)
