"""The ELBO and its parts, against torch and against probabilistic PCA."""

from math import log, pi

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from src.models.vae.elbo import bits_per_dim, gaussian_nll
from src.models.vae.model import Autoencoder, Decoder
from src.models.vae.prior import ClassNormals


def test_the_nll_is_torchs_and_lowest_where_the_variance_is_the_squared_error() -> None:
    torch.manual_seed(0)
    images, means = torch.randn(6, 1, 4, 4), torch.randn(6, 1, 4, 4)
    mse = (images - means).square().mean()
    for scale in (0.8, 1.0, 1.2):
        std = (scale * mse).sqrt()
        expected = -Normal(means, std).log_prob(images).sum(dim=(1, 2, 3)).mean()
        torch.testing.assert_close(gaussian_nll(mse, scale * mse, 16), expected)
        assert scale == 1 or expected > gaussian_nll(mse, mse, 16)


def test_its_gradient_is_that_of_the_squared_error_over_twice_the_variance() -> None:
    """d/dm of D/2 log(mse) is D / (2 mse) d mse/dm: no weight to choose."""
    mse = torch.tensor(0.3, requires_grad=True)
    (found,) = torch.autograd.grad(gaussian_nll(mse, mse, 16), mse)
    torch.testing.assert_close(found, torch.tensor(16 / (2 * 0.3)))


def test_after_training_the_bound_of_images_is_the_mean_of_their_own() -> None:
    """A variance of the batch's own would make every small batch look better than it is."""
    torch.manual_seed(0)
    network = linear_autoencoder(8, 2)
    images, labels = torch.randn(6, 1, 1, 8), torch.zeros(6, dtype=torch.long)
    network(images, labels)
    network.eval()

    network.encoder.log_variance.data.fill_(-30.0)  # no noise, which would differ between batches

    def nll(*rows: int) -> Tensor:
        return network(images[list(rows)], labels[list(rows)])[1].reconstruction

    torch.testing.assert_close(nll(*range(6)), torch.stack([nll(i) for i in range(6)]).mean())


def test_bits_per_dimension_of_uniform_values_are_eight() -> None:
    """A density of 1/2 over [-1, 1] in each of D values; 256 steps of 2/255 are a little wider."""
    found = bits_per_dim(torch.tensor(12 * log(2.0)), 12)
    assert float(found) == pytest.approx(log(255) / log(2))


class LinearEncoder(nn.Module):
    """An encoder whose variances are the same for all images, as those of pPCA are."""

    def __init__(self, n_dims: int, n_latents: int) -> None:
        super().__init__()
        self.mean = nn.Linear(n_dims, n_latents)
        self.log_variance = nn.Parameter(torch.zeros(n_latents))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        mean = self.mean(images.flatten(1))
        return torch.cat([mean, self.log_variance.expand_as(mean)], dim=1)


class LinearGenerator(nn.Module):
    def __init__(self, n_dims: int, n_latents: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_latents, n_dims)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return self.linear(latents).view(len(latents), 1, 1, -1)


def linear_autoencoder(n_dims: int, n_latents: int) -> Autoencoder:
    decoder = Decoder(ClassNormals(1, n_latents), LinearGenerator(n_dims, n_latents))
    return Autoencoder(LinearEncoder(n_dims, n_latents), decoder)


@pytest.mark.slow
def test_linear_networks_reach_the_likelihood_of_probabilistic_pca() -> None:
    """The best ELBO of a linear VAE is pPCA's maximal log-likelihood (arXiv:1911.02469)."""
    torch.manual_seed(0)
    n_dims, n_latents = 8, 2
    spread = torch.tensor([3.0, 2.0, *[0.3] * (n_dims - 2)])
    data = (torch.randn(1_000, n_dims) * spread) @ torch.linalg.qr(torch.randn(n_dims, n_dims))[0]
    data -= data.mean(dim=0)
    images, labels = data.view(-1, 1, 1, n_dims), torch.zeros(len(data), dtype=torch.long)

    values = torch.linalg.eigvalsh(data.T @ data / len(data)).flip(0).double()
    noise = values[n_latents:].mean()
    log_det = values[:n_latents].log().sum() + (n_dims - n_latents) * noise.log()
    expected = (n_dims * log(2 * pi) + log_det + n_dims) / 2  # Tipping and Bishop 1999, eq. 8

    network = linear_autoencoder(n_dims, n_latents)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    bounds = []
    for step in range(1_000):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 1_000)
        _, bound = network(images, labels)
        optimizer.zero_grad()
        bound.total.backward()
        optimizer.step()
        bounds.append(bound.total.detach())
    assert float(torch.stack(bounds[-50:]).mean()) == pytest.approx(float(expected), abs=0.02)
