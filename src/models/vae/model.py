"""Conditional variational autoencoder, whose decoder is any of the generators."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.images import Labelled, to_uint8
from src.models.generative import Losses, MakeOptimizer
from src.models.one_objective import OneObjective
from src.models.schedules import Rates
from src.models.vae.elbo import Bound, bits_per_dim, gaussian_nll
from src.models.vae.prior import ClassNormals
from src.networks.facts import evaluating

MEMORY = 0.99  # of the running variance, from batch to batch


class Decoder(nn.Module):
    """Maps standard normal noise (N, Z) and class indices (N,) to images: a prior, a generator."""

    def __init__(self, prior: ClassNormals, generator: nn.Module) -> None:
        super().__init__()
        self.prior, self.generator = prior, generator

    @override
    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        return self.generator(self.prior(noise, labels), labels)


class Autoencoder(nn.Module):
    """An encoder of images into normal latents, and the decoder of latents and of noise.

    Pixels have one variance around the decoded ones: the batch's best in training, and afterwards
    the running average of those, so that a bound does not depend on its batch.
    """

    running_variance: Tensor

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.register_buffer("running_variance", torch.ones(()))

    @override
    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Bound]:
        """Return reconstructions (N, C, H, W) of images by random latents, and the ELBO's parts."""
        mean, log_variance = self.encoder(images, labels).chunk(2, dim=1)
        latents = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        decoded = self.decoder.generator(latents, labels)
        mse = (images - decoded.float()).square().mean()
        with torch.autocast(images.device.type, enabled=False):  # moments need float32
            posterior = mean.float(), log_variance.float(), labels
            if self.training:
                self.decoder.prior.follow(*posterior)
                self.running_variance.lerp_(mse.detach(), 1 - MEMORY)
            variance = mse if self.training else self.running_variance
            reconstruction = gaussian_nll(mse, variance, images[0].numel())
            return decoded, Bound(reconstruction, self.decoder.prior.kl(*posterior))


class VAE(OneObjective):
    """Conditional sigma-VAE (arXiv:1312.6114, 2006.13202): normal pixels of the best variance.

    The encoder maps images (N, C, H, W) and class indices (N,) to means and logarithms of
    variances of latents, (N, 2 Z); the generator maps latents (N, Z) and class indices to the
    pixels' means. Those means are what it generates: the ELBO describes images with noise on them.
    """

    loss_names: ClassVar[Mapping[str, str]] = MappingProxyType({
        "neg_elbo": "-ELBO, nats per image",
        "reconstruction": "reconstruction, nats per image",
        "kl": "KL, nats per image",
        "bits_per_dim": "-ELBO, bits per dimension",
    })  # fmt: skip
    network: Autoencoder

    def __init__(
        self,
        *,
        encoder: nn.Module,
        generator: nn.Module,
        optimizer: MakeOptimizer,
        n_classes: int,
        latent_dim: int,
        ema_halflife_images: float,
        schedules: Rates | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            Autoencoder(encoder, Decoder(ClassNormals(n_classes, latent_dim), generator)),
            optimizer=optimizer,
            ema_halflife_images=ema_halflife_images,
            n_classes=n_classes,
            noise_shape=(latent_dim,),
            schedules=schedules,  # type: ignore[arg-type]
            seed=seed,
        )

    @override
    def objective(self, network: nn.Module, real: Labelled) -> tuple[Tensor, Losses]:
        _, bound = network(*real)
        return bound.total, {
            "neg_elbo": bound.total,
            "reconstruction": bound.reconstruction,
            "kl": bound.kl,
            "bits_per_dim": bits_per_dim(bound.total, real.images[0].numel()),
        }

    @property
    @override
    def sampler(self) -> nn.Module:
        """The averaged prior and generator, which decode noise."""
        return self.averaged.decoder

    @property
    def averaged(self) -> Autoencoder:
        return self.average.network  # type: ignore[return-value]

    @override
    def reconstruct(self, real: Labelled) -> Tensor:
        """Decode the mean latents of images in [-1, 1], to uint8 images of the same shape."""
        images, labels = (part.to(self.device) for part in real)
        with evaluating(self.averaged):
            means = self.averaged.encoder(images, labels).chunk(2, dim=1)[0]
            return to_uint8(self.averaged.decoder.generator(means, labels)).cpu()
