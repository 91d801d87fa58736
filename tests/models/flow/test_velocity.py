"""The untrained flow is the exact flow of independent normal pixels."""

import pytest
import torch
from torch import Tensor

from src.models.flow.ode import Guidance, Ode
from src.models.flow.solvers import AdamsBashforth, Euler, Heun
from src.models.flow.velocity import Velocity
from src.networks.unet import UNet

MEAN, STD = -0.7, 0.6


def untrained() -> Velocity:
    network = UNet(n_classes=3, channels=1, img_size=8, widths=[8, 8], blocks=[1, 1])
    velocity = Velocity(network, channels=1)
    velocity.mean.fill_(MEAN), velocity.std.fill_(STD)
    return velocity


def sampler(n_steps: int, solver: object) -> Ode:
    options = {"n_steps": n_steps, "shift": 1.0, "guidance": Guidance(1.0, 0.0, 1.0)}
    return Ode(untrained(), solver=solver, any_class=3, **options)


@torch.no_grad()
def error(n_steps: int, solver: object) -> float:
    """Largest distance from mean + std * noise, where the exact flow ends."""
    noise = torch.linspace(-2, 2, 64).view(1, 1, 8, 8)
    images = sampler(n_steps, solver)(noise, torch.tensor([1]))
    return float((images - (MEAN + STD * noise)).abs().max())


def test_an_untrained_flow_ends_in_the_normal_distribution_of_the_data() -> None:
    assert error(200, AdamsBashforth()) < 1e-3


@pytest.mark.parametrize(("solver", "order"), [(Euler(), 1), (Heun(), 2), (AdamsBashforth(), 2)])
def test_the_error_falls_with_the_order_of_the_solver(solver: object, order: int) -> None:
    assert error(40, solver) / error(80, solver) == pytest.approx(2**order, rel=0.15)


def test_the_gaussian_velocity_is_the_least_squares_prediction_of_noise_minus_data() -> None:
    """Regress noise - data on the points of simulated ways: slope and intercept are the flow's."""
    torch.manual_seed(0)
    data = MEAN + STD * torch.randn(200_000, dtype=torch.float64)
    noise = torch.randn_like(data)
    velocity = untrained()
    for t in (0.1, 0.5, 0.9):
        points, target = (1 - t) * data + t * noise, noise - data
        slope = torch.cov(torch.stack([points, target]))[0, 1] / points.var()
        intercept = target.mean() - slope * points.mean()
        ends = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
        found = velocity(ends, torch.full((2,), t), torch.tensor([0, 1]))[:, 0, 0, 0]
        expected = (intercept + slope * torch.tensor([-1.0, 1.0])).float()
        torch.testing.assert_close(found.detach(), expected, atol=0.02, rtol=0)


@torch.no_grad()
def test_the_networks_target_has_a_variance_of_one() -> None:
    """What the network has to add, in its own scale, is standard normal for normal pixels."""
    torch.manual_seed(0)
    data, velocity = MEAN + STD * torch.randn(2_000, 1, 8, 8), untrained()
    noise = torch.randn_like(data)
    for t in (0.05, 0.4, 0.95):
        points = (1 - t) * data + t * noise
        times = torch.full((2_000,), t)
        missing = noise - data - velocity(points, times, torch.zeros(2_000, dtype=torch.long))
        scale = STD / ((1 - t) ** 2 * STD**2 + t**2) ** 0.5
        assert float((missing / scale).std()) == pytest.approx(1, abs=0.01)


def test_measured_pixels_are_those_of_each_channel() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (50, 2, 4, 4), generator=draw).to(torch.uint8)
    images[:, 1] //= 4
    velocity = Velocity(torch.nn.Identity(), channels=2)
    velocity.measure(images)
    values = images.double() / 127.5 - 1
    for channel in range(2):
        pixels = values[:, channel]
        assert float(velocity.mean[channel]) == pytest.approx(float(pixels.mean()), abs=1e-6)
        assert float(velocity.std[channel]) == pytest.approx(
            float(pixels.std(correction=0)), abs=1e-6
        )


@torch.no_grad()
def test_a_channel_of_one_value_flows_to_that_value() -> None:
    velocity = untrained()
    velocity.measure(torch.full((4, 1, 8, 8), 51, dtype=torch.uint8))
    for solver in (Euler(), Heun(), AdamsBashforth()):
        options = {"n_steps": 50, "shift": 1.0, "guidance": Guidance(1.0, 0.0, 1.0)}
        ode = Ode(velocity, solver=solver, any_class=3, **options)
        images = ode(torch.linspace(-2, 2, 64).view(1, 1, 8, 8), torch.tensor([1]))
        assert float((images + 0.6).abs().max()) < 0.05


class Field(torch.nn.Module):
    """A velocity of its own for each class: the class's number, and 10 for any."""

    def forward(self, x: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        values = torch.tensor([1.0, 2.0, 10.0])[labels]
        return values.view(-1, 1, 1, 1).expand_as(x)


@pytest.mark.parametrize(
    ("guidance", "moved"),
    [
        (Guidance(1, 0, 1), [1, 2]),
        (Guidance(0, 0, 1), [10, 10]),
        (Guidance(3, 0, 1), [10 + 3 * -9, 10 + 3 * -8]),
        # Two of four steps start at a time of the interval.
        (Guidance(3, 0.4, 0.8), [(1 + 10 + 3 * -9) / 2, (2 + 10 + 3 * -8) / 2]),
    ],
)
def test_guidance_moves_away_from_any_class(guidance: Guidance, moved: list[float]) -> None:
    ode = Ode(Field(), solver=Euler(), n_steps=4, shift=1.0, guidance=guidance, any_class=2)
    images = ode(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))
    assert images[:, 0, 0, 0].tolist() == pytest.approx([-distance for distance in moved])


@pytest.mark.parametrize(
    ("solver", "guidance", "n"),
    [
        (AdamsBashforth(), Guidance(1, 0, 1), 4),
        (Heun(), Guidance(1, 0, 1), 8),
        (AdamsBashforth(), Guidance(2, 0.4, 0.8), 6),  # of 1, 0.75, 0.5, 0.25 two are inside
    ],
)
def test_network_evaluations_are_counted(solver: object, guidance: Guidance, n: int) -> None:
    calls = []

    class Counting(torch.nn.Module):
        def forward(self, x: Tensor, times: Tensor, labels: Tensor) -> Tensor:
            calls.append(times)
            return x

    ode = Ode(Counting(), solver=solver, n_steps=4, shift=1.0, guidance=guidance, any_class=2)
    ode(torch.zeros(1, 1, 2, 2), torch.tensor([0]))
    assert len(calls) == ode.n_evaluations() == n
