"""Gradient penalties on a critic's input; each returns one value per sample, (N,).

A ``paired`` penalty mixes each real image with the generated image at the same place in the
batch: the two then share their label. ``reads`` says what a penalty takes from the loss's forward
pass: nothing but its images, the logits, or slopes through them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.parametrize import ParametrizationList

from src.errors import InputError
from src.models.gan.scores import Scored

Critic = Callable[[Tensor, Tensor], Tensor]  # images (N, C, H, W), labels (N,) -> logits (N,)
Reads = Literal["images", "logits", "slopes"]


class Penalty(Protocol):
    @property
    def paired(self) -> bool: ...
    @property
    def reads(self) -> Reads: ...
    def __call__(self, critic: Critic, *, real: Scored, fake: Scored) -> Tensor: ...


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
    reads: ClassVar[Reads] = "images"

    def __call__(self, critic: Critic, *, real: Scored, fake: Scored) -> Tensor:
        scored = real if self.at == "real" else fake
        slopes = input_gradients(critic, *scored.batch)
        return self.weight / 2 * slopes.square().sum(dim=1)


@dataclass(frozen=True)
class ZeroCenteredPair:
    """R1 + R2 of one weight from the loss's own logits: no forward pass, one backward pass."""

    weight: float
    paired: ClassVar[bool] = False
    reads: ClassVar[Reads] = "slopes"

    def __call__(self, critic: Critic, *, real: Scored, fake: Scored) -> Tensor:
        logits, images = (
            torch.cat([real.logits, fake.logits]),
            [real.batch.images, fake.batch.images],
        )
        # Exact only while no logit depends on another image, as in ``input_gradients``.
        slopes = torch.autograd.grad(logits.sum(), images, create_graph=True)
        at_real, at_fake = (slope.flatten(1).square().sum(dim=1) for slope in slopes)
        return self.weight / 2 * (at_real + at_fake)


@dataclass(frozen=True)
class FiniteDifference:
    """R1 or R2 without double backward: weight / (2 sigma^2) * (D(x + sigma eps) - D(x))^2.

    To first order in sigma, the mean over eps ~ N(0, I) is ``ZeroCentered``'s (Seaweed-APT,
    arXiv:2501.08316). The critic must give an image one logit however often it is asked, as
    ``require_repeatable`` checks.
    """

    weight: float
    at: Literal["real", "fake"]
    sigma: float = 0.05
    paired: ClassVar[bool] = False
    reads: ClassVar[Reads] = "logits"

    def __post_init__(self) -> None:
        if self.sigma <= 0:
            raise InputError(f"sigma={self.sigma} is not allowed: type a number above 0")

    def __call__(self, critic: Critic, *, real: Scored, fake: Scored) -> Tensor:
        scored = real if self.at == "real" else fake
        images, labels = scored.batch.images.detach(), scored.batch.labels
        nearby = critic(images + self.sigma * torch.randn_like(images), labels)
        return self.weight / (2 * self.sigma**2) * (nearby - scored.logits).square()


def require_repeatable(critic: nn.Module, penalties: Iterable[Penalty]) -> None:
    """Refuse penalties that read logits of a critic that may give an image two different ones.

    Raises:
        InputError: naming a layer that makes it do so.
    """
    found = [type(part).__name__ for part in critic.modules() if answers_anew(part)]
    if found and any(penalty.reads == "logits" for penalty in penalties):
        raise InputError(
            f"finite differences need a discriminator that gives an image the same logit twice, "
            f"and {found[-1]} in it does not: type model/penalties=[r1,r2]"
        )


def answers_anew(part: nn.Module) -> bool:
    """Whether a layer may answer the same input differently the next time, while it trains."""
    if isinstance(part, _DropoutNd):
        return part.p > 0
    # A parametrization may be spectral norm, whose power iteration moves on.
    return isinstance(part, (_BatchNorm, ParametrizationList))


@dataclass(frozen=True)
class Interpolated:
    """WGAN-GP: weight * (||grad D(x)|| - 1)^2 on real-fake segments (arXiv:1704.00028, eq. 3)."""

    weight: float = 10.0
    paired: ClassVar[bool] = True
    reads: ClassVar[Reads] = "images"

    def __call__(self, critic: Critic, *, real: Scored, fake: Scored) -> Tensor:
        (real_images, labels), fake_images = real.batch, fake.batch.images
        fraction = torch.rand(len(labels), 1, 1, 1, device=real_images.device)
        images = torch.lerp(fake_images, real_images, fraction.to(real_images.dtype))
        norms = input_gradients(critic, images, labels).norm(dim=1)
        return self.weight * (norms - 1).square()
