"""A small convolutional pair after DCGAN (arXiv:1511.06434): strides of 2, as many as widths."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from typing_extensions import override

from src.errors import InputError
from src.networks.conditioning import (
    Concatenation,
    ConditionalBatchNorm,
    LabelMap,
    Logit,
    Modulation,
    Projection,
    Unconditional,
)
from src.networks.layers import FromImages, MinibatchStd, ToImages, coarsest_side, leaky


class Generator(nn.Module):
    """Maps latents (N, Z) and class indices (N,) to images (N, C, S, S) in [-1, 1].

    ``widths`` are the channels from the coarsest side to S/2, as in the discriminator: at S/4 and
    S/2 where they are two. The class enters by ``conditioning``: an embedding beside the latents
    (``concat``), or gains and biases by class in place of those for all (``conditional_norm``).
    With ``norm="none"`` the gains and biases stay and the normalization before them is left out.
    ``hidden`` nonlinear features of the latents join them: with 0, the coarsest map is linear in
    the latents.

    Raises:
        InputError: if ``img_size`` cannot be halved as often as there are ``widths``.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        latent_dim: int,
        channels: int,
        img_size: int,
        widths: Sequence[int],
        hidden: int,
        conditioning: Literal["concat", "conditional_norm"] = "conditional_norm",
        norm: Literal["batch", "none"] = "batch",
    ) -> None:
        super().__init__()
        self.start = coarsest_side(img_size, widths)
        self.enter: nn.Module
        if conditioning == "concat":
            self.enter = Concatenation(n_classes=n_classes, width=n_classes)
            n_inputs, norm_classes = latent_dim + n_classes, 1
        else:
            self.enter = Unconditional()
            n_inputs, norm_classes = latent_dim, n_classes
        make_norm = ConditionalBatchNorm if norm == "batch" else Modulation
        self.hidden = (
            NormalizedHidden(n_inputs, hidden, make_norm=make_norm, n_classes=norm_classes)
            if hidden
            else Unconditional()
        )
        self.project = nn.Linear(n_inputs + hidden, widths[0] * self.start**2, bias=False)
        self.first_norm = make_norm(widths[0], n_classes=norm_classes)
        self.ups = nn.ModuleList(
            Doubling(*pair, make_norm=make_norm, n_classes=norm_classes)
            for pair in pairwise(widths)
        )
        self.to_images = ToImages(widths[-1], channels, kernel_size=4, stride=2, padding=1)

    @override
    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        x = self.project(self.hidden(self.enter(latents, labels), labels))
        x = x.unflatten(1, (self.start, self.start, -1)).permute(0, 3, 1, 2)
        x = F.relu(self.first_norm(x, labels))  # (N, widths[0], start, start)
        for up in self.ups:
            x = up(x, labels)
        return self.to_images(x).tanh()  # (N, C, S, S)


