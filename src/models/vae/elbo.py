"""The evidence lower bound of a VAE with a Gaussian of the best variance, in nats."""

from math import log, pi
from typing import NamedTuple

from torch import Tensor

PIXEL_STEP = 1 / 127.5  # between neighbouring uint8 values, in [-1, 1]


class Bound(NamedTuple):
    """The two parts of minus the ELBO, each a mean over images in nats."""

    reconstruction: Tensor  # -log p(x | z)
    kl: Tensor  # of the posterior from the prior

    @property
    def total(self) -> Tensor:
        return self.reconstruction + self.kl


def gaussian_nll(mse: Tensor, variance: Tensor, n_dims: int) -> Tensor:
    """-log density of an image of ``n_dims`` values whose mean squared error is ``mse``.

    The values are normal around the decoder's, with one ``variance``. A batch's own ``mse`` is the
    variance that makes it most likely: D/2 (log(2 pi mse) + 1) (arXiv:2006.13202, eq. 5).
    """
    return n_dims / 2 * ((2 * pi * variance).log() + mse / variance)


def bits_per_dim(nats: Tensor, n_dims: int) -> Tensor:
    """A density of ``nats`` per image over [-1, 1] as bits per uint8 value, of ``n_dims``.

    A value's probability is taken for the density times the step between two values, without
    noise in between: published bits per dimension are of other models of pixels.
    """
    return (nats / n_dims - log(PIXEL_STEP)) / log(2)
