"""Which of the 1,000 modes of stacked digits images show, and how evenly."""

from pathlib import Path

import torch
from torch import Tensor

from src.images import Labelled
from src.metrics.cache import Row, md5_of_data, remembered_row
from src.metrics.classify import predict
from src.metrics.judges import Judges, load_judges

N_MODES = 1_000


def digit_judges(*, data_dir: Path, device: str = "cpu") -> Judges:
    """MNIST's: the one that reads labels reads each channel."""
    return load_judges("mnist", n_classes=10, channels=1, data_dir=data_dir, device=device)


def read_modes(judges: Judges, images: Tensor) -> Tensor:
    """100 r + 10 g + b of the digits in each of uint8 images (N, 3, H, W), int64 (N,)."""
    channels = images.flatten(0, 1).unsqueeze(1)  # (3N, 1, H, W)
    digits = predict(judges.labels, channels, device=judges.device).argmax(1).view(-1, 3)
    return digits @ torch.tensor([100, 10, 1])


def count_modes(modes: Tensor) -> Row:
    """How many modes there are, and D_KL(q || uniform) = sum of q log(1000 q), in nats.

    q are the shares of the modes (N,); the published protocol takes N = 26,000. Even a perfect
    generator does not reach 0. Shares of N samples scatter, which adds (1000 - 1) / 2N in the mean
    (Miller 1955), 0.0192. And MNIST's digits are not equally frequent: their divergence from 1/10,
    0.00143 nats in the 60,000 official training images and 0.00174 in the test images, counts for
    each of the three channels, for they are independent. So real data are expected at 0.0235 and
    0.0244; test triples, read by the judge, score 0.0248 +- 0.0010 over 40 draws of 26,000.
    """
    counts = torch.bincount(modes, minlength=N_MODES)
    shares = counts[counts > 0].double() / len(modes)
    divergence = (shares * (N_MODES * shares).log()).sum()
    return {"modes": float(len(shares)), "kl": float(divergence)}


def count_once(judges: Judges, data: Labelled, *, folder: Path) -> Row:
    """Of images that are always the same, remembered."""
    key = judges.sha256s["labels"], md5_of_data(data)
    return remembered_row(
        folder, "modes", *key, compute=lambda: count_modes(read_modes(judges, data.images))
    )
