"""Muon on kernels, Adam on all other weights."""

from functools import partial

import pytest
import torch
from torch import nn

from src.models.muon import Muon, orthogonal
from src.models.schedules import set_rates

BETAS = 0.9, 0.99


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (9, 9)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    left = torch.linalg.qr(torch.randn(shape[0], 5))[0]
    right = torch.linalg.qr(torch.randn(shape[1], 5))[0]
    values = torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1])
    found = left.T @ orthogonal(left * values @ right.T) @ right
    assert found.diag().min() > 0.6
    assert found.diag().max() < 1.3
    torch.testing.assert_close(found, found.diag().diag(), atol=1e-4, rtol=0)


def pair() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4, 3))


def take(network: nn.Module, optimizer: torch.optim.Optimizer, *, times: int) -> None:
    torch.manual_seed(1)
    for _ in range(times):
        optimizer.zero_grad()
        network(torch.randn(5, 2, 3, 3)).square().mean().backward()
        optimizer.step()


def test_weights_that_are_no_kernels_take_adams_steps() -> None:
    """With kernels that stand still, the others go exactly where Adam alone takes them."""
    found, expected = pair(), pair()
    take(found, Muon(found.parameters(), lr=0.01, betas=BETAS, kernel_lr=0.0), times=3)
    rest = [weight for weight in expected.parameters() if weight.ndim != 4]
    take(expected, torch.optim.Adam(rest, lr=0.01, betas=BETAS), times=3)
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_first_step_of_a_kernel_is_its_orthogonal_gradient() -> None:
    network = pair()
    optimizer = Muon(network.parameters(), lr=0.01, betas=BETAS, kernel_lr=0.1)
    before = network[0].weight.detach().clone()
    take(network, optimizer, times=1)
    step = orthogonal(network[0].weight.grad.flatten(1)).view_as(before)
    torch.testing.assert_close(network[0].weight.detach(), before - 0.1 * step)


def test_the_second_step_of_a_kernel_looks_ahead_along_its_momentum() -> None:
    """Nesterov's: of gradients a and b, the step follows b + 0.95 (0.95 a + b)."""
    torch.manual_seed(0)
    a, b = torch.randn(2, 4, 9, 1, 1)
    kernel = torch.nn.Parameter(torch.zeros_like(a))
    optimizer = Muon([kernel], lr=0.01, betas=BETAS, kernel_lr=0.1)
    for kernel.grad in (a, b):
        before = kernel.detach().clone()
        optimizer.step()
    expected = orthogonal((b + 0.95 * (0.95 * a + b)).flatten(1)).view_as(a)
    torch.testing.assert_close((before - kernel.detach()) / 0.1, expected, atol=1e-5, rtol=0)


def test_steps_of_more_rows_than_columns_are_longer() -> None:
    """A 1 x 1 kernel of 8 rows and 2 columns moves by sqrt(8 / 2) times the orthogonal matrix."""
    torch.manual_seed(0)
    kernel = torch.nn.Parameter(torch.zeros(8, 2, 1, 1))
    kernel.grad = torch.randn(8, 2, 1, 1)
    Muon([kernel], lr=0.01, betas=BETAS, kernel_lr=0.1).step()
    expected = -0.1 * 2 * orthogonal(kernel.grad.flatten(1)).view_as(kernel)
    torch.testing.assert_close(kernel.detach(), expected)


def test_schedules_move_both_rates_alike() -> None:
    network = pair()
    optimizer = Muon(network.parameters(), lr=0.01, betas=BETAS, kernel_lr=0.1)
    set_rates(optimizer, {"lr": 0.0})
    before = [weight.detach().clone() for weight in network.parameters()]
    take(network, optimizer, times=1)
    assert all(map(torch.equal, before, network.parameters()))


def test_a_restored_optimizer_goes_on_to_the_bit() -> None:
    whole, cut = pair(), pair()
    make = partial(Muon, lr=0.01, betas=BETAS)
    optimizer = make(whole.parameters())
    take(whole, optimizer, times=2)
    first = make(cut.parameters())
    take(cut, first, times=2)
    second = make(cut.parameters())
    second.load_state_dict(first.state_dict())
    for network, each in ((whole, optimizer), (cut, second)):
        take(network, each, times=2)
    assert all(map(torch.equal, whole.parameters(), cut.parameters()))
