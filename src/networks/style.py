"""A small generator whose layers are told a style, after StyleGAN2 (arXiv:1912.04958).

As there: a mapping from latents to styles; modulated and demodulated convolutions of a learned
constant; noise of a learned strength at each layer; weights of variance 1 that are scaled where
they are used; truncation towards the mean style.

Not as there: the mean style is of each class; sides double bilinearly after a convolution; one
layer leads to the images, strided unless ``image_stride`` is 1, and none from coarser sides; a tanh
bounds them; styles are not mixed, and the length of paths is not regularized.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from src.errors import InputError
from src.networks.conditioning import Concatenation
from src.networks.layers import ImageLayer, ImageStride, ToImages, coarsest_side, leaky

MEAN_KEEPS = 0.999  # of the mean style, for each image of its class


class Equalized(nn.Linear):
    """A linear layer with weights of variance 1, scaled in use (arXiv:1710.10196, section 4.1).

    Adam then moves all of them alike; with a ``pace`` below 1, slower in what they do.
    """

    def __init__(
        self, n_inputs: int, n_outputs: int, *, bias: float = 0.0, pace: float = 1.0
    ) -> None:
        super().__init__(n_inputs, n_outputs)
        nn.init.normal_(self.weight, std=1 / pace)
        nn.init.constant_(self.bias, bias / pace)
        self.pace, self.scale = pace, pace * n_inputs**-0.5

    @override
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.scale * self.weight, self.pace * self.bias)


class Mapping(nn.Module):
    """Maps latents (N, Z), brought to one length, and class indices (N,) to styles (N, W)."""

    def __init__(
        self, *, n_classes: int, latent_dim: int, width: int, depth: int, pace: float
    ) -> None:
        super().__init__()
        self.enter = Concatenation(n_classes=n_classes, width=latent_dim)
        sizes = [2 * latent_dim, *[width] * depth]
        self.layers = nn.ModuleList(Equalized(*pair, pace=pace) for pair in pairwise(sizes))

    @override
    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        x = self.enter(F.normalize(latents) * latents.shape[1] ** 0.5, labels)
        for layer in self.layers:
            x = 2**0.5 * leaky(layer(x))
        return x


class ClassMeans(nn.Module):
    """The mean style of each class, kept up while training."""

    means: Tensor

    def __init__(self, *, n_classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(n_classes, width))

    @override
    def forward(self, labels: Tensor) -> Tensor:
        """Map class indices (N,), which a single class ignores, to mean styles (N, W)."""
        return self.one_hot(labels) @ self.means

    def one_hot(self, labels: Tensor) -> Tensor:
        n_classes = len(self.means)
        rows = torch.zeros_like(labels) if n_classes == 1 else labels
        return F.one_hot(rows, n_classes).to(self.means.dtype)

    @torch.no_grad()
    def follow(self, styles: Tensor, labels: Tensor) -> None:
        """Move each class's mean towards its styles in a batch, by a share for each of them."""
        belongs = self.one_hot(labels)  # (N, K)
        counts = belongs.sum(dim=0)[:, None]
        of_batch = belongs.T @ styles.to(self.means.dtype) / counts.clamp(min=1)
        self.means.lerp_(of_batch, 1 - MEAN_KEEPS**counts)


class Noise(nn.Module):
    """Adds to x (N, C, S, S) one standard normal number per pixel, times a learned strength.

    In training it is drawn anew. Else it is linear in the latents (N, Z), with a fixed row of
    length 1 for each pixel: images differ in their noise, and nothing is drawn.
    """

    of_latents: Tensor

    def __init__(self, *, latent_dim: int, side: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))
        rows = F.normalize(torch.randn(side**2, latent_dim))
        self.register_buffer("of_latents", rows)  # (S * S, Z)

    @override
    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        if self.training:
            noise = torch.randn_like(x[:, :1])
        else:
            noise = F.linear(latents, self.of_latents).unflatten(1, (1, *x.shape[2:]))
        return x + self.strength * noise


