"""A residual pair without normalization, after R3GAN (arXiv:2501.05441).

As there: blocks of 1 x 1, grouped 3 x 3 and 1 x 1 convolutions that widen, mix and narrow; leaky
ReLUs with biases, and biases nowhere else in a stage; weights of the published variance, which
falls with the number of blocks, and the last of each block 0; sides halved and doubled by the
filter [1, 3, 3, 1], and 1 x 1 convolutions where the width changes; a learned basis times a linear
map of the latents at first, a depthwise convolution in the end; images without tanh.

Not as there: a strided layer at the images, unless ``image_stride`` is 1; doubling repeats the
pixels at the edge; the images have a bias; class embeddings are as wide as there are classes, and
the discriminator adds a linear logit to the class's projection of its features.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.errors import InputError
from src.networks.conditioning import Concatenation, Projection
from src.networks.layers import (
    FromImages,
    ImageLayer,
    ImageStride,
    Pointwise,
    ToImages,
    coarsest_side,
    leaky,
)

LEAKY_GAIN = (2 / (1 + 0.2**2)) ** 0.5  # keeps the variance through a leaky ReLU of slope 0.2


def scale_weights(layer: nn.Module, *, fan_in: float, gain: float = 1.0) -> None:
    """Draw weights of variance gain^2 / fan_in (arXiv:1502.01852), and set biases to 0."""
    nn.init.normal_(layer.get_parameter("weight"), std=gain * fan_in**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.get_parameter("bias"))


class ResidualBlock(nn.Module):
    """x + contract(leaky(mix(leaky(expand(x))))) on x (N, C, H, W): the identity at first."""

    def __init__(self, width: int, *, expansion: int, group_width: int, n_blocks: int) -> None:
        super().__init__()
        wide = expansion * width
        self.expand = Pointwise(width, wide)
        self.mix = nn.Conv2d(wide, wide, kernel_size=3, padding=1, groups=wide // group_width)
        self.contract = Pointwise(wide, width, bias=False)
        gain = LEAKY_GAIN * n_blocks**-0.25  # for two scaled layers in each of n_blocks
        scale_weights(self.expand, fan_in=width, gain=gain)
        scale_weights(self.mix, fan_in=9 * group_width, gain=gain)
        nn.init.zeros_(self.contract.weight)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x + self.contract(leaky(self.mix(leaky(self.expand(x)))))


def up(fan_in: int, fan_out: int) -> nn.Sequential:
    """Layers that change the width, where positions are few, then double the side bilinearly.

    That is the filter [1, 3, 3, 1] / 4 on each axis between pixels set apart.
    """
    return nn.Sequential(
        change_width(fan_in, fan_out), nn.Upsample(scale_factor=2, mode="bilinear")
    )


def down(fan_in: int, fan_out: int) -> nn.Sequential:
    """Layers that halve the side, filtered by [1, 3, 3, 1] / 8 on each axis, then change the width.

    Around the image are zeros.
    """
    # [1, 3, 3, 1] is [1, 1] three times.
    pools = nn.AvgPool2d(2, stride=1, padding=1), nn.AvgPool2d(2, stride=1), nn.AvgPool2d(2)
    return nn.Sequential(*pools, change_width(fan_in, fan_out))


def change_width(fan_in: int, fan_out: int) -> nn.Module:
    """A layer from ``fan_in`` to ``fan_out`` channels; the identity where they are equal."""
    if fan_in == fan_out:
        return nn.Identity()
    layer = Pointwise(fan_in, fan_out, bias=False)
    scale_weights(layer, fan_in=fan_in)
    return layer


def make_stages(
    widths: Sequence[int], blocks: Sequence[int], *, expansion: int, group_width: int
) -> list[nn.Sequential]:
    """One stage for each width: as many residual blocks as ``blocks`` says, one after the other.

    Raises:
        InputError: naming the argument that does not fit the others.
    """
    if len(widths) != len(blocks):
        raise InputError(
            f"widths={list(widths)} and blocks={list(blocks)} are not of one length: type "
            f"blocks=[{','.join('1' for _ in widths)}] for one residual block at each width"
        )
    for width in widths:
        if expansion * width % group_width:
            raise InputError(
                f"group_width={group_width} does not divide {expansion} * {width} channels: "
                f"type group_width={expansion * width}, or another of its divisors"
            )
    options = {"expansion": expansion, "group_width": group_width, "n_blocks": sum(blocks)}
    return [
        nn.Sequential(*(ResidualBlock(width, **options) for _ in range(count)))
        for width, count in zip(widths, blocks, strict=True)
    ]


class Generator(nn.Module):
    """Maps latents (N, Z) and class indices (N,) to images (N, C, S, S), unbounded around [-1, 1].

    ``widths`` are those of the stages from the coarsest side up, each of ``blocks`` residual
    blocks. The finest has side S / ``image_stride``: 1 is R3GAN's, 2 and 4 are cheaper.

    Raises:
        InputError: if ``img_size`` cannot be halved as often as ``widths`` and ``image_stride``
            need, or ``widths``, ``blocks`` and ``group_width`` do not fit together.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        latent_dim: int,
        channels: int,
        img_size: int,
        widths: Sequence[int] = (64, 24),
        blocks: Sequence[int] = (1, 1),
        expansion: int = 2,
        group_width: int = 16,
        image_stride: ImageStride = 2,
    ) -> None:
        super().__init__()
        start = coarsest_side(img_size, widths, image_stride=image_stride)
        stages = make_stages(widths, blocks, expansion=expansion, group_width=group_width)
        n_inputs = latent_dim + n_classes
        self.enter = Concatenation(n_classes=n_classes, width=n_classes)
        self.project = nn.Linear(n_inputs, widths[0], bias=False)
        self.basis = nn.Parameter(torch.randn(start, start, widths[0]))
        self.ups = nn.ModuleList([nn.Identity(), *(up(*pair) for pair in pairwise(widths))])
        self.stages = nn.ModuleList(stages)
        shape = ImageLayer.of(image_stride)
        self.to_images = ToImages(widths[-1], channels, *shape)
        scale_weights(self.project, fan_in=n_inputs)
        patches = (shape.kernel_size / shape.stride) ** 2  # kernels that overlap in each pixel
        scale_weights(self.to_images, fan_in=widths[-1] * patches)

    @override
    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        scales = self.project(self.enter(latents, labels))  # (N, W)
        x = (scales[:, None, None] * self.basis).permute(0, 3, 1, 2)  # (N, W, start, start)
        for enlarge, stage in zip(self.ups, self.stages, strict=True):
            x = stage(enlarge(x))
        return self.to_images(x)  # (N, C, S, S)


