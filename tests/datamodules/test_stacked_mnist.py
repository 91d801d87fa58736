"""Triples are stacked of the right digits, the same ones every time."""

from typing import Any

import pytest
import torch

from src.datamodules.data_set import DataSet
from src.datamodules.in_memory import InMemoryDataModule
from src.datamodules.mnist import MNIST
from src.datamodules.stacked_mnist import StackedMNIST

pytestmark = pytest.mark.usefixtures("digits")
SPLIT = [200, 30, 40]


def module(dataset: DataSet, split: list[int], **options: int) -> InMemoryDataModule:
    defaults: dict[str, Any] = {"batch_size": 8, "img_size": 28, "seed": 0}
    data = InMemoryDataModule(
        dataset=dataset, train_val_test_split=split, **{**defaults, **options}
    )
    data.setup("fit")
    return data


def stacked(*, split: list[int] = SPLIT, seed: int = 0, **options: int) -> InMemoryDataModule:
    dataset = StackedMNIST(data_dir="nowhere", split=split, seed=seed)
    return module(dataset, split, **options)


def numbers(images: torch.Tensor) -> set[int]:
    return set(images[..., 0, 0].flatten().tolist())


def test_each_part_has_as_many_triples_as_the_split_asks_for() -> None:
    for part, count in zip(stacked().parts.values(), [200, 30, 40], strict=True):
        assert part.images.shape == (count, 3, 28, 28)
        assert part.images.dtype == torch.uint8
        assert part.labels.tolist() == [0] * count


def test_every_channel_is_a_whole_digit_of_the_part_that_mnist_has_it_in() -> None:
    single = module(MNIST(data_dir="nowhere"), [50, 10, 20])
    for name, part in stacked().parts.items():
        assert torch.equal(part.images, part.images[..., :1, :1].expand_as(part.images))
        assert numbers(part.images) == numbers(single.parts[name].images)


def test_the_three_digits_are_drawn_apart() -> None:
    triples = stacked(split=[20_000, 30, 40]).train_set.images[..., 0, 0].double()
    correlations = torch.corrcoef(triples.T) - torch.eye(3)
    assert correlations.abs().max() < 0.05


def test_triples_depend_on_their_seed_and_on_no_other_part() -> None:
    torch.manual_seed(1)
    reference = stacked().parts
    torch.manual_seed(2)
    again = stacked(split=[300, 30, 40]).parts
    other = stacked(seed=1).parts
    for name, part in reference.items():
        assert torch.equal(again[name].images[: len(part.images)], part.images)
        assert not torch.equal(other[name].images, part.images)
