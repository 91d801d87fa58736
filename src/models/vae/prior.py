"""Normal distributions of latents, one for each class."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

MEMORY = 0.999  # of a class, from image to image


class ClassNormals(nn.Module):
    """The prior of a conditional VAE: a normal distribution of latents for each of K classes.

    Its means and covariances are running ones of the latents that a class is encoded to. Of all
    normal distributions that one makes the ELBO highest.
    """

    running_mean: Tensor
    running_factor: Tensor

    def __init__(self, n_classes: int, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(n_classes, latent_dim))
        factor = torch.eye(latent_dim).expand(n_classes, -1, -1).clone()
        self.register_buffer("running_factor", factor)  # lower triangular L: covariances are L L^T

    @override
    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Map standard normal noise (N, Z) and class indices (N,) to latents (N, Z)."""
        turned = self.running_factor[labels] @ noise[:, :, None]
        return self.running_mean[labels] + turned[:, :, 0]

    @torch.no_grad()
    def follow(self, mean: Tensor, log_variance: Tensor, labels: Tensor) -> None:
        """Mix latents N(mean, exp(log_variance)), both (N, Z), into the running moments."""
        mean, log_variance = mean.double(), log_variance.double()  # for small spreads far from 0
        is_of = F.one_hot(labels, len(self.running_mean)).T.double()  # (K, N)
        counts = is_of.sum(dim=1)
        share = (1 - MEMORY**counts)[:, None, None]
        weights = is_of / counts.clamp_min(1)[:, None]
        means = weights @ mean
        second = torch.diag_embed(log_variance.exp()) + outer(mean)
        within = torch.einsum("kn,nij->kij", weights, second) - outer(means)
        old_mean, old_factor = self.running_mean.double(), self.running_factor.double()
        old = old_factor @ old_factor.mT
        apart = share * (1 - share) * outer(means - old_mean)
        mixed = torch.lerp(old, within, share) + apart
        factor, _ = torch.linalg.cholesky_ex(mixed)  # of numbers that are not finite, none
        self.running_factor.copy_(factor)
        self.running_mean.copy_(torch.lerp(old_mean, means, share[:, :, 0]))

    def kl(self, mean: Tensor, log_variance: Tensor, labels: Tensor) -> Tensor:
        """KL(N(mean, exp(log_variance)) || prior of the class), of latents (N, Z), averaged over N.

        That of any two normals, in the noise that ``forward`` would map to the latents.
        """
        identity = torch.eye(mean.shape[1], device=mean.device)
        whitening = torch.linalg.solve_triangular(self.running_factor, identity, upper=False)
        away = whitening[labels] @ (mean - self.running_mean[labels])[:, :, None]
        spread = whitening.square()[labels] @ log_variance.exp()[:, :, None]
        log_prior = 2 * self.running_factor.diagonal(dim1=1, dim2=2).log()[labels]
        nats = away.square()[:, :, 0] + spread[:, :, 0] - 1 + log_prior - log_variance
        return nats.sum(dim=1).mean() / 2


def outer(x: Tensor) -> Tensor:
    """The products x x^T of vectors (N, Z), as (N, Z, Z)."""
    return x[:, :, None] * x[:, None, :]
