"""Exponential moving average of a network."""

from copy import deepcopy
from typing import Self

import torch
from torch import Tensor, nn
from typing_extensions import override


class EMA(nn.Module):
    """Averaged copy of a network, always in eval mode.

    A weight's share in the average halves every ``halflife_images`` images, so that the average
    means the same for every batch size. What the network was before its first step has no
    share, by the bias correction of Adam (arXiv:1412.6980, section 3).
    """

    def __init__(self, network: nn.Module, *, halflife_images: float) -> None:
        super().__init__()
        self.network = deepcopy(network).eval().requires_grad_(False)
        self.halflife_images = halflife_images

    def share(self, *, seen: int, n_images: int, ramp: float = 1.0) -> float:
        """Weight of the network in the average after ``n_images`` more than ``seen``, from 0 to 1.

        ``ramp`` is the part of the half-life that already holds: 0 copies the network.
        """
        halflife_images = self.halflife_images * ramp
        if not halflife_images:
            return 1.0
        return (1 - 0.5 ** (n_images / halflife_images)) / (
            1 - 0.5 ** ((seen + n_images) / halflife_images)
        )

    @torch.no_grad()
    def move(self, network: nn.Module, share: float | Tensor) -> None:
        """Move the average towards ``network`` by ``share`` of the way, and copy its buffers."""
        averages: list[Tensor] = [*self.network.parameters()]
        currents: list[Tensor] = [*network.parameters()]
        if isinstance(share, Tensor):  # the call for all weights would read it back from the device
            for average, current in zip(averages, currents, strict=True):
                average.lerp_(current, share)
        else:
            torch._foreach_lerp_(averages, currents, share)  # raises if the lengths differ
        for average, current in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(current)

    @override
    def forward(self, *inputs: Tensor) -> Tensor:
        return self.network(*inputs)

    @override
    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, so that a parent's ``train()`` leaves batch statistics alone."""
        return super().train(mode=False)
