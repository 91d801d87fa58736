"""The averaged generator: its half-life, its buffers, its mode."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from src.models.ema import EMA

LONG = 1_000_000_000  # images, after which the first ones have no share left


class Conditional(nn.Module):
    """The smallest network with the generator's signature, with and without batch statistics."""

    def __init__(self, *, width: int = 2, norm: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(3, width, dtype=torch.float64)
        self.norm = nn.BatchNorm1d(width, dtype=torch.float64) if norm else nn.Identity()

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return self.norm(self.linear(latents)) + labels.unsqueeze(1)


def filled(value: float) -> Conditional:
    network = Conditional()
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)
    return network


@pytest.mark.parametrize("steps", [1, 10, 1000], ids=lambda steps: f"{steps} batches")
def test_after_one_half_life_half_of_the_gap_is_left_whatever_the_batch_size(steps: int) -> None:
    ema = EMA(filled(0.0), halflife_images=1000)
    for _ in range(steps):
        ema.move(filled(8.0), ema.share(seen=LONG, n_images=1000 // steps))
    for parameter in ema.network.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 4.0))


def test_after_three_half_lives_an_eighth_is_left() -> None:
    ema = EMA(filled(8.0), halflife_images=50)
    ema.move(filled(0.0), ema.share(seen=LONG, n_images=150))
    for parameter in ema.network.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 1.0))


@pytest.mark.parametrize(("ramp", "left"), [(1.0, 1 / 2), (0.5, 1 / 4), (0.0, 0.0)])
def test_a_ramp_shortens_the_half_life_down_to_a_copy(ramp: float, left: float) -> None:
    ema = EMA(filled(8.0), halflife_images=50)
    ema.move(filled(0.0), ema.share(seen=LONG, n_images=50, ramp=ramp))
    for parameter in ema.network.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 8 * left))


@pytest.mark.parametrize("halflife", [3.0, 1e9], ids=lambda halflife: f"{halflife} images")
def test_from_the_start_it_is_the_mean_of_the_steps_weighted_by_their_age(halflife: float) -> None:
    values, n_images = [2.0, 8.0, -4.0, 6.0], 5
    ema = EMA(filled(1e6), halflife_images=halflife)
    for step, value in enumerate(values):
        ema.move(filled(value), ema.share(seen=step * n_images, n_images=n_images))
    ages = [n_images * (len(values) - 1 - step) for step in range(len(values))]
    shares = torch.tensor([0.5 ** (age / halflife) for age in ages], dtype=torch.float64)
    mean = (shares * torch.tensor(values, dtype=torch.float64)).sum() / shares.sum()
    for parameter in ema.network.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, float(mean)))


def test_buffers_are_copied_not_averaged() -> None:
    network = Conditional()
    ema = EMA(network, halflife_images=1e9)
    network(torch.randn(5, 3, dtype=torch.float64) + 3, torch.zeros(5))
    ema.move(network, ema.share(seen=LONG, n_images=1))
    for name, buffer in network.named_buffers():
        assert torch.equal(ema.network.get_buffer(name), buffer), name
    assert ema.network.norm.num_batches_tracked == 1
    assert ema.network.norm.running_mean.abs().min() > 0


def test_the_average_is_a_copy_that_training_cannot_touch() -> None:
    network = filled(1.0)
    ema = EMA(network, halflife_images=1)
    before = deepcopy(ema.state_dict())
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.add_(5)
    torch.testing.assert_close(ema.state_dict(), before)
    assert not any(parameter.requires_grad for parameter in ema.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_average_stays_in_eval_mode_and_the_network_does_not() -> None:
    parent = nn.Module()
    parent.network = Conditional()
    parent.ema = EMA(parent.network, halflife_images=1)
    assert not parent.ema.network.norm.training  # before anyone calls train()
    parent.train()
    assert parent.network.norm.training
    assert not any(module.training for module in parent.ema.modules())
    assert parent.ema.train() is parent.ema


def test_it_generates_with_the_averaged_weights() -> None:
    ema = EMA(Conditional(norm=False), halflife_images=1)
    latents, labels = torch.randn(4, 3, dtype=torch.float64), torch.arange(4)
    torch.testing.assert_close(ema(latents, labels), ema.network(latents, labels))


def test_the_average_travels_in_the_parent_s_state() -> None:
    parent = nn.Module()
    parent.ema = EMA(Conditional(), halflife_images=1)
    assert {"ema.network.linear.weight", "ema.network.norm.running_var"} <= {*parent.state_dict()}


@pytest.mark.parametrize(
    "other",
    [
        Conditional(norm=False),
        Conditional(width=4),
        nn.Sequential(*Conditional().children(), nn.BatchNorm1d(2, affine=False).double()),
    ],
    ids=["fewer parameters", "wider", "more buffers"],
)
def test_another_network_is_refused(other: nn.Module) -> None:
    ema = EMA(Conditional(), halflife_images=1)
    with pytest.raises((RuntimeError, ValueError)):
        ema.move(other, ema.share(seen=LONG, n_images=1))
