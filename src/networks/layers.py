"""Layers, most in forms that are cheap on a CPU, where penalties differentiate them twice.

Features stay channels-last, in which the CPU's other convolutions are fastest.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from src.errors import InputError


class LeakyReLU(torch.autograd.Function):
    """Of slope 0.2; unlike torch's, its derivative sends no zeros back to its input."""

    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.leaky_relu(x, 0.2)

    @staticmethod
    @override
    def backward(ctx: Any, gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(gradients, x.detach(), 0.2, False)


def leaky(x: Tensor) -> Tensor:
    return LeakyReLU.apply(x) if x.requires_grad else F.leaky_relu(x, 0.2)


class Pointwise(nn.Linear):
    """A 1 x 1 convolution as one matrix product; a penalty takes half the time."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FromImages(nn.Conv2d):
    """Torch's, on few input channels: patches in a matrix product."""

    # In half of torch's time on an AMD EPYC, in as much on an Intel Xeon.

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
    """Torch's, on few output channels: overlapping patches, in 0.5 to 0.8 of the time."""

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
