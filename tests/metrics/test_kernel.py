"""The kernel distance: an independent implementation, its zero, its error."""

import pytest
import torch
from torchmetrics.image.kid import KernelInceptionDistance

from src.metrics.kernel import kernel_distance, squared_mmd
from tests.toys import AsTheyAre, normal


@pytest.mark.filterwarnings("ignore:.*will save all extracted features")
def test_squared_mmd_is_torchmetrics_s() -> None:
    a, b = normal(120, 16, seed=0).double(), normal(120, 16, seed=1).double() + 0.4
    theirs = KernelInceptionDistance(feature=AsTheyAre(16), subsets=1, subset_size=120)
    theirs.set_dtype(torch.float64)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    assert squared_mmd(b, a) == pytest.approx(float(theirs.compute()[0]), rel=1e-6)


def test_squared_mmd_of_two_points_is_computed_by_hand() -> None:
    # k(x, y) = (xy + 1)^3 in one dimension: k(1, 2) = 27, k(0, 3) = 1, across 1, 1, 64, 343.
    fake, real = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [3.0]])
    assert squared_mmd(fake, real) == pytest.approx(27 + 1 - 2 * (1 + 64 + 1 + 343) / 4)


def test_of_equal_distributions_the_distance_is_zero_within_its_error() -> None:
    estimates = [
        kernel_distance(normal(2_000, 8, seed=i), normal(1_000, 8, seed=100 + i)) for i in range(40)
    ]
    scores = torch.tensor([each.value / each.standard_error for each in estimates])
    assert scores.abs().mean() < 1.5  # 0.8 for a normal score; overlapping subsets give more
    assert scores.abs().mean() > 0.5
    assert abs(scores.mean()) < 0.6


def test_equally_many_of_each_class_do_not_bias_the_parts() -> None:
    means = 4 * normal(10, 8, seed=9)
    fake, real = (normal(4_000, 8, seed=i) + means[torch.arange(4_000) % 10] for i in (0, 1))
    estimate = kernel_distance(fake, real)
    assert abs(estimate.value) < 3 * estimate.standard_error
    parts = zip(fake.double().chunk(10), real.double().chunk(10), strict=True)
    in_turn = torch.tensor([squared_mmd(*pair) for pair in parts])
    assert in_turn.mean() < -10 * in_turn.std() / 10**0.5


def test_the_distance_grows_with_the_shift() -> None:
    real = normal(1_000, 8, seed=0)
    near, far = (kernel_distance(normal(1_000, 8, seed=1) + by, real).value for by in (0.2, 0.4))
    assert far > 2 * near > 0
