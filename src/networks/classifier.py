"""Small convolutional classifiers: the judges of generated images."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

PLAIN_SIDE = 28
STAGES = 32, 64, 128, 192  # channels of the residual network, each at half the side of the last


def side_seen(*, channels: int, img_size: int) -> int:
    """The side of what a classifier of such images sees: ``PLAIN_SIDE`` means the plain network."""
    if channels == 1 and img_size <= PLAIN_SIDE:
        return PLAIN_SIDE
    return 32 if img_size <= 32 else 64


class Classifier(nn.Module):
    """Maps images (N, C, H, W) in [-1, 1] to features (N, 64) and logits (N, K).

    The features are the last pooled activations, normalized without learned scale: over the
    training images each has mean 0 and variance 1, which gives distances between them a unit.
    Grey images of up to 28 x 28 get a plain network, all others a residual one, which sees at most
    64 x 64. Images of another size than the network's are resized to it first.

    With ``flip`` an image and its mirror image have the same features: outside of training, the
    mean of both.
    """

    n_features = 64

    def __init__(
        self, *, channels: int, n_classes: int, img_size: int = 28, flip: bool = False
    ) -> None:
        super().__init__()
        self.flip = flip
        self.size = side_seen(channels=channels, img_size=img_size)
        if self.size == PLAIN_SIDE:
            body = plain(self.n_features)
        else:
            body = residual(channels, self.size, self.n_features)
        self.body = nn.Sequential(*body, nn.BatchNorm1d(self.n_features, affine=False))
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(self.n_features, n_classes)

    def features(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) in [-1, 1] to features (N, 64)."""
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, size=self.size, mode="bilinear", antialias=True)
        images = images.contiguous(memory_format=torch.channels_last)
        if self.flip and not self.training:
            return (self.body(images) + self.body(images.flip(3))) / 2
        return self.body(images)

    @override
    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.drop(self.features(images)))


def plain(n_features: int) -> list[nn.Module]:
    """Four convolutions of grey images 28 x 28."""
    return [
        *block(1, 32, stride=2),  # 14 x 14
        *block(32, 64),
        nn.MaxPool2d(2),  # 7 x 7
        *block(64, 64),
        *block(64, n_features),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]


def residual(channels: int, size: int, n_features: int) -> list[nn.Module]:
    """A first convolution, and three stages down to 4 x 4 with two residual ones in each.

    After ResNet-9 of the DAWNBench entries (D. Page, 2018): maxima over the last maps.
    """
    first = block(channels, STAGES[0], stride=size // 32)  # 32 x 32
    stages = [
        module
        for fan_in, fan_out in pairwise(STAGES)
        for module in (*block(fan_in, fan_out, stride=2), Residual(fan_out))
    ]
    last = nn.Linear(STAGES[-1], n_features, bias=False)
    return [*first, *stages, nn.AdaptiveMaxPool2d(1), nn.Flatten(), last]


class Residual(nn.Module):
    """Adds what two convolutions make of maps (N, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(*block(width, width), *block(width, width))

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def block(fan_in: int, fan_out: int, *, stride: int = 1) -> list[nn.Module]:
    """A 3 x 3 convolution from ``fan_in`` to ``fan_out`` channels, batch norm, and ReLU."""
    convolution = nn.Conv2d(fan_in, fan_out, 3, padding=1, stride=stride, bias=False)
    return [convolution, nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)]
