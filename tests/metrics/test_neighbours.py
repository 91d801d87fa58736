"""Neighbours: hand-made cases, a naive implementation, and what copying looks like."""

import numpy as np
import pytest
import torch
from torch import Tensor

from src.metrics import neighbours
from src.metrics.neighbours import (
    Manifold,
    c_t,
    manifold,
    mean_over_classes,
    nearest,
    radii,
    share_nearer,
    spread_per_class,
)
from tests.toys import normal


def naive(fake: Tensor, real: Tensor, k: int) -> Manifold:
    """From the definitions, with whole matrices and sorted rows."""
    f, r = fake.double().numpy(), real.double().numpy()

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    fake_radii = np.sort(distances(f, f), axis=1)[:, k]
    real_radii = np.sort(distances(r, r), axis=1)[:, k]
    gaps = distances(f, r)
    held = gaps < real_radii[None]
    return Manifold(
        precision=np.mean(held.any(1)),
        recall=np.mean((gaps < fake_radii[:, None]).any(0)),
        density=held.sum() / (k * len(f)),
        coverage=np.mean(held.any(0)),
    )


@pytest.mark.parametrize("block", [7, 1_000])
def test_manifold_is_the_naive_one_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", block)
    fake, real = 0.8 * normal(150, 6, seed=0) + 0.3, normal(120, 6, seed=1)
    assert manifold(fake, real, k=5) == pytest.approx(naive(fake, real, 5), rel=1e-12)


def test_two_equal_gaussians_have_the_expected_density_and_coverage() -> None:
    # Whatever the distribution: of 2k neighbours half are real, so that a ball lacks a generated
    # point with probability 2^-k (arXiv:2002.09797, lemma 2).
    found = manifold(normal(1_000, 100, seed=0), normal(1_000, 100, seed=1))
    assert found.coverage == pytest.approx(1 - 0.5**5, abs=0.02)
    assert found.density == pytest.approx(1, abs=0.1)


def test_copies_are_precise_and_cover_everything_and_far_points_nothing() -> None:
    real = normal(100, 4, seed=0)
    assert manifold(real, real)[:2] == (1, 1)
    assert manifold(real, real).coverage == 1
    assert manifold(real + 100, real) == (0, 0, 0, 0)


def test_a_single_repeated_point_is_precise_but_covers_little() -> None:
    real = normal(300, 4, seed=0)
    found = manifold(real[:1].expand(300, 4), real)
    assert found.precision == 1
    assert found.recall == 0
    assert found.coverage < 0.1


def test_radius_is_the_distance_to_the_kth_other_point() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert radii(line, 2).tolist() == [9.0, 4.0, 9.0, 36.0]


def test_nearest_finds_copies_at_distance_zero() -> None:
    points = 255 * torch.rand(2_000, 784, generator=torch.Generator().manual_seed(0)).round()
    found = nearest(points[[5, 1_999]], points)
    assert found.distances.tolist() == [0, 0]
    assert found.indices.tolist() == [5, 1_999]
    shifted = nearest(points[:1] + 2, points)
    assert shifted.distances.item() == pytest.approx((784 * 4) ** 0.5)


def test_the_nearest_bytes_are_the_naive_ones_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of equally near points the first is meant."""
    draw = torch.Generator().manual_seed(0)
    points = torch.randint(256, (23, 12), generator=draw, dtype=torch.uint8)
    points[19] = points[4]
    queries = torch.cat([points[19:20], torch.randint(256, (9, 12), generator=draw).byte()])
    expected = torch.cdist(queries.double(), points.double()).min(1)
    for floats, block in ((100, 100), (7, 3), (1, 1)):
        monkeypatch.setattr(neighbours, "FLOATS", floats)
        monkeypatch.setattr(neighbours, "BLOCK", block)
        found = nearest(queries, points)
        assert found.indices[0] == 4
        assert torch.equal(found.indices, expected.indices)
        torch.testing.assert_close(found.distances, expected.values)


def test_share_nearer_counts_pairs_and_half_of_ties() -> None:
    fake, test = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0, 0.5])
    # Pairs where the generated one is nearer: (1, 2), (1, 3), (2, 3), and the tie (2, 2).
    assert share_nearer(fake, test) == pytest.approx(3.5 / 6)


def test_share_nearer_is_half_for_equal_distances_and_one_for_a_copier() -> None:
    gaps = torch.rand(500, generator=torch.Generator().manual_seed(0))
    assert share_nearer(gaps, gaps) == pytest.approx(0.5)
    assert share_nearer(torch.zeros(500), gaps) == pytest.approx(1)
    assert share_nearer(gaps + 2, gaps) == 0


def test_c_t_is_the_mann_whitney_score_of_each_class() -> None:
    fake, test = torch.zeros(30), torch.ones(20)
    one_class = torch.zeros(30, dtype=torch.long), torch.zeros(20, dtype=torch.long)
    # U = 0 of 600 pairs, mean 300, variance 600 * 51 / 12.
    expected = -300 / (600 * 51 / 12) ** 0.5
    assert c_t(fake, one_class[0], test, one_class[1]) == pytest.approx(expected)


def test_c_t_averages_so_that_one_class_can_hide_what_another_copies() -> None:
    generator = torch.Generator().manual_seed(0)
    test = torch.rand(400, generator=generator)
    labels = torch.arange(400) % 2
    mixed = torch.where(labels == 0, torch.zeros(400), 1 + test)
    assert share_nearer(mixed, test) == pytest.approx(0.5, abs=0.01)
    scores = [
        c_t(mixed[labels == i], labels[labels == i], test[labels == i], labels[labels == i])
        for i in (0, 1)
    ]
    assert scores[0] < -10
    assert scores[1] > 10
    assert c_t(mixed, labels, test, labels) == pytest.approx(sum(scores) / 2)


def test_class_frequencies_change_no_score_that_is_averaged_over_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    test = torch.rand(400, generator=generator)
    labels = (torch.arange(400) % 4 == 0).long()  # a quarter is of class 1, which lies farther off
    test = test + labels
    half = torch.rand(400, generator=generator)
    even = torch.arange(400) % 2
    assert share_nearer(half + even, test) == pytest.approx(0.375, abs=0.03)
    averaged = mean_over_classes(share_nearer, half + even, even, test, labels)
    assert averaged == pytest.approx(0.5, abs=0.03)


def test_a_class_that_is_absent_is_left_out() -> None:
    test, labels = torch.tensor([1.0, 1.0, 5.0]), torch.tensor([0, 0, 1])
    fake, none = torch.tensor([0.0]), torch.tensor([0])
    assert mean_over_classes(share_nearer, fake, none, test, labels) == 1


def test_of_unseen_data_c_t_is_a_standard_normal_score() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(200, dtype=torch.long)
    draws = torch.rand(300, 2, 200, generator=generator)
    scores = torch.tensor([c_t(fake, labels, test, labels) for fake, test in draws])
    assert scores.mean().abs() < 0.2
    assert scores.std() == pytest.approx(1, abs=0.15)


def test_spread_is_the_mean_distance_of_pairs_in_a_class() -> None:
    features = torch.tensor([[0.0], [3.0], [9.0], [5.0], [5.0]])
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert spread_per_class(features, labels) == {0: pytest.approx((3 + 9 + 6) / 3), 1: 0.0}