class NormalizedHidden(nn.Module):
    """Maps vectors x (N, F) to [x, relu(norm(linear(x)))] (N, F + H)."""

    def __init__(
        self, n_inputs: int, n_hidden: int, *, make_norm: type[Modulation], n_classes: int
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(n_inputs, n_hidden, bias=False)
        self.norm = make_norm(n_hidden, n_classes=n_classes)

    @override
    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        features = self.norm(self.linear(x)[:, :, None, None], labels).flatten(1)
        return torch.cat([x, F.relu(features)], dim=1)


class Doubling(nn.Module):
    """Maps x (N, C, H, W) and class indices (N,) to relu(norm(convolution(x))), (N, F, 2H, 2W)."""

    def __init__(
        self, n_inputs: int, n_channels: int, *, make_norm: type[Modulation], n_classes: int
    ) -> None:
        super().__init__()
        self.convolve = nn.ConvTranspose2d(
            n_inputs, n_channels, kernel_size=4, stride=2, padding=1, bias=False
        )
        self.norm = make_norm(n_channels, n_classes=n_classes)

    @override
    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return F.relu(self.norm(self.convolve(x), labels))


class Discriminator(nn.Module):
    """Maps images (N, C, S, S) in [-1, 1] and class indices (N,) to logits (N,).

    ``widths`` are the channels from the coarsest side to S/2, one for each stride of 2; the last
    decides what a step costs. The class enters by ``head``: as a map beside the image
    (``concat``), by projection, or, for ``auxiliary``, not at all: a classifier beside the head
    tells it (AC-GAN, arXiv:1610.09585). Two convolutions see 8 x 8 pixels, three 16 x 16;
    ``hidden`` features of the whole image join theirs: with 0, a logit is a sum over such patches.

    Raises:
        InputError: if ``img_size`` cannot be halved as often as there are ``widths``, or
            ``auxiliary`` has one class only.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        channels: int,
        img_size: int,
        widths: Sequence[int],
        hidden: int,
        head: Literal["projection", "concat", "auxiliary"] = "projection",
        spectral_norm: bool = False,
        minibatch_std: bool = False,
    ) -> None:
        super().__init__()
        if head == "auxiliary" and n_classes == 1:
            raise InputError(
                "model.discriminator.head=auxiliary tells classes apart, and there is only one: "
                "type model.discriminator.head=projection"
            )
        n_positions = coarsest_side(img_size, widths) ** 2
        self.enter: nn.Module
        if head == "concat":
            self.enter, n_inputs = LabelMap(n_classes=n_classes, img_size=img_size), channels + 1
        else:
            self.enter, n_inputs = Unconditional(), channels
        self.from_images = FromImages(n_inputs, widths[-1], kernel_size=4, stride=2, padding=1)
        self.downs = strides(widths)
        self.compare: nn.Module
        if minibatch_std:
            self.compare, n_channels = MinibatchStd(), widths[0] + 1
        else:
            self.compare, n_channels = nn.Identity(), widths[0]
        n_features = n_channels * n_positions
        self.hidden = Hidden(n_features, hidden) if hidden else nn.Identity()
        n_features += hidden
        projects = head == "projection"
        self.head = Projection(n_features, n_classes=n_classes) if projects else Logit(n_features)
        self.classifier = nn.Linear(n_features, n_classes) if head == "auxiliary" else None
        if spectral_norm:
            normalize_spectrally(self)

    @override
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.head(self.features(images, labels), labels)

    def features(self, images: Tensor, labels: Tensor) -> Tensor:
        """Map images (N, C, S, S) and class indices (N,) to what the head reads, (N, F)."""
        x = leaky(self.from_images(self.enter(images, labels)))  # (N, widths[-1], S/2, S/2)
        for down in self.downs:
            x = leaky(down(x))
        return self.hidden(self.compare(x).flatten(1))

    def classify(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (N,) and, by projection or by classifier, logits (N, K) of the classes.

        Raises:
            InputError: with ``head="concat"``, which has no logits of classes.
        """
        features = self.features(images, labels)
        if isinstance(self.head, Projection):
            return self.head.classify(features, labels)
        if self.classifier is None:
            raise InputError(
                "model.discriminator.head=concat has no logits of classes: type "
                "model.discriminator.head=projection or auxiliary, or model/terms=none"
            )
        return self.head(features, labels), self.classifier(features)


def strides(widths: Sequence[int]) -> nn.ModuleList:
    """Convolutions from the channels of the finest side to those of the coarsest, halving each."""
    return nn.ModuleList(
        nn.Conv2d(*pair, kernel_size=3, stride=2, padding=1) for pair in pairwise(reversed(widths))
    )


class Hidden(nn.Linear):
    """Maps features x (N, F) to [x, leaky(linear(x))] (N, F + H)."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, leaky(super().forward(x))], dim=1)


def normalize_spectrally(network: nn.Module) -> None:
    """Divide every weight matrix by its largest singular value (arXiv:1802.05957, eq. 8)."""
    for part in [*network.modules()]:
        if isinstance(part, nn.Conv2d | nn.Linear | nn.Embedding):
            parametrizations.spectral_norm(part)
