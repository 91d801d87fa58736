"""What the pictures show: the right images in the right rows, and bars at the right length."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.images import Labelled, grid
from src.metrics.classes import ClassFindings
from src.metrics.judges import Judged, Opinion
from src.metrics.neighbours import Nearest
from src.metrics.panel import METRICS, Metric
from src.reports.figures import (
    AXES,
    COLUMNS,
    at_random,
    draw_evaluation,
    draw_findings,
    draw_modes,
    draw_quality,
    least_confident,
    pairs,
    place,
)

N = 60


@pytest.fixture
def fake() -> Judged:
    """Every image is filled with its own number; confidence falls with it."""
    images = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1).expand(N, 1, 2, 2)
    labels = torch.arange(N) % 3
    opinion = Opinion(torch.zeros(N, 64), labels, 1 - torch.arange(N) / N)
    return Judged(Labelled(images, labels), opinion)


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


def test_of_equal_distances_the_one_of_the_image_with_more_contrast_is_closer() -> None:
    images = torch.tensor([[10, 20], [0, 200]], dtype=torch.uint8).view(2, 1, 1, 2)
    labels = torch.zeros(2, dtype=torch.long)
    fake = Judged(Labelled(images, labels), Opinion(torch.zeros(2, 64), labels, torch.ones(2)))
    found = Nearest(distances=torch.tensor([5.0, 5.0]), indices=torch.tensor([0, 1]))
    assert torch.equal(pairs(fake, images, found, 1)[0], images[1])


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


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that would be saved, so that one can ask them what they show."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    return figures


ROWS = {
    "generated": {"fid_cnn": 1.0, "coverage": 0.5},
    "real": {"fid_cnn": 0.1, "coverage": 0.9},
    "noise": {"fid_cnn": 10.0, "coverage": 0.1},
}


def bars(axes: Axes) -> dict[str, float]:
    """The length of the bar beside each label."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(names, [bar.get_width() for bar in axes.patches], strict=True))


def lengths() -> dict[str, object]:
    titles = [METRICS[name].title.replace("  ", "... ") for name in ("fid_cnn", "coverage")]
    return dict(zip(titles, [pytest.approx(0.5)] * 2, strict=True))


def test_an_evaluation_shows_images_errors_and_bars(fake: Judged, drawn: list[Figure]) -> None:
    found = Nearest(distances=torch.arange(N).float(), indices=torch.arange(N))
    names = ["cat", "dog", "hen"]
    draw_evaluation(BytesIO(), fake, fake.images, found, ROWS, names=names, title="of a toy")
    (figure,) = drawn
    random, worst, nearest, errors, compared = figure.axes
    assert figure.get_suptitle() == "of a toy"
    assert "random" in random.get_title()
    assert "least like their label" in worst.get_title()
    assert "nearest" in nearest.get_title()
    for axes in (random, worst, nearest):
        assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert np.array_equal(
        random.images[0].get_array(), grid(at_random(fake, 3), columns=COLUMNS, scale=1)
    )
    assert (errors.get_xlabel(), errors.get_ylabel()) == ("read as, %", "asked for")
    for labels in (errors.get_xticklabels(), errors.get_yticklabels()):
        assert [label.get_text() for label in labels] == names
    assert {text.get_text() for text in errors.texts} == {"100.0"}
    assert bars(compared) == lengths()


def test_dollars_in_names_and_paths_are_no_formulas(fake: Judged, tmp_path: Path) -> None:
    found = Nearest(distances=torch.arange(N).float(), indices=torch.arange(N))
    evaluation = ClassFindings(
        rows=ROWS,
        md5s={},
        class_names=["$a_${", "b", "$$"],
        fake=fake,
        train=fake.images,
        nearest=found,
    )
    draw_findings(evaluation, file := BytesIO(), title="of $x_${")
    assert file.getvalue()
    point = {"seconds": 1.0, "images": 64.0, "fid_cnn": 4.0, "real_fid_cnn": 0.1}
    draw_quality(tmp_path / "quality.png", {"$x_${": [point]})
    assert (tmp_path / "quality.png").is_file()


def test_stacked_digits_are_shown_beside_their_bars(fake: Judged, drawn: list[Figure]) -> None:
    draw_modes(BytesIO(), fake.images, ROWS, title="of stacked digits")
    (figure,) = drawn
    assert figure.get_suptitle() == "of stacked digits"
    left, right = figure.axes
    assert np.array_equal(left.images[0].get_array(), grid(fake.images, columns=14, scale=1))
    assert bars(right) == lengths()


def test_curves_of_different_metrics_share_a_picture(tmp_path: Path, drawn: list[Figure]) -> None:
    x = {"seconds": 1.0, "images": 64.0}
    stacked = [x | {"modes": 9.0, "real_modes": 1000.0, "kl": 5.0, "real_kl": 0.02}]
    single = [x | {"fid_cnn": 4.0, "real_fid_cnn": 0.1}]
    draw_quality(tmp_path / "quality.png", {"a": stacked, "b": single})
    (figure,) = drawn
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["fid_cnn", "modes", "kl"]
    lines = [{line.get_label() for line in axes.lines} for axes in figure.axes[::2]]
    assert all(labels == {"a", "b", "real images"} for labels in lines)
    heights = {line.get_label(): [*line.get_ydata()] for line in figure.axes[0].lines}
    assert heights == {"a": [], "b": [4.0], "real images": [0.1, 0.1]}
    assert [axes.get_xlabel() for axes in figure.axes[-2:]] == [*AXES.values()]


def test_999_modes_are_written_as_such(tmp_path: Path, drawn: list[Figure]) -> None:
    x = {"seconds": 1.0, "images": 64.0, "real_modes": 1000.0}
    draw_quality(tmp_path / "quality.png", {"a": [x | {"modes": 999.0}, x | {"modes": 1000.0}]})
    drawn[0].canvas.draw()
    ticks = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert {"999.0", "1000.0"} <= set(ticks)
