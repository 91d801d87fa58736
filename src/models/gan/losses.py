"""Adversarial losses: the discriminator's logits to one value per sample; the model takes the mean.

A ``paired`` loss compares each generated image with the real image at the same place in the
batch: the two then share their label. The other losses must not read ``logits.real`` in the
generator's step, where it is not computed.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch.nn.functional as F
from torch import Tensor


class Logits(NamedTuple):
    """Discriminator outputs for one batch, each of shape (N,)."""

    real: Tensor
    fake: Tensor


class AdversarialLoss(Protocol):
    """Both methods map logits (N,) to per-sample losses (N,) that the players minimize."""

    paired: ClassVar[bool]

    def discriminator(self, logits: Logits) -> Tensor: ...
    def generator(self, logits: Logits) -> Tensor: ...


@dataclass(frozen=True)
class LeastSquares:
    """Least squares with targets 1 and 0 (LSGAN, arXiv:1611.04076, eq. 9).

    As conditional MNIST GANs have always had it, only the discriminator's loss is halved.
    """

    paired: ClassVar[bool] = False

    def discriminator(self, logits: Logits) -> Tensor:
        return ((logits.real - 1).square() + logits.fake.square()) / 2

    def generator(self, logits: Logits) -> Tensor:
        return (logits.fake - 1).square()


@dataclass(frozen=True)
class NonSaturating:
    """Cross-entropy; the generator maximizes log D(fake) (arXiv:1406.2661, section 3)."""

    paired: ClassVar[bool] = False

    def discriminator(self, logits: Logits) -> Tensor:
        return F.softplus(-logits.real) + F.softplus(logits.fake)

    def generator(self, logits: Logits) -> Tensor:
        return F.softplus(-logits.fake)


@dataclass(frozen=True)
class Hinge:
    """Hinge loss (SNGAN, arXiv:1802.05957, eqs. 16-17)."""

    paired: ClassVar[bool] = False

    def discriminator(self, logits: Logits) -> Tensor:
        return F.relu(1 - logits.real) + F.relu(1 + logits.fake)

    def generator(self, logits: Logits) -> Tensor:
        return -logits.fake


@dataclass(frozen=True)
class Wasserstein:
    """Difference of means (WGAN, arXiv:1701.07875, eq. 3); needs a penalty to stay Lipschitz."""

    paired: ClassVar[bool] = False

    def discriminator(self, logits: Logits) -> Tensor:
        return logits.fake - logits.real

    def generator(self, logits: Logits) -> Tensor:
        return -logits.fake


@dataclass(frozen=True)
class Relativistic:
    """Relativistic pairing (arXiv:1807.00734, section 4; RpGAN of R3GAN, arXiv:2501.05441)."""

    paired: ClassVar[bool] = True

    def discriminator(self, logits: Logits) -> Tensor:
        return F.softplus(logits.fake - logits.real)

    def generator(self, logits: Logits) -> Tensor:
        return F.softplus(logits.real - logits.fake)