class Discriminator(nn.Module):
    """Maps images (N, C, S, S) in [-1, 1] and class indices (N,) to logits (N,).

    It is the generator's mirror image, and raises the same errors.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        channels: int,
        img_size: int,
        widths: Sequence[int] = (64, 24),
        blocks: Sequence[int] = (1, 1),
        expansion: int = 2,
        group_width: int = 16,
        image_stride: ImageStride = 2,
    ) -> None:
        super().__init__()
        start = coarsest_side(img_size, widths, image_stride=image_stride)
        stages = make_stages(widths, blocks, expansion=expansion, group_width=group_width)
        shape = ImageLayer.of(image_stride)
        self.from_images = FromImages(channels, widths[-1], *shape, bias=False)
        self.stages = nn.ModuleList(reversed(stages))
        self.downs = nn.ModuleList(
            [*(down(*pair) for pair in pairwise(reversed(widths))), nn.Identity()]
        )
        self.basis = nn.Parameter(torch.randn(widths[0], start, start) / start)
        self.head = Projection(widths[0], n_classes=n_classes)
        scale_weights(self.from_images, fan_in=channels * shape.kernel_size**2)

    @override
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.classify(images, labels)[0]

    def classify(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (N,), and logits (N, K) of the classes, the projection's own."""
        x = self.from_images(images)
        for stage, shrink in zip(self.stages, self.downs, strict=True):
            x = shrink(stage(x))  # (N, W, start, start) in the end
        features = (x * self.basis).sum(dim=(2, 3))  # (N, W): a depthwise convolution
        return self.head.classify(features, labels)
