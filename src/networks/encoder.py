"""A convolutional encoder of images: the way back to the latents of a generator."""

from collections.abc import Sequence

from torch import Tensor, nn
from typing_extensions import override

from src.networks.conditioning import ClassEmbedding
from src.networks.dcgan import strides
from src.networks.layers import FromImages, coarsest_side, leaky


class Encoder(nn.Module):
    """Maps images (N, C, S, S) and class indices (N,) to two numbers for each latent, (N, 2 Z).

    ``widths`` are the channels from the coarsest side to S/2, one for each stride of 2; ``hidden``
    features see the whole image and the class.

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
    ) -> None:
        super().__init__()
        n_positions = coarsest_side(img_size, widths) ** 2
        self.from_images = FromImages(channels, widths[-1], kernel_size=4, stride=2, padding=1)
        self.downs = strides(widths)
        self.hidden = nn.Linear(widths[0] * n_positions, hidden)
        self.embed = ClassEmbedding(n_classes, hidden)
        self.to_latents = nn.Linear(hidden, 2 * latent_dim)

    @override
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = leaky(self.from_images(images))  # (N, widths[-1], S/2, S/2)
        for down in self.downs:
            x = leaky(down(x))
        return self.to_latents(leaky(self.hidden(x.flatten(1)) + self.embed(labels)))
