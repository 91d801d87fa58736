"""A small convolutional classifier: the judge of generated images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override


class Classifier(nn.Module):
    """Maps images (N, C, H, W) in [-1, 1] to features (N, 64) and logits (N, K).

    The features are the last pooled activations, normalized without learned scale: over the
    training images each has mean 0 and variance 1, which gives distances between them a unit.
    Images of another size are resized to 28 x 28 first.
    """

    n_features = 64
    size = 28

    def __init__(self, *, channels: int, n_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1, stride=2, bias=False),  # 14 x 14
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            *block(32, 64),
            nn.MaxPool2d(2),  # 7 x 7
            *block(64, 64),
            *block(64, self.n_features),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.BatchNorm1d(self.n_features, affine=False),
        )
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(self.n_features, n_classes)

    def features(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) in [-1, 1] to features (N, 64)."""
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, size=self.size, mode="bilinear", antialias=True)
        return self.body(images.contiguous(memory_format=torch.channels_last))

    @override
    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.drop(self.features(images)))


def block(fan_in: int, fan_out: int) -> list[nn.Module]:
    """A 3 x 3 convolution from ``fan_in`` to ``fan_out`` channels, batch norm, and ReLU."""
    convolution = nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)]
