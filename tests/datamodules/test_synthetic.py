"""Synthetic pictures tell their class, fit the settings, and repeat."""

import time
from typing import Any

import pytest
import torch

from src.datamodules.synthetic import Synthetic
from src.images import Labelled


def load(**options: Any) -> tuple[Labelled, Labelled]:
    return Synthetic(split=[1_024, 256, 256], **options).load()


@pytest.mark.parametrize(("size", "channels", "n_classes"), [(28, 1, 10), (32, 3, 10), (16, 4, 2)])
def test_the_settings_are_honoured(size: int, channels: int, n_classes: int) -> None:
    train, test = load(size=size, channels=channels, n_classes=n_classes)
    assert train.images.shape == (1_280, channels, size, size)
    assert test.images.shape == (256, channels, size, size)
    assert train.images.dtype == torch.uint8
    assert train.labels.dtype == torch.int64
    assert train.labels.unique().tolist() == list(range(n_classes))
    assert train.images.max() > 200
    assert train.images.min() < 5


def test_the_nearest_class_mean_tells_the_class() -> None:
    train, test = (data._replace(images=data.images.float().flatten(1)) for data in load())
    means = torch.stack([train.images[train.labels == label].mean(0) for label in range(10)])
    guesses = torch.cdist(test.images, means).argmin(dim=1)
    assert (guesses == test.labels).float().mean() > 0.95


def test_pictures_of_a_class_differ() -> None:
    (images, labels), _ = load()
    of_class = images[labels == 0].float()
    assert of_class.std(dim=0).mean() > 10


def test_pictures_depend_on_their_seed_alone() -> None:
    torch.manual_seed(4)
    train, test = load()
    torch.manual_seed(5)
    again, _ = load()
    assert torch.equal(train.images, again.images)
    assert not torch.equal(train.images, load(seed=1)[0].images)
    assert not torch.equal(train.images[:256], test.images)


def test_drawing_is_fast() -> None:
    elapsed_s = []
    for _ in range(5):
        started_at = time.perf_counter()
        load()
        elapsed_s.append(time.perf_counter() - started_at)
    assert min(elapsed_s) < 0.5  # about 0.02 when the machine is idle
