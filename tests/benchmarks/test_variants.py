"""Variants that are called equal learn the same, and the others something else."""

from functools import partial
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from benchmarks.throughput import bare_step
from benchmarks.variants import EQUAL, OTHER, UNCHANGED, Variant, generation, race, timer
from src.configuration.build import build_model
from src.datamodules.batches import InMemoryDataset
from src.images import Labelled, to_float
from src.models.generative import MakeOptimizer
from tests.toys import Compose

LEARNING = EQUAL | {name: OTHER[name] for name in ("finite differences", "no label matching")}
del LEARNING["generator compiled"]  # which takes half a minute


def first_step(typed: Compose, variant: Variant, *, descend: MakeOptimizer | None) -> Tensor:
    """Of the discriminator's first weights."""
    torch.manual_seed(1)
    gan = build_model(typed("experiment=train_mnist_gan", *variant.overrides))
    variant.change(gan)
    if descend is not None:
        gan.make_optimizers = descend, descend
    step, images = bare_step(gan), to_float(torch.randint(256, (8, 1, 28, 28), dtype=torch.uint8))
    weight = gan.discriminator.from_images.weight
    before = weight.detach().clone()
    torch.manual_seed(0)
    with variant.around():
        step(images, torch.arange(8))
    return weight.detach() - before


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_only_what_is_called_equal_learns_the_same(typed: Compose, name: str) -> None:
    # A rounding error stays one in SGD; but Adam is not to be replaced where it varies.
    descend = None if "Adam" in name else partial(torch.optim.SGD, lr=1.0)
    torch.set_num_threads(2)
    try:
        expected, found = (
            first_step(typed, each, descend=descend) for each in (Variant(), LEARNING[name])
        )
    finally:
        torch.set_num_threads(1)
    error = (found - expected).norm() / expected.norm()
    assert (error < 1e-4) == (name in EQUAL)


def test_a_timer_runs_as_many_images_as_it_is_told(typed: Compose) -> None:
    cfg = typed("experiment=train_mnist_gan", "datamodule.batch_size=8")
    images = torch.randint(256, (64, 1, 28, 28), dtype=torch.uint8)
    data = InMemoryDataset(Labelled(images, torch.arange(64) % 10))
    steps = []
    with patch("benchmarks.variants.bare_step", lambda _: lambda *batch: steps.append(batch)):
        timer(cfg, Variant(), data, n_images=24)()
    assert [len(labels) for _, labels in steps] == [8, 8, 8]


def test_times_are_over_the_first_of_the_same_round() -> None:
    seconds = iter([9.0, 9.0, 1.0, 2.0, 2.0, 8.0])  # the first round warms up

    def run() -> float:
        return next(seconds)

    table = race({UNCHANGED: run, "slow": run}, rounds=2).splitlines()
    assert table[1].split() == ["unchanged", "1.00", "(1.00", "to", "1.00)", "7.5"]
    assert table[2].split() == ["slow", "3.00", "(2.00", "to", "4.00)", "4.0"]
    assert table[3] == "unchanged: 1.500 s"


@pytest.mark.slow
def test_both_ways_to_generate_give_the_same_images(typed: Compose) -> None:
    gan = build_model(typed("experiment=train_mnist_gan"))
    images = []
    generate = gan.generate
    gan.generate = lambda *inputs: images.append(generate(*inputs))  # type: ignore[assignment]
    for run in generation(gan).values():
        assert run() > 0
    assert torch.equal(*images)
