"""The historical fully connected pair; labels enter by concatenated embeddings."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.networks.layers import Dropout


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


class Generator(nn.Module):
    """Latents (N, Z) and class indices (N,) to images (N, C, S, S) in [-1, 1]."""

    def __init__(self, *, n_classes: int, latent_dim: int, channels: int, img_size: int) -> None:
        super().__init__()
        self.img_shape = (channels, img_size, img_size)
        self.label_emb = nn.Embedding(n_classes, n_classes)
        widths = [128, 256, 512, 1024]
        layers = [nn.Linear(latent_dim + n_classes, widths[0]), leaky()]
        for fan_in, fan_out in pairwise(widths):
            # The original meant momentum by its 0.8, and set eps; a faithful baseline keeps that.
            layers += [nn.Linear(fan_in, fan_out), nn.BatchNorm1d(fan_out, eps=0.8), leaky()]
        layers += [nn.Linear(widths[-1], channels * img_size**2), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    @override
    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        x = torch.cat([self.label_emb(labels), latents], dim=1)  # (N, K + Z)
        return self.model(x).unflatten(1, self.img_shape)  # (N, C, S, S)


class Discriminator(nn.Module):
    """Images (N, C, S, S) in [-1, 1] and class indices (N,) to logits (N,)."""

    def __init__(self, *, n_classes: int, channels: int, img_size: int) -> None:
        super().__init__()
        self.img_shape = (channels, img_size, img_size)
        self.label_embedding = nn.Embedding(n_classes, n_classes)
        layers = [nn.Linear(channels * img_size**2 + n_classes, 512), leaky()]
        for _ in range(2):
            layers += [nn.Linear(512, 512), Dropout(0.4), leaky()]
        self.model = nn.Sequential(*layers, nn.Linear(512, 1))

    @override
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = torch.cat([images.flatten(1), self.label_embedding(labels)], dim=1)  # (N, C*S*S + K)
        return self.model(x).squeeze(1)  # (N,)
