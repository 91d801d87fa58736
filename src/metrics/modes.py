"""The evaluation of stacked digits: which of the 1,000 modes images show, and how evenly."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from src.errors import InputError
from src.images import Labelled
from src.metrics.cache import Row, Tensors, md5_of_data, remembered_row
from src.metrics.classify import predict
from src.metrics.evaluation import Evaluation, Findings
from src.metrics.footing import noise
from src.metrics.judges import Judges, load_judges

log = logging.getLogger(__name__)
N_MODES = 1_000


def digit_judges(*, data_dir: Path, device: str = "cpu") -> Judges:
    """Judges of MNIST's digits, whose classifier of labels reads each channel."""
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
    """Count the modes of images that are always the same, once for this version of the metrics."""
    key = judges.sha256s["labels"], md5_of_data(data)
    return remembered_row(
        folder, "modes", *key, compute=lambda: count_modes(read_modes(judges, data.images))
    )


@dataclass(frozen=True, kw_only=True)
class ModeFindings(Findings):
    """Findings about stacked digits, which are kept as uint8 (N, 3, H, W)."""

    images: Tensor


class ModeEvaluation(Evaluation):
    """Counts the modes of images of one class; MNIST's classifier of labels reads each channel.

    The real ones are as many training triples, which have the digits' frequencies that are learned:
    both numbers depend on them, and on how many images there are.
    """

    measured: ClassVar[tuple[str, ...]] = ("kl", "modes")

    @override
    def find_judges(self) -> Judges:
        return digit_judges(data_dir=self.data_dir, device=self.device)

    @override
    def require_quick(self, n: int) -> None:
        most = len(self.real.train.labels)
        if n > most:
            raise InputError(
                f"callbacks.quality.n={n} does not compare with {most} training triples: type "
                f"callbacks.quality.n={most} or less"
            )
        _ = self.judges

    @override
    def unread(self, n: int) -> Tensors:
        return {"modes": torch.zeros(n, dtype=torch.int64)}

    @override
    def read(self, data: Labelled) -> Tensors:
        return {"modes": read_modes(self.judges, data.images)}

    @override
    def quick(self, labels: Tensor, seen: Tensors) -> Row:
        floor = self.count_real(len(labels))
        return count_modes(seen["modes"]) | {f"real_{name}": value for name, value in floor.items()}

    def count_real(self, n: int) -> Row:
        return count_once(self.judges, self.real.train.take(slice(n)), folder=self.folder)

    @override
    def labels(self, n: int) -> Tensor:
        """As many as test triples whatever ``n`` is, but no more than training triples."""
        return torch.zeros_like(self.real.test.labels)[: len(self.real.train.labels)]

    @override
    def require_full(self, labels: Tensor, *, what: str) -> None:
        most = len(self.real.train.labels)
        if not 0 < len(labels) <= most:
            raise InputError(
                f"{what} has {len(labels)} images, which do not compare with {most} training "
                f"triples, for modes and kl depend on their number: give 1 to {most}"
            )
        _ = self.judges

    @override
    def full(self, images: Labelled, *, cas_seeds: int) -> Findings:
        """There are no classes to classify, so that ``cas_seeds`` trains nothing."""
        log.info("reading three digits of each image")
        n = len(images.labels)
        rows = {
            "generated": count_modes(read_modes(self.judges, images.images)),
            "real": self.count_real(n),
            "noise": count_once(
                self.judges, noise(torch.tensor([n]), like=self.real.train), folder=self.folder
            ),
        }
        return ModeFindings(
            rows=rows,
            md5s={"train": md5_of_data(self.real.train)},
            images=images.images,
        )