class Styled(nn.Module):
    """Maps x (N, C, H, W) by a 3 x 3 convolution that styles modulate to (N, F, H, W).

    Each input channel is scaled by a gain that is linear in the style, and each output channel so
    that it keeps the variance of independent inputs (demodulation). Then it ``doubles`` the side,
    to (N, F, 2H, 2W), or does not, and adds noise and a bias before a leaky ReLU.
    """

    def __init__(
        self,
        n_inputs: int,
        n_channels: int,
        *,
        style_width: int,
        latent_dim: int,
        side: int,
        doubles: bool,
    ) -> None:
        super().__init__()
        self.gains = Equalized(style_width, n_inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(n_channels, n_inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(n_channels, 1, 1))
        self.noise = Noise(latent_dim=latent_dim, side=side)
        self.resize = nn.Upsample(scale_factor=2, mode="bilinear") if doubles else nn.Identity()

    @override
    def forward(self, x: Tensor, styles: Tensor, latents: Tensor) -> Tensor:
        gains = self.gains(styles)  # (N, C)
        # The gains scale inputs and outputs instead of the weights, which all images then share.
        x = F.conv2d(x * gains[:, :, None, None], self.weight, padding=1)
        x = self.resize(x * self.demodulation(gains)[:, :, None, None])
        return 2**0.5 * leaky(self.noise(x, latents) + self.bias)

    def demodulation(self, gains: Tensor) -> Tensor:
        """One over the length of the modulated weights of each output channel, (N, F)."""
        return (F.linear(gains.square(), self.weight.square().sum(dim=(2, 3))) + 1e-8).rsqrt()


class Generator(nn.Module):
    """Maps latents (N, Z) and class indices (N,) to images (N, C, S, S) in [-1, 1].

    ``widths`` are the channels from the coarsest side up, with a layer at the first and two at each
    other; the finest side is S / ``image_stride``. The class enters beside the latents, which the
    mapping, of ``depth`` layers, turns into styles of ``style_width`` numbers. With a
    ``mapping_pace`` below 1 it learns more slowly than the rest.

    ``truncation`` is the part of the way from its class's mean style that a style is taken out of
    training: below 1, images vary less and resemble their class more. Noise is drawn in training
    alone.

    Raises:
        InputError: if ``img_size`` cannot be halved as often as ``widths`` and ``image_stride``
            need, or ``truncation`` is out of bounds.
    """

    sampling: ClassVar[tuple[str, ...]] = ("truncation",)  # options that may change after training

    def __init__(
        self,
        *,
        n_classes: int,
        latent_dim: int,
        channels: int,
        img_size: int,
        widths: Sequence[int],
        style_width: int,
        depth: int,
        mapping_pace: float,
        image_stride: ImageStride = 2,
        truncation: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= truncation <= 2:
            raise InputError(
                f"model.generator.truncation={truncation} is not allowed: type a number from 0 to 2"
            )
        start = coarsest_side(img_size, widths, image_stride=image_stride)
        self.truncation = truncation
        self.mapping = Mapping(
            n_classes=n_classes,
            latent_dim=latent_dim,
            width=style_width,
            depth=depth,
            pace=mapping_pace,
        )
        self.class_means = ClassMeans(n_classes=n_classes, width=style_width)
        self.constant = nn.Parameter(torch.randn(start, start, widths[0]))

        def styled(n_inputs: int, n_channels: int, *, side: int, doubles: bool) -> Styled:
            sizes = {"style_width": style_width, "latent_dim": latent_dim, "side": side}
            return Styled(n_inputs, n_channels, doubles=doubles, **sizes)

        self.layers = nn.ModuleList([styled(widths[0], widths[0], side=start, doubles=False)])
        for halvings, (coarse, fine) in enumerate(pairwise(widths), start=1):
            side = start * 2**halvings
            self.layers.append(styled(coarse, fine, side=side, doubles=True))
            self.layers.append(styled(fine, fine, side=side, doubles=False))
        self.image_gains = Equalized(style_width, widths[-1], bias=1.0)
        shape = ImageLayer.of(image_stride)
        self.to_images = ToImages(widths[-1], channels, *shape)
        overlap = (shape.kernel_size / shape.stride) ** 2  # kernels in each pixel
        nn.init.normal_(self.to_images.weight, std=(widths[-1] * overlap) ** -0.5)
        nn.init.zeros_(self.to_images.bias)  # type: ignore[arg-type]

    @override
    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        styles = self.styles(latents, labels)
        x = self.constant.permute(2, 0, 1).expand(latents.shape[0], -1, -1, -1)  # channels last
        for layer in self.layers:
            x = layer(x, styles, latents)
        return self.to_images(x * self.image_gains(styles)[:, :, None, None]).tanh()

    def styles(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Map latents and class indices to styles (N, W), which move the means in training."""
        styles = self.mapping(latents, labels)
        if self.training:
            self.class_means.follow(styles.detach(), labels)
            return styles
        return torch.lerp(self.class_means(labels).to(styles.dtype), styles, self.truncation)
