"""Equal footing: class counts by hand, and real images that score the floor they stand beside."""

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from src.datamodules.in_memory import InMemoryDataModule
from src.datamodules.synthetic import Synthetic
from src.errors import InputError
from src.images import Labelled
from src.metrics.cache import Row
from src.metrics.footing import in_turn, mean_over_parts, noise, rows_like
from src.metrics.judges import Judged, load_judges
from src.metrics.panel import METRICS, quick
from src.metrics.real import Real, judge_real, quick_floor

TRAIN, VAL, TEST = 1_500, 700, 700  # as in BARS, whose judges read these


def bars(*, seed: int, split: tuple[int, int, int] = (TRAIN, VAL, TEST)) -> dict[str, Labelled]:
    datamodule = InMemoryDataModule(
        dataset=Synthetic(split=split, seed=seed),
        batch_size=1, train_val_test_split=split, img_size=28, seed=0, split_seed=seed,
    )  # fmt: skip
    datamodule.setup("test")
    return datamodule.parts


def test_classes_are_spread_evenly_in_their_proportions() -> None:
    assert in_turn(torch.tensor([2, 2, 2])).tolist() == [0, 1, 2, 0, 1, 2]
    assert in_turn(torch.tensor([1, 0, 4])).tolist() == [2, 2, 0, 2, 2]


def test_rows_have_the_counts_asked_for_and_no_row_twice() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    rows = rows_like(labels, torch.tensor([2, 1, 3]))
    assert labels[rows].bincount().tolist() == [2, 1, 3]
    assert len(rows.unique()) == 6


@pytest.mark.parametrize(
    ("counts", "found"),
    [([100, 100, 100], [2, 2, 2]), ([6, 4, 2], [3, 2, 1]), ([0, 0, 9], [0, 0, 3])],
)
def test_what_is_scarce_keeps_the_proportions(counts: list[int], found: list[int]) -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    rows = rows_like(labels, torch.tensor(counts))
    assert labels[rows].bincount(minlength=3).tolist() == found


def test_as_many_as_there_are_of_the_scarcest_are_taken_to_the_last() -> None:
    """4,955 of 5,000 sevenths and the like, which floating point would round down."""
    labels = torch.arange(10).repeat_interleave(torch.arange(4_955, 4_965))
    assert rows_like(labels, torch.full((10,), 5_000)).shape == (49_550,)


def test_noise_uses_every_value_and_the_counts_asked_for() -> None:
    like = Labelled(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.zeros(1))
    images, labels = noise(torch.tensor([5, 15]), like=like)
    assert images.shape == (20, 1, 28, 28)
    assert images.unique().tolist() == list(range(256))
    assert labels.bincount().tolist() == [5, 15]


def test_the_mean_is_of_whole_parts() -> None:
    values = torch.tensor([1.0, 3.0, 5.0, 7.0, 1000.0])
    row = mean_over_parts(lambda part: {"sd": float(values[part].std())}, 5, size=2)
    assert row == {"sd": pytest.approx(2**0.5)}


UNEVEN = torch.tensor([140, 130, 120, 110, 100, 90, 85, 80, 75, 70])
MANY = torch.full((10,), 250)  # more than any part has


@pytest.fixture(scope="module")
def real(judged_data: Path) -> Real:
    judges = load_judges("synthetic", n_classes=10, channels=1, data_dir=judged_data)
    return judge_real(judges, **bars(seed=0), folder=judged_data / "judged")


@pytest.fixture(scope="module")
def fresh(real: Real) -> list[Judged]:
    """Draws that nothing has learned, as a perfect generator makes them."""
    draws = (bars(seed=seed, split=(1, 1, 2_500))["test"] for seed in range(1, 21))
    return [real.judges.read(draw) for draw in draws]


def drawn(judged: Judged, counts: Tensor) -> Judged:
    return judged.take(rows_like(judged.labels, counts))


def require_within_error(rows: list[Row], floor: Row) -> None:
    """Refuse a floor that is no draw like the others, by more than 4 standard deviations."""
    for name in rows[0]:
        values = [row[name] for row in rows]
        spread = statistics.stdev(values) * (1 + 1 / len(values)) ** 0.5
        z = (floor[name] - statistics.mean(values)) / max(spread, 1e-4)
        assert abs(z) < 4, f"{name}: floor {floor[name]:.4f}, draws {values}"


@pytest.mark.parametrize("counts", [UNEVEN, MANY], ids=["uneven", "many"])
def test_real_images_judged_as_generated_score_the_floor(
    real: Real, fresh: list[Judged], counts: Tensor
) -> None:
    samples = [drawn(judged, counts) for judged in fresh]
    rows = [real.measure(sample, real.neighbours(sample)) for sample in samples]
    assert set(METRICS) - {"cas", "modes", "kl"} <= set(rows[0])
    require_within_error(rows, real.floor(counts))


def test_classifiers_learn_as_much_from_as_many(real: Real, fresh: list[Judged]) -> None:
    rows = [{"cas": real.cas(drawn(judged, MANY).data, seed=0)} for judged in fresh[:6]]
    require_within_error(rows, {"cas": real.cas_floor(MANY, seed=0)})


@pytest.mark.parametrize("counts", [UNEVEN, MANY], ids=["uneven", "many"])
def test_classifiers_learn_from_as_many_real_as_generated_images_of_each_class(
    real: Real, fresh: list[Judged], counts: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = []

    def score(train: Labelled, test: Labelled, **options: Any) -> float:
        learned.append(train.labels.bincount())
        assert test is real.test.data
        return 0.5

    monkeypatch.setattr("src.metrics.real.classification_accuracy_score", score)
    elsewhere = replace(real, folder=tmp_path)  # where no score is remembered
    elsewhere.cas(drawn(fresh[0], counts).data, seed=0)
    elsewhere.cas_floor(counts, seed=0)
    elsewhere.cas_ceiling(counts, seed=0)
    generated, floor, ceiling = learned
    assert (generated - floor).abs().max() <= 1
    assert torch.equal(generated, ceiling)
    assert floor.sum() == generated.sum() == real.sizes(counts).seen


@pytest.mark.parametrize("counts", [UNEVEN, MANY], ids=["uneven", "many"])
def test_so_do_the_three_that_are_measured_while_training(
    real: Real, fresh: list[Judged], counts: Tensor
) -> None:
    train = real.train.data
    size = len(rows_like(train.labels, counts))
    rows = [quick(drawn(judged, counts), real.val, size=size) for judged in fresh]
    require_within_error(
        rows, quick_floor(real.judges, train, real.val, counts=counts, folder=real.folder)
    )


def test_frequencies_that_leave_too_few_real_images_are_refused(real: Real) -> None:
    real.require_enough(UNEVEN)
    with pytest.raises(InputError, match="training images of the rarest class can be put"):
        real.require_enough(torch.full((10,), 66).index_fill(0, torch.tensor([3]), 6_600))
