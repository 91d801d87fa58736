"""The Frechet distance: closed forms, an independent implementation, and its bias."""

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from src.metrics.frechet import (
    Gaussian,
    fit,
    fit_per_class,
    frechet_at_infinity,
    frechet_distance,
    frechet_per_class,
)
from tests.toys import AsTheyAre, normal


def test_distance_of_a_gaussian_to_itself_is_zero() -> None:
    gaussian = fit(normal(200, 8, seed=0))
    assert frechet_distance(gaussian, gaussian) == pytest.approx(0, abs=1e-10)


def test_distance_of_shifted_gaussians_is_the_squared_shift() -> None:
    a = fit(normal(200, 8, seed=0))
    b = Gaussian(a.mean + 0.5, a.covariance)
    assert frechet_distance(a, b) == pytest.approx(8 * 0.25, rel=1e-9)


def test_distance_of_diagonal_gaussians_is_that_of_their_deviations() -> None:
    deviations = torch.tensor([[1.0, 2.0, 3.0], [4.0, 1.0, 3.0]], dtype=torch.float64)
    a, b = (Gaussian(torch.zeros(3).double(), torch.diag(each.square())) for each in deviations)
    assert frechet_distance(a, b) == pytest.approx(3**2 + 1**2 + 0, rel=1e-9)


def test_distance_of_rotated_gaussians_does_not_change_when_both_rotate() -> None:
    rotation = torch.linalg.qr(normal(6, 6, seed=3).double()).Q
    a, b = normal(100, 6, seed=0).double() * torch.arange(1, 7), normal(100, 6, seed=1).double()
    turned = frechet_distance(fit(a @ rotation), fit(b @ rotation))
    assert turned == pytest.approx(frechet_distance(fit(a), fit(b)), rel=1e-9)


def test_distance_is_torchmetrics_s() -> None:
    a, b = normal(500, 64, seed=0).double(), 1.3 * normal(400, 64, seed=1).double().cumsum(1)
    theirs = FrechetInceptionDistance(feature=AsTheyAre(64), input_img_size=(64,)).set_dtype(
        torch.float64
    )
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    assert frechet_distance(fit(a), fit(b)) == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_a_set_smaller_than_its_dimension_has_a_finite_distance() -> None:
    singular, full = fit(normal(5, 16, seed=0)), fit(normal(100, 16, seed=1))
    assert 0 < frechet_distance(singular, full) < 50


def test_at_infinite_n_the_bias_of_small_sets_is_gone() -> None:
    truth = Gaussian(torch.zeros(32).double(), torch.eye(32).double())
    features = normal(2_000, 32, seed=0)
    biased = frechet_distance(fit(features), truth)
    assert biased > 0.1  # though the set is drawn from the truth
    assert abs(frechet_at_infinity(features, truth)) < biased / 5


def test_each_class_is_compared_with_itself() -> None:
    labels = torch.arange(400) % 2
    real = normal(400, 4, seed=0) + 10 * labels.unsqueeze(1)
    reference = fit_per_class(real, labels)
    right, swapped = (frechet_per_class(real, wanted, reference) for wanted in (labels, 1 - labels))
    assert max(right.values()) == pytest.approx(0, abs=1e-9)
    assert min(swapped.values()) == pytest.approx(4 * 10**2, rel=0.1)
