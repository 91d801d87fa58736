"""Triples are stacked of the right digits, the same ones every time."""

from typing import Any

import pytest
import torch

from src.datamodules.mnist import MNISTDataModule
from src.datamodules.stacked_mnist import StackedMNISTDataModule
from src.errors import InputError

pytestmark = pytest.mark.usefixtures("digits")
DEFAULTS = {
    "data_dir": "nowhere", "batch_size": 8, "train_val_test_split": [200, 30, 40],
    "img_size": 28, "channels": 3, "n_classes": 1, "seed": 0,
}  # fmt: skip


def stacked(**options: Any) -> StackedMNISTDataModule:
    data = StackedMNISTDataModule(**{**DEFAULTS, **options})
    data.setup("fit")
    return data


def numbers(images: torch.Tensor) -> set[int]:
    return set(images[..., 0, 0].flatten().tolist())


def test_each_part_has_as_many_triples_as_the_split_asks_for() -> None:
    for part, count in zip(stacked().parts.values(), [200, 30, 40], strict=True):
        assert part.images.shape == (count, 3, 28, 28)
        assert part.images.dtype == torch.uint8
        assert part.labels.tolist() == [0] * count


def test_every_channel_is_a_whole_digit_of_the_part_that_mnist_has_it_in() -> None:
    single = MNISTDataModule(
        **{**DEFAULTS, "train_val_test_split": [50, 10, 20], "channels": 1, "n_classes": 10}
    )
    single.setup("fit")
    for name, part in stacked().parts.items():
        assert torch.equal(part.images, part.images[..., :1, :1].expand_as(part.images))
        assert numbers(part.images) == numbers(single.parts[name].images)


def test_the_three_digits_are_drawn_apart() -> None:
    triples = stacked(train_val_test_split=[20_000, 30, 40]).train_set.images[..., 0, 0].double()
    correlations = torch.corrcoef(triples.T) - torch.eye(3)
    assert correlations.abs().max() < 0.05


def test_triples_depend_on_the_split_seed_and_on_no_other_part() -> None:
    torch.manual_seed(1)
    reference = stacked(seed=1).parts
    torch.manual_seed(2)
    again = stacked(seed=2, train_val_test_split=[300, 30, 40]).parts
    other = stacked(split_seed=1).parts
    for name, part in reference.items():
        assert torch.equal(again[name].images[: len(part.images)], part.images)
        assert not torch.equal(other[name].images, part.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 1}, "these images have 3: type model.channels=3"),
        ({"n_classes": 10}, "model.n_classes=10, but stacked digits are of one class: type"),
    ],
)
def test_other_channels_and_classes_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stacked(**options)
