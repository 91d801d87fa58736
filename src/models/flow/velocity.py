"""The velocity of a flow from data to noise, learned as a correction of a Gaussian's."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.images import to_float

STEP = 2 / 255  # between two values of a pixel in [-1, 1]


class Velocity(nn.Module):
    """Maps points x (N, C, H, W) on the way, times (N,) and class indices (N,) to velocities.

    On a straight way x_t = (1 - t) data + t noise (rectified flow, arXiv:2209.03003), a point moves
    by noise - data. For data of independent normal pixels, N(mean, std^2), the expected velocity
    is linear in x; the ``network`` adds what is missing, scaled to its standard deviation, and
    sees x scaled to a variance of 1, as in EDM (arXiv:2206.00364, section 5) with sigma =
    t / (1 - t). While the network returns 0, the flow is exactly that of the normal pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, channels: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def measure(self, images: Tensor) -> None:
        """Take the mean and standard deviation of each channel from uint8 images (N, C, H, W).

        A channel of one value has the deviation of a step between two values, for at the data, at
        t = 0, nothing is divided by less.
        """
        for channel in range(images.shape[1]):
            counts = images[:, channel].flatten().bincount(minlength=256).double()
            values = to_float(torch.arange(256)).double()
            mean = (counts * values).sum() / counts.sum()
            variance = (counts * (values - mean) ** 2).sum() / counts.sum()
            self.mean[channel] = mean
            self.std[channel] = variance.sqrt().clamp(min=STEP)

    @override
    def forward(self, x: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        t = times[:, None, None, None]
        mean, variance = self.mean, self.std**2
        deviation = ((1 - t) ** 2 * variance + t**2).sqrt()  # of x
        scaled = (x - (1 - t) * mean) / deviation
        slope = (t - (1 - t) * variance) / deviation
        correction = self.network(scaled, times, labels) * self.std / deviation
        return slope * scaled - mean + correction
