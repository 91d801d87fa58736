"""A convolutional encoder of images: the way back to the latents of a generator."""

from collections.abc import Sequence

from torch import Tensor, nn
from typing_extensions import override

from src.networks.conditioning import ClassEmbedding
from src.networks.dcgan import require_two
from src.networks.layers import FromImages, leaky, quarter


class Encoder(nn.Module):
    """Maps images (N, C, S, S) and class indices (N,) to two numbers for each latent, (N, 2 Z).

    ``widths`` are the channels at side S/4 and S/2; ``hidden`` features see the whole image and
    the class.

    Raises:
        InputError: if ``img_size`` is no multiple of 4, or ``widths`` are not two.
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
    ) -> None:
        super().__init__()
        coarse, fine = require_two(widths)
        self.from_images = FromImages(channels, fine, kernel_size=4, stride=2, padding=1)
        self.downsample = nn.Conv2d(fine, coarse, kernel_size=3, stride=2, padding=1)
        self.hidden = nn.Linear(coarse * quarter(img_size) ** 2, hidden)
        self.embed = ClassEmbedding(n_classes, hidden)
        self.to_latents = nn.Linear(hidden, 2 * latent_dim)

    @override
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = leaky(self.from_images(images))  # (N, fine, S/2, S/2)
        x = leaky(self.downsample(x))  # (N, coarse, S/4, S/4)
        return self.to_latents(leaky(self.hidden(x.flatten(1)) + self.embed(labels)))
