"""The prior of latents that follows the encoder, against torch's normals of any covariance."""

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from src.models.vae.prior import ClassNormals

LABELS = torch.tensor([0, 1, 1, 0, 1])


def any_prior() -> ClassNormals:
    prior = ClassNormals(2, 3)
    random = torch.Generator().manual_seed(0)
    prior.running_mean.normal_(generator=random)
    prior.running_factor.normal_(generator=random).tril_()
    prior.running_factor.diagonal(dim1=1, dim2=2).abs_()
    return prior


def covariance(prior: ClassNormals, label: int) -> Tensor:
    return prior.running_factor[label] @ prior.running_factor[label].T


def test_the_kl_is_torchs() -> None:
    torch.manual_seed(0)
    prior = any_prior()
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    each = [
        kl_divergence(
            MultivariateNormal(m, v.diag()),
            MultivariateNormal(prior.running_mean[label], covariance(prior, label)),
        )
        for m, v, label in zip(mean, log_variance.exp(), LABELS.tolist(), strict=True)
    ]
    expected = torch.stack(each).mean()
    torch.testing.assert_close(prior.kl(mean, log_variance, LABELS), expected, rtol=1e-4, atol=0)


def test_before_training_it_is_standard_normal() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    prior = ClassNormals(2, 3)
    torch.testing.assert_close(prior.kl(mean, log_variance, LABELS), expected.sum(dim=1).mean())
    assert torch.equal(prior(mean, LABELS), mean)


def test_it_maps_noise_to_latents_of_its_mean_and_covariance() -> None:
    """By zero and the unit vectors, which show an affine map as it is."""
    prior = any_prior()
    for label in (0, 1):
        labels = torch.full((4,), label)
        points = prior(torch.cat([torch.zeros(1, 3), torch.eye(3)]), labels)
        torch.testing.assert_close(points[0], prior.running_mean[label])
        ways = points[1:] - points[0]
        torch.testing.assert_close(ways.T @ ways, covariance(prior, label))


def test_it_ends_where_the_encoded_have_the_least_kl() -> None:
    """At the mean and covariance of what a class is encoded to, its spread included."""
    torch.manual_seed(0)
    prior = ClassNormals(2, 3)
    mean, log_variance = torch.randn(50, 3) @ torch.randn(3, 3) + 1, torch.randn(50, 3)
    labels = torch.ones(50, dtype=torch.long)
    for _ in range(400):
        prior.follow(mean, log_variance, labels)
    total = mean.T.cov(correction=0) + log_variance.exp().mean(dim=0).diag()
    torch.testing.assert_close(prior.running_mean[1], mean.mean(dim=0))
    torch.testing.assert_close(covariance(prior, 1), total)
    assert torch.equal(covariance(prior, 0), torch.eye(3))  # no image of that class was seen

    least = prior.kl(mean, log_variance, labels)
    for moments in (prior.running_mean, prior.running_factor):
        for direction in (0.01, -0.01):
            moments[1] += direction
            prior.running_factor.tril_()
            assert prior.kl(mean, log_variance, labels) > least
            moments[1] -= direction


def test_a_batch_leaves_the_moments_of_a_mixture() -> None:
    """What it was and what it sees, each with its share, as one distribution."""
    prior = any_prior()
    old_mean, old = prior.running_mean[0].clone(), covariance(prior, 0)
    prior.follow(torch.tensor([[5.0, 1.0, 0.0]]), torch.zeros(1, 3), torch.tensor([0]))
    mean = 0.999 * old_mean + 0.001 * torch.tensor([5.0, 1.0, 0.0])
    second = 0.999 * (old + old_mean.outer(old_mean)) + 0.001 * (
        torch.eye(3) + torch.tensor([5.0, 1.0, 0.0]).outer(torch.tensor([5.0, 1.0, 0.0]))
    )
    torch.testing.assert_close(prior.running_mean[0], mean)
    torch.testing.assert_close(covariance(prior, 0), second - mean.outer(mean))


def test_moments_far_from_zero_keep_their_spread_and_infinite_ones_do_not_raise() -> None:
    prior, labels = ClassNormals(1, 2), torch.zeros(64, dtype=torch.long)
    torch.manual_seed(0)
    for _ in range(1_000):
        prior.follow(1e4 + torch.randn(64, 2), torch.full((64, 2), -20.0), labels)
    torch.testing.assert_close(covariance(prior, 0), torch.eye(2), atol=0.3, rtol=0)
    prior.follow(torch.full((64, 2), torch.inf), torch.zeros(64, 2), labels)
