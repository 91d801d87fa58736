"""Muon: momentum whose matrices are made orthogonal, for convolutions; Adam for all else."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from typing_extensions import override

NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315  # a x + b x^3 + c x^5, steep at 0
SHARPENINGS = 5


class Muon(Adam):
    """Muon (K. Jordan, 2024: kellerjordan.github.io/posts/muon) on kernels, Adam on the rest.

    A kernel is a matrix of as many rows as its first side. Its step is ``kernel_lr`` times the
    nearest orthogonal matrix to its Nesterov momentum, times sqrt(rows / columns) where that is
    above 1. Other weights take Adam's steps of ``lr``; schedules of the rate move both alike.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        kernel_lr: float = 0.02,
        momentum: float = 0.95,
    ) -> None:
        weights = list(weights)
        self.kernels = [weight for weight in weights if weight.ndim == 4]
        self.share, self.momentum = kernel_lr / lr if lr else 0.0, momentum
        super().__init__(weights, lr=lr, betas=betas)

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = [kernel.grad for kernel in self.kernels]
        for kernel in self.kernels:
            kernel.grad = None  # which Adam leaves alone
        super().step()
        lr = self.param_groups[0]["lr"] * self.share
        for kernel, gradient in zip(self.kernels, gradients, strict=True):
            if gradient is None:
                continue
            kernel.grad = gradient
            state = self.state[kernel]
            if not state:  # "step" because Adam looks for it in all states
                state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(kernel)}
            state["step"] += 1
            momentum = state["momentum"]
            momentum.mul_(self.momentum).add_(gradient)
            step = orthogonal((gradient + self.momentum * momentum).flatten(1))
            kernel.sub_(lr * max(1.0, len(step) / step.shape[1]) ** 0.5 * step.view_as(kernel))
        return loss


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix (F, D) with the singular vectors of ``matrix`` and singular values near 1.

    Newton-Schulz iterations bring those that are not tiny to between about 0.7 and 1.2.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(SHARPENINGS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if len(matrix) > matrix.shape[1] else x
