"""Ways for the class to enter a network; where there is one class, labels are ignored.

Each takes the labels (N,) beside what it conditions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override


class ClassEmbedding(nn.Embedding):
    """Maps class indices (N,) to rows (N, E); a single class has its row whatever the labels."""

    @override
    def forward(self, labels: Tensor) -> Tensor:
        # Not weight[labels], whose backward adds in any order on several threads.
        return super().forward(self.rows(labels))

    def rows(self, labels: Tensor) -> Tensor:
        """Row numbers (N,) of the labels."""
        return torch.zeros_like(labels) if self.num_embeddings == 1 else labels


class Unconditional(nn.Module):
    """Returns x as it is: stands in for a part that would let the class enter."""

    @override
    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return x


class Concatenation(nn.Module):
    """Maps latents (N, Z) to [latents, embedding] (N, Z + E) (arXiv:1411.1784)."""

    def __init__(self, *, n_classes: int, width: int) -> None:
        super().__init__()
        self.embed = ClassEmbedding(n_classes, width)

    @override
    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return torch.cat([latents, self.embed(labels)], dim=1)


class LabelMap(nn.Module):
    """Gives images (N, C, S, S) a learned map of their class as one more channel."""

    def __init__(self, *, n_classes: int, img_size: int) -> None:
        super().__init__()
        self.embed = ClassEmbedding(n_classes, img_size**2)

    @override
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        label_map = self.embed(labels).view(-1, 1, *images.shape[2:])
        return torch.cat([images, label_map], dim=1)  # (N, C + 1, S, S)


class Modulation(nn.Module):
    """Returns gain[label] * x + bias[label] for each channel of x (N, C, H, W)."""

    def __init__(self, n_channels: int, *, n_classes: int) -> None:
        super().__init__()
        self.gain = ClassEmbedding(n_classes, n_channels)
        self.bias = ClassEmbedding(n_classes, n_channels)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    @override
    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        gain, bias = (embed(labels)[:, :, None, None] for embed in (self.gain, self.bias))
        return torch.addcmul(bias, x, gain)


class ConditionalBatchNorm(Modulation):
    """Batch normalization, then each class's gain and bias (arXiv:1610.07629, 1707.00683).

    With one class it is torch's ``BatchNorm2d``.
    """

    def __init__(self, n_channels: int, *, n_classes: int) -> None:
        super().__init__(n_channels, n_classes=n_classes)
        self.normalize = nn.BatchNorm2d(n_channels, affine=False)

    @override
    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return super().forward(self.normalize(x), labels)


class Logit(nn.Linear):
    """Maps features (N, F) to logits (N,), whatever the labels."""

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features, 1)

    @override
    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(x).squeeze(1)


class Projection(nn.Module):
    """Maps features (N, F) to logits (N,) <embed(label), features> + linear(features).

    Projection discriminator (arXiv:1802.05637). Rows start at a length of about 1, so
    that logits do not grow with F.
    """

    def __init__(self, n_features: int, *, n_classes: int) -> None:
        super().__init__()
        self.linear = Logit(n_features)
        self.embed = ClassEmbedding(n_classes, n_features)
        nn.init.normal_(self.embed.weight, std=n_features**-0.5)

    @override
    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        return self.classify(features, labels)[0]

    def classify(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (N,), and logits (N, K) of all classes, <embed(k), features>."""
        # The label's product is chosen from all, which is faster than embed(labels) * features.
        class_logits = F.linear(features, self.embed.weight)
        chosen = F.one_hot(self.embed.rows(labels), self.embed.num_embeddings)
        return self.linear(features) + (class_logits * chosen).sum(dim=1), class_logits
