"""Layers, most in forms that are cheap on a CPU, where penalties differentiate them twice.

Features stay channels-last, in which the CPU's other convolutions are fastest.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from src.errors import InputError

ImageStride = Literal[1, 2, 4]  # of the layer at the images


def leaky(x: Tensor) -> Tensor:
    """max(x, 0.2 x), elementwise."""
    return F.leaky_relu(x, 0.2)


class Dropout(nn.Dropout):
    """Torch's dropout; on a CPU its mask is drawn as 31 random bits for each element."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu":
            return super().forward(x)
        keep = 1 - self.p
        bits = torch.empty(x.shape, dtype=torch.int32).random_()  # uniform in [0, 2^31)
        return x * (bits < int(keep * 2**31)).to(x.dtype).mul_(1 / keep)


class Pointwise(nn.Linear):
    """A 1 x 1 convolution (N, C, H, W) to (N, F, H, W) as one matrix product."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FromImages(nn.Conv2d):
    """Torch's convolution; on a CPU, where input channels are few, patches in a matrix product."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            # From few channels, torch's own output has them first.
            return super().forward(x).contiguous(memory_format=torch.channels_last)
        stride, kernel = self.stride[0], self.kernel_size[0]
        side = (x.shape[-1] + 2 * int(self.padding[0]) - kernel) // stride + 1
        patches = F.unfold(x, kernel, padding=int(self.padding[0]), stride=stride)
        x = F.linear(patches.mT, self.weight.flatten(1), self.bias)  # (N, side * side, F)
        return x.mT.unflatten(2, (side, side))  # (N, F, side, side)


class ToImages(nn.ConvTranspose2d):
    """Torch's transposed convolution; on a CPU, overlapping patches from a matrix product."""

    @override
    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if x.device.type != "cpu" or output_size is not None:
            return super().forward(x, output_size)
        stride, kernel, padding = self.stride[0], self.kernel_size[0], int(self.padding[0])
        side = (x.shape[-1] - 1) * stride - 2 * padding + kernel
        patches = F.linear(x.flatten(2).mT, self.weight.flatten(1).T)  # (N, H * W, C * k * k)
        images = F.fold(patches.mT, side, kernel, padding=padding, stride=stride)
        return images if self.bias is None else images + self.bias[:, None, None]


class MinibatchStd(nn.Module):
    """One more channel: the features' standard deviation over the batch (arXiv:1710.10196, sec. 3).

    It is averaged over channels and positions: one number for the whole batch, near 0 where all
    its images are alike. Outputs then depend on the batch.
    """

    @override
    def forward(self, x: Tensor) -> Tensor:
        # The small constant keeps the square root differentiable where all images are equal.
        spread = (x.var(dim=0, correction=0) + 1e-8).sqrt().mean()
        return torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], dim=1)


class ImageLayer(NamedTuple):
    """Shape of the convolution between images and the layer next to them."""

    kernel_size: int
    stride: int
    padding: int

    @classmethod
    def of(cls, stride: int) -> Self:
        """Shape for a ``stride``: kernels of 1 x 1, or twice the stride, so that they overlap."""
        return cls(2 * stride if stride > 1 else 1, stride, stride // 2)


def coarsest_side(img_size: int, widths: Sequence[int], *, image_stride: ImageStride = 2) -> int:
    """The side at the first of ``widths``, which is halved from each to the one before.

    At the last it is ``img_size`` / ``image_stride``.

    Raises:
        InputError: unless ``widths`` are numbers of channels, and the side can be halved so often.
    """
    if not widths or min(widths) < 1:
        raise InputError(
            f"widths={list(widths)} is not allowed: type numbers of channels, one for each halving "
            "of the side, as in widths=[64,32]"
        )

    def factor(n_widths: int) -> int:
        return image_stride * 2 ** (n_widths - 1)

    multiple = factor(len(widths))
    if img_size % multiple:
        allowed = [str(n) for n in range(1, len(widths)) if img_size % factor(n) == 0]
        fewer = f"{' or '.join(allowed)} of them, or " if allowed else ""
        raise InputError(
            f"model.img_size={img_size} is no multiple of {multiple}, as {len(widths)} widths "
            f"{list(widths)} need: type {fewer}model.img_size={-(-img_size // multiple) * multiple}"
        )
    return img_size // multiple
