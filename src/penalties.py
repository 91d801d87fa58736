"""Gradient penalties on a critic's input; each returns one value per sample, (N,).

A ``paired`` penalty mixes each real image with the generated image at the same place in the
batch: the two then share their label.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from src.images import Labelled

Critic = Callable[[Tensor, Tensor], Tensor]  # images (N, C, H, W), labels (N,) -> logits (N,)


class Penalty(Protocol):
    @property
    def paired(self) -> bool: ...
    def __call__(self, critic: Critic, *, real: Labelled, fake: Labelled) -> Tensor: ...


def input_gradients(critic: Critic, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of each image's own logit with respect to that image, flattened to (N, C*H*W)."""
    images = images.detach().requires_grad_()
    # Summing is exact only while no logit depends on another image: no batch norm in the critic.
    (gradients,) = torch.autograd.grad(critic(images, labels).sum(), images, create_graph=True)
    return gradients.flatten(1)


@dataclass(frozen=True)
class ZeroCentered:
    """R1 (real) or R2 (fake images): weight / 2 * ||grad D||^2 (arXiv:1801.04406, eqs. 9, 10)."""

    weight: float
    at: Literal["real", "fake"]
    paired: ClassVar[bool] = False

    def __call__(self, critic: Critic, *, real: Labelled, fake: Labelled) -> Tensor:
        images, labels = real if self.at == "real" else fake
        return self.weight / 2 * input_gradients(critic, images, labels).square().sum(dim=1)


@dataclass(frozen=True)
class Interpolated:
    """WGAN-GP: weight * (||grad D(x)|| - 1)^2 on real-fake segments (arXiv:1704.00028, eq. 3)."""

    weight: float = 10.0
    paired: ClassVar[bool] = True

    def __call__(self, critic: Critic, *, real: Labelled, fake: Labelled) -> Tensor:
        share = torch.rand(len(real.images), 1, 1, 1, device=real.images.device)
        images = torch.lerp(fake.images, real.images, share.to(real.images.dtype))
        norms = input_gradients(critic, images, real.labels).norm(dim=1)
        return self.weight * (norms - 1).square()
