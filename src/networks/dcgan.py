"""A small convolutional pair after DCGAN (arXiv:1511.06434), of two strides."""

from collections.abc import Sequence
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
from src.networks.layers import FromImages, MinibatchStd, ToImages, leaky, quarter


class Generator(nn.Module):
    """Latents (N, Z) and class indices (N,) to images (N, C, S, S) in [-1, 1].

    ``widths`` are the channels at side S/4 and S/2, as in the discriminator.
    ``hidden`` nonlinear features of the latents stand beside them: without any, the coarsest map is
    linear in the latents.
    With ``norm="none"`` the normalizations leave their gains and biases, by class or for all.
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
        self.start = quarter(img_size)
        first, second = require_two(widths)
        concatenates = conditioning == "concat"
        self.enter = (
            Concatenation(n_classes=n_classes, width=n_classes) if concatenates else Unconditional()
        )
        n_inputs = latent_dim + n_classes * concatenates
        make_norm = ConditionalBatchNorm if norm == "batch" else Modulation
        norm_classes = 1 if concatenates else n_classes
        self.hidden = (
            Hidden(n_inputs, hidden, make_norm=make_norm, n_classes=norm_classes)
            if hidden
            else Unconditional()
        )
        self.project = nn.Linear(n_inputs + hidden, first * self.start**2, bias=False)
        self.first_norm = make_norm(first, n_classes=norm_classes)
        self.upsample = nn.ConvTranspose2d(
            first, second, kernel_size=4, stride=2, padding=1, bias=False
        )
        self.second_norm = make_norm(second, n_classes=norm_classes)
        self.to_images = ToImages(second, channels, kernel_size=4, stride=2, padding=1)

    @override
    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        x = self.project(self.hidden(self.enter(latents, labels), labels))
        x = x.unflatten(1, (self.start, self.start, -1)).permute(0, 3, 1, 2)  # (N, W1, S/4, S/4)
        x = F.relu(self.first_norm(x, labels))
        x = F.relu(self.second_norm(self.upsample(x), labels))  # (N, W2, S/2, S/2)
        return self.to_images(x).tanh()  # (N, C, S, S)


class Hidden(nn.Module):
    """Vectors x (N, F) to [x, relu(norm(linear(x)))] (N, F + H)."""

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


def require_two(widths: Sequence[int]) -> Sequence[int]:
    if len(widths) != 2:
        raise InputError(
            f"widths={list(widths)} is not allowed: type two numbers of channels, as in "
            "widths=[64,32]"
        )
    return widths


class Discriminator(nn.Module):
    """Images (N, C, S, S) in [-1, 1] and class indices (N,) to logits (N,).

    ``widths`` are the channels at side S/4 and S/2; the second decides what a step costs.
    The class enters by ``head``: as a map beside the image (``concat``), by projection, or, for
    ``auxiliary``, not at all: a classifier beside the head tells it (AC-GAN, arXiv:1610.09585).
    The convolutions see 8 x 8 pixels; ``hidden`` features of the whole image join theirs, without
    which a logit is a sum over such patches.
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
        last, first = require_two(widths)
        concatenates = head == "concat"
        self.enter = (
            LabelMap(n_classes=n_classes, img_size=img_size) if concatenates else Unconditional()
        )
        self.from_images = FromImages(
            channels + concatenates, first, kernel_size=4, stride=2, padding=1
        )
        self.downsample = nn.Conv2d(first, last, kernel_size=3, stride=2, padding=1)
        self.compare = MinibatchStd() if minibatch_std else nn.Identity()
        n_features = (last + minibatch_std) * quarter(img_size) ** 2
        self.hidden = nn.Linear(n_features, hidden) if hidden else None
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
        x = leaky(self.from_images(self.enter(images, labels)))  # (N, W2, S/2, S/2)
        x = leaky(self.downsample(x))  # (N, W1, S/4, S/4)
        x = self.compare(x).flatten(1)
        return x if self.hidden is None else torch.cat([x, leaky(self.hidden(x))], dim=1)

    def classify(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, and logits (N, K) of the classes: the projection's own, or the classifier's.

        Raises:
            InputError: with ``head="concat"``, which has none.
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


def normalize_spectrally(network: nn.Module) -> None:
    """Divide every weight matrix by its largest singular value (arXiv:1802.05957, eq. 8)."""
    for part in [*network.modules()]:
        if isinstance(part, nn.Conv2d | nn.Linear | nn.Embedding):
            parametrizations.spectral_norm(part)
