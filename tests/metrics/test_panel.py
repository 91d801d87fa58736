"""The panel on cheaters: which metric catches which, while the others are fooled."""

from pathlib import Path

import pytest
import torch

from src.errors import InputError
from src.images import Labelled
from src.metrics.footing import rows_like
from src.metrics.judges import Judged, load_judges
from src.metrics.panel import (
    METRICS,
    Row,
    accuracy_per_class,
    confusion,
    nearest_in,
    require_enough,
)
from src.metrics.real import Real, judge_real
from tests.toys import N_BARS, bars

COUNTS = torch.full((10,), N_BARS // 10)


@pytest.fixture(scope="module")
def real(judged_data: Path) -> Real:
    judges = load_judges("synthetic", n_classes=10, channels=1, data_dir=judged_data)
    return judge_real(judges, **bars(seed=0).parts, folder=judged_data / "judged")


@pytest.fixture(scope="module")
def ideal() -> Labelled:
    """What a perfect generator makes: fresh images of the same distribution."""
    return bars(seed=1).parts["test"]


def score(real: Real, data: Labelled) -> Row:
    judged = real.judges.read(data)
    return real.measure(judged, real.neighbours(judged))


@pytest.fixture(scope="module")
def ideal_row(real: Real, ideal: Labelled) -> Row:
    return score(real, ideal)


def test_an_ideal_generator_scores_as_real_images_do(real: Real, ideal_row: Row) -> None:
    floor, ceiling = real.floor(COUNTS), real.ceiling(COUNTS)
    for name in ("fid_cnn", "fid_cnn_train", "intra_class_fid"):
        assert ideal_row[name] == pytest.approx(floor[name], rel=0.8)
        assert ideal_row[name] < ceiling[name] / 20
    for name in ("precision", "recall", "coverage", "diversity", "label_accuracy"):
        assert ideal_row[name] == pytest.approx(floor[name], abs=0.08)
    assert ceiling["coverage"] < 0.1
    assert ceiling["label_accuracy"] < 0.3
    assert abs(ideal_row["kid_cnn"]) < ceiling["kid_cnn"] / 100
    for space in ("pixels", "features"):
        assert ideal_row[f"memorization_{space}"] == pytest.approx(0.5, abs=0.1)
        assert abs(ideal_row[f"c_t_{space}"]) < 1.5


def test_a_copier_is_caught_by_memorization_alone(real: Real, ideal_row: Row) -> None:
    rows = rows_like(real.train.labels, COUNTS)
    row = score(real, real.train.take(rows).data)
    for space in ("pixels", "features"):
        assert row[f"memorization_{space}"] > 0.999
        assert row[f"c_t_{space}"] < -8
    assert row["fid_cnn"] < 1.2 * ideal_row["fid_cnn"]
    assert row["coverage"] > ideal_row["coverage"] - 0.1
    assert row["label_accuracy"] > 0.9


def test_a_mirrored_copy_is_a_copy_where_mirror_images_are_trained_on(real: Real) -> None:
    copies = real.train.take(slice(20))
    both = torch.cat([copies.images[:10], copies.images[10:].flip(3)])
    mixed = Judged(copies.data._replace(images=both), copies.opinion)
    assert nearest_in(copies, mixed, flip=False)["pixels"].distances[10:].min() > 0
    found = nearest_in(copies, mixed, flip=True)["pixels"]
    assert found.distances.max() == 0
    assert found.indices.tolist() == [*range(20)]
    other = judge_real(real.judges, **bars(seed=0).parts, folder=real.folder, flip=True)
    assert (other.test_gaps()["pixels"] <= real.test_gaps()["pixels"]).all()
    assert (other.test_gaps()["pixels"] < real.test_gaps()["pixels"]).any()


def test_one_image_per_class_is_caught_by_variety_and_not_by_its_labels(
    real: Real, ideal: Labelled, ideal_row: Row
) -> None:
    labels = torch.arange(N_BARS) % 10
    chosen = torch.stack([ideal.images[ideal.labels == label][0] for label in range(10)])
    row = score(real, Labelled(chosen[labels], labels))
    assert row["diversity"] < 1e-3
    assert row["diversity_lowest"] < 1e-3
    assert row["recall"] < 0.05
    assert row["coverage"] < 0.2
    assert row["intra_class_fid"] > 3 * ideal_row["intra_class_fid"]
    assert row["label_accuracy"] > 0.85


def test_one_collapsed_class_shows_in_the_poorest(
    real: Real, ideal: Labelled, ideal_row: Row
) -> None:
    images = ideal.images.clone()
    images[ideal.labels == 3] = images[ideal.labels == 3][0]
    row = score(real, Labelled(images, ideal.labels))
    assert row["diversity_lowest"] < 1e-3
    assert row["diversity"] == pytest.approx(0.9 * ideal_row["diversity"], rel=0.05)


def test_shuffled_labels_are_caught_by_accuracy_and_classes_and_not_by_fid(
    real: Real, ideal: Labelled, ideal_row: Row
) -> None:
    order = torch.randperm(N_BARS, generator=torch.Generator().manual_seed(0))
    row = score(real, Labelled(ideal.images, ideal.labels[order]))
    assert row["label_accuracy"] == pytest.approx(0.1, abs=0.05)
    assert row["intra_class_fid"] > 5 * ideal_row["intra_class_fid"]
    assert row["fid_cnn"] == pytest.approx(ideal_row["fid_cnn"], rel=1e-6)


def test_every_named_metric_is_measured(real: Real, ideal_row: Row) -> None:
    assert set(METRICS) - {"cas", "modes", "kl"} <= set(ideal_row)
    assert set(ideal_row) == set(real.floor(COUNTS)) == set(real.ceiling(COUNTS))


def test_distances_within_classes_are_left_out_where_classes_have_few_test_images(
    real: Real, ideal: Labelled, ideal_row: Row
) -> None:
    parts = bars(seed=0).parts
    few = rows_like(parts["test"].labels, torch.full((10,), 20))
    parts = parts | {"test": parts["test"].take(few)}
    smaller = judge_real(real.judges, **parts, folder=real.folder)
    row = score(smaller, ideal)
    assert set(ideal_row) - set(row) == {"intra_class_fid"}
    assert set(row) == set(smaller.floor(COUNTS)) == set(smaller.ceiling(COUNTS))


def test_the_worst_class_and_the_confusion_agree(real: Real, ideal: Labelled) -> None:
    judged = real.judges.read(ideal)
    table = confusion(judged, n_classes=10)
    assert table.sum(1).tolist() == pytest.approx([1] * 10)
    assert list(accuracy_per_class(judged).values()) == pytest.approx(table.diagonal().tolist())


def test_too_few_images_of_a_class_are_refused() -> None:
    labels = torch.cat([torch.zeros(80), torch.ones(64)]).long()
    with pytest.raises(InputError, match=r"has 64 images of class b, too few .* at least 65"):
        require_enough(labels, class_names=["a", "b"], what="samples=x.npz")
    require_enough(torch.arange(130) % 2, class_names=["a", "b"], what="n=65")
