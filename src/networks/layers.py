"""Layers, most in forms that are cheap on a CPU, where penalties differentiate them twice.

Features stay channels-last, in which the CPU's other convolutions are fastest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from src.errors import InputError


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


def quarter(img_size: int) -> int:
    """The side after two strides."""
    if img_size % 4:
        raise InputError(
            f"model.img_size={img_size} is no multiple of 4, as two strides of 2 need: "
            "type model.img_size=28 with images of that size"
        )
    return img_size // 4
