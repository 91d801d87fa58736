"""Every loss against values worked out by hand, and what each player is driven to."""

import math

import pytest
import torch
from torch import Tensor

from src.models.gan.losses import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    Logits,
    NonSaturating,
    Relativistic,
    Wasserstein,
)

UNPAIRED = [LeastSquares(), NonSaturating(), Hinge(), Wasserstein()]
ALL = [*UNPAIRED, Relativistic()]
LN2 = math.log(2)
of_each_loss = pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
of_each_unpaired_loss = pytest.mark.parametrize(
    "loss", UNPAIRED, ids=lambda loss: type(loss).__name__
)


def logits(real: list[float], fake: list[float]) -> Logits:
    return Logits(*(torch.tensor(each, dtype=torch.float64) for each in (real, fake)))


def softplus(value: float) -> float:
    return math.log(1 + math.exp(value))


# Samples: undecided; D right on both; D wrong on both.
REAL, FAKE = [0.0, 3.0, -2.0], [0.0, -1.0, 0.5]
GOLDEN: list[tuple[AdversarialLoss, list[float], list[float]]] = [
    # ((real - 1)^2 + fake^2) / 2 and, not halved, (fake - 1)^2
    (LeastSquares(), [0.5, (4 + 1) / 2, (9 + 0.25) / 2], [1.0, 4.0, 0.25]),
    (
        NonSaturating(),
        [2 * LN2, softplus(-3) + softplus(-1), softplus(2) + softplus(0.5)],
        [LN2, softplus(1), softplus(-0.5)],
    ),
    # D's margin to 1 and to -1, as far as it is missed
    (Hinge(), [1 + 1, 0 + 0, 3 + 1.5], [0.0, 1.0, -0.5]),
    (Wasserstein(), [0.0, -4.0, 2.5], [0.0, 1.0, -0.5]),
    (Relativistic(), [LN2, softplus(-4), softplus(2.5)], [LN2, softplus(4), softplus(-2.5)]),
]


@pytest.mark.parametrize(("loss", "discriminator", "generator"), GOLDEN)
def test_each_sample_has_the_loss_worked_out_by_hand(
    loss: AdversarialLoss, discriminator: list[float], generator: list[float]
) -> None:
    given = logits(REAL, FAKE)
    expected = logits(discriminator, generator)
    torch.testing.assert_close(loss.discriminator(given), expected.real)
    torch.testing.assert_close(loss.generator(given), expected.fake)


@of_each_loss
def test_descent_separates_real_from_fake_for_one_player_and_not_for_the_other(
    loss: AdversarialLoss,
) -> None:
    given = Logits(*(torch.full((4,), 0.3, requires_grad=True) for _ in range(2)))
    real_slope, fake_slope = torch.autograd.grad(loss.discriminator(given).sum(), given)
    (generator_slope,) = torch.autograd.grad(loss.generator(given).sum(), [given.fake])
    assert (real_slope < 0).all()
    assert (fake_slope > 0).all()
    assert (generator_slope < 0).all()


@of_each_unpaired_loss
def test_an_unpaired_generator_loss_never_reads_the_real_logits(loss: AdversarialLoss) -> None:
    fake = torch.tensor([-1.0, 0.0, 2.5])
    blind = loss.generator(Logits(real=torch.full((3,), torch.nan), fake=fake))
    torch.testing.assert_close(blind, loss.generator(Logits(real=torch.zeros(3), fake=fake)))
    assert blind.isfinite().all()


def test_the_relativistic_loss_sees_differences_only() -> None:
    loss, given = Relativistic(), logits(REAL, FAKE)
    shifted = Logits(given.real + 7.25, given.fake + 7.25)
    torch.testing.assert_close(loss.discriminator(shifted), loss.discriminator(given))
    torch.testing.assert_close(loss.generator(shifted), loss.generator(given))


def test_the_relativistic_game_is_antisymmetric() -> None:
    """The generator's loss is the discriminator's with the two batches exchanged."""
    loss, given = Relativistic(), logits(REAL, FAKE)
    exchanged = Logits(real=given.fake, fake=given.real)
    torch.testing.assert_close(loss.generator(given), loss.discriminator(exchanged))


def test_only_the_relativistic_loss_compares_pairs() -> None:
    assert [loss.paired for loss in ALL] == [False, False, False, False, True]


@pytest.mark.parametrize("loss", [NonSaturating(), Relativistic()])
def test_confident_logits_do_not_overflow(loss: AdversarialLoss) -> None:
    def losses(real: float, fake: float) -> list[Tensor]:
        given = Logits(torch.tensor([real]), torch.tensor([fake]))
        return [loss.discriminator(given), loss.generator(given)]

    for value in (*losses(1e4, -1e4), *losses(-1e4, 1e4)):
        assert value.isfinite().all()
