"""A small U-Net that is told the time and the class, without normalization."""

from collections.abc import Sequence
from itertools import pairwise
from math import pi
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from src.errors import InputError
from src.networks.conditioning import ClassEmbedding
from src.networks.layers import coarsest_side

PATCH = 2  # pixels along a side that the first layer turns into channels
FREQUENCIES = 16  # of the cosines that tell the time
ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}


class FiLM(nn.Linear):
    """Returns (1 + gain) * x + bias, with a gain and a bias per channel (arXiv:1709.07871).

    Both are linear in what is told (N, E), and 0 at first.
    """

    def __init__(self, n_told: int, n_channels: int) -> None:
        super().__init__(n_told, 2 * n_channels)
        nn.init.zeros_(self.weight), nn.init.zeros_(self.bias)

    @override
    def forward(self, x: Tensor, told: Tensor) -> Tensor:  # type: ignore[override]
        gain, bias = super().forward(told)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(x + bias, x, gain)


class Block(nn.Module):
    """x + mix(act(film(mix(act(x))))) on x (N, C, H, W), 3 x 3 each: the identity at first."""

    def __init__(self, width: int, *, n_told: int, activate: nn.Module) -> None:
        super().__init__()
        self.activate = activate
        self.first = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.film = FiLM(n_told, width)
        self.second = nn.Conv2d(width, width, kernel_size=3, padding=1)
        nn.init.zeros_(self.second.weight), nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    @override
    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return x + self.second(self.activate(self.film(self.first(self.activate(x)), told)))


class UNet(nn.Module):
    """Maps images (N, C, S, S), times (N,) and class indices (N,) to images: 0 at first.

    Class ``n_classes`` stands for any of them, where there are several.
    ``widths`` are the channels at side S/2, S/4 and so on, each with ``blocks`` residual blocks on
    the way down and, but for the last, as many on the way up, where they see both ways. Times are
    from 0 to 1. With ``activation="relu"``, as in runs that do not name theirs, about half of the
    units that read time and class soon answer 0 to everything.

    Raises:
        InputError: if the sides cannot be halved so often, or ``widths`` and ``blocks`` differ.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        channels: int,
        img_size: int,
        widths: Sequence[int] = (32, 64),
        blocks: Sequence[int] = (1, 2),
        told: int = 128,
        activation: Literal["relu", "silu"] = "relu",
    ) -> None:
        super().__init__()
        require_halves(img_size, widths, blocks)
        self.embed = ClassEmbedding(n_classes + 1 if n_classes > 1 else 1, told)
        self.activate = ACTIVATIONS[activation]()
        self.tell = nn.Sequential(
            nn.Linear(FREQUENCIES, told), self.activate, nn.Linear(told, told)
        )
        n_inputs = channels * PATCH**2
        self.enter = nn.Conv2d(n_inputs, widths[0], kernel_size=3, padding=1)
        self.downs = nn.ModuleList(stages(widths, blocks, n_told=told, activate=self.activate))
        self.ups = nn.ModuleList(
            stages(widths[:-1], blocks[:-1], n_told=told, activate=self.activate)
        )
        self.shrink = nn.ModuleList(
            nn.Conv2d(wide, narrow, kernel_size=2, stride=2) for wide, narrow in pairwise(widths)
        )
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(narrow, wide, kernel_size=2, stride=2)
            for wide, narrow in pairwise(widths)
        )
        self.leave = nn.Conv2d(widths[0], n_inputs, kernel_size=3, padding=1)
        nn.init.zeros_(self.leave.weight), nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    @override
    def forward(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        waves = (pi * times[:, None] * torch.arange(FREQUENCIES, device=times.device)).cos()
        told = self.activate(self.tell(waves) + self.embed(labels))
        patches = F.pixel_unshuffle(images, PATCH)
        x = self.enter(patches.contiguous(memory_format=torch.channels_last))
        passed = []
        for stage, shrink in zip(self.downs[:-1], self.shrink, strict=True):
            x = run(stage, x, told)
            passed.append(x)
            x = shrink(x)
        x = run(self.downs[-1], x, told)
        for stage, enlarge in zip(reversed(self.ups), reversed(self.enlarge), strict=True):
            x = run(stage, enlarge(x) + passed.pop(), told)
        return F.pixel_shuffle(self.leave(self.activate(x)), PATCH)


def stages(
    widths: Sequence[int], blocks: Sequence[int], *, n_told: int, activate: nn.Module
) -> list[nn.ModuleList]:
    return [
        nn.ModuleList(Block(width, n_told=n_told, activate=activate) for _ in range(count))
        for width, count in zip(widths, blocks, strict=True)
    ]


def run(stage: nn.Module, x: Tensor, told: Tensor) -> Tensor:
    for block in stage:  # type: ignore[attr-defined]
        x = block(x, told)
    return x


def require_halves(img_size: int, widths: Sequence[int], blocks: Sequence[int]) -> None:
    """Refuse widths that do not fit the blocks, or halve a side of ``img_size`` too often."""
    if not widths or len(widths) != len(blocks) or min(*widths, *blocks) < 1:
        raise InputError(
            f"widths={list(widths)} and blocks={list(blocks)} are not two lists of one length and "
            "of positive numbers: type 'model.network.widths=[32,64]' "
            "'model.network.blocks=[1,2]'"
        )
    coarsest_side(img_size, widths)
