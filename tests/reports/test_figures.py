"""What the pictures show: the right images in the right rows, and bars at the right length."""

import math
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from src.metrics.judges import Judged
from src.metrics.neighbours import Nearest
from src.metrics.panel import METRICS, Metric
from src.reports.figures import COLUMNS, at_random, draw_quality, least_confident, pairs, place

N = 60


@pytest.fixture
def fake() -> Judged:
    """Every image is filled with its own number; confidence falls with it."""
    images = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1).expand(N, 1, 2, 2)
    labels = torch.arange(N) % 3
    return Judged(images, labels, torch.zeros(N, 64), labels, 1 - torch.arange(N) / N)


def numbers(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_each_row_holds_its_class(fake: Judged) -> None:
    assert numbers(at_random(fake, 3)) == [
        3 * column + row for row in range(3) for column in range(COLUMNS)
    ]


def test_the_least_confident_come_first(fake: Judged) -> None:
    assert numbers(least_confident(fake, 3))[:3] == [57, 54, 51]
    assert numbers(least_confident(fake, 3))[COLUMNS] == 58


def test_pairs_are_the_closest_beside_their_training_image(fake: Judged) -> None:
    train = torch.arange(100, 200, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    n_searched = 45
    found = Nearest(
        distances=torch.arange(n_searched, 0, -1).float(), indices=torch.arange(n_searched) + 1
    )
    shown = numbers(pairs(fake, train, found, 3))
    assert shown[:4] == [42, 143, 39, 140]
    assert len(shown) == 3 * COLUMNS


@pytest.mark.parametrize("metric", [METRICS["fid_cnn"], METRICS["coverage"]])
def test_bars_reach_from_noise_to_real(metric: Metric) -> None:
    assert place(5.0, real=0.1, noise=5.0, metric=metric) == 0
    assert place(0.1, real=0.1, noise=5.0, metric=metric) == 1


def test_distances_are_placed_by_their_logarithm_and_shares_by_themselves() -> None:
    assert place(1.0, real=0.1, noise=10.0, metric=METRICS["fid_cnn"]) == pytest.approx(0.5)
    assert place(0.3, real=0.9, noise=0.1, metric=METRICS["coverage"]) == pytest.approx(0.25)
    assert place(-0.01, real=0.1, noise=10.0, metric=METRICS["kid_cnn"]) == 1
    assert math.isfinite(place(0.0, real=0.0, noise=0.0, metric=METRICS["recall"]))


def test_what_should_be_like_real_may_miss_it_on_either_side() -> None:
    metric = METRICS["diversity"]
    lengths = [place(value, real=1.0, noise=0.5, metric=metric) for value in (0.9, 1.1, 3.0)]
    assert lengths == pytest.approx([0.8, 0.8, 0])


def test_curves_of_different_metrics_share_a_picture(tmp_path: Path) -> None:
    x = {"seconds": 1.0, "images": 64.0}
    stacked = [x | {"modes": 9.0, "real_modes": 1000.0, "kl": 5.0, "real_kl": 0.02}]
    single = [x | {"fid_cnn": 4.0, "real_fid_cnn": 0.1}]
    draw_quality(tmp_path / "quality.png", {"a": stacked, "b": single})
    assert (tmp_path / "quality.png").stat().st_size > 1_000


def test_999_modes_are_written_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    x = {"seconds": 1.0, "images": 64.0, "real_modes": 1000.0}
    draw_quality(tmp_path / "quality.png", {"a": [x | {"modes": 999.0}, x | {"modes": 1000.0}]})
    drawn[0].canvas.draw()
    ticks = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert {"999.0", "1000.0"} <= set(ticks)
