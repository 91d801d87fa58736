"""The evaluation of labelled classes: the quality panel."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from time import perf_counter
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from src.errors import InputError
from src.images import Labelled
from src.metrics.cache import Row, Tensors, md5_of_data
from src.metrics.evaluation import Evaluation, Findings
from src.metrics.footing import count_classes, rows_like
from src.metrics.judges import (
    Judged,
    Judges,
    NoJudgesError,
    Opinion,
    doubt_of,
    load_judges,
)
from src.metrics.neighbours import Nearest
from src.metrics.panel import accuracy_per_class, confusion, quick, require_enough
from src.metrics.real import Real, judge_real, quick_floor, read_once
from src.networks.classifier import Classifier

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClassFindings(Findings):
    """Findings about labelled images, which are kept with their nearest training images."""

    class_names: Sequence[str]
    fake: Judged
    train: Tensor
    nearest: Nearest  # in pixels, of the first images among ``train``


class ClassEvaluation(Evaluation):
    """Compares generated images with real ones by features, labels and neighbours.

    While training the real ones are the validation part, in a report the test part.
    """

    measured: ClassVar[tuple[str, ...]] = ("fid_cnn", "label_accuracy", "coverage")

    @override
    def find_judges(self) -> Judges:
        return load_judges(
            self.real.name,
            n_classes=self.real.n_classes,
            channels=self.real.channels,
            data_dir=self.data_dir,
            device=self.device,
            typed=self.real.typed,
        )

    @override
    def doubt(self) -> str | None:
        trained_on = md5_of_data(self.real.train)
        return doubt_of(self.judges, trained_on=trained_on, flip=self.real.flip)

    @override
    def require_quick(self, n: int) -> None:
        parts = {"training": self.real.train, "validation": self.real.val}
        require_enough_real(parts, class_names=self.real.class_names)
        if n <= Classifier.n_features:
            least = Classifier.n_features + 1
            raise InputError(
                f"callbacks.quality.n={n} is too few for Frechet distances in "
                f"{Classifier.n_features} features: give at least {least}, as in "
                "callbacks.quality.n=10_000"
            )
        _ = self.judges

    @override
    def unread(self, n: int) -> Tensors:
        features, predictions = torch.zeros(n, self.judges.features.n_features), torch.zeros(n)
        return Opinion(features, predictions.long(), torch.zeros(n))._asdict()

    @override
    def read(self, data: Labelled) -> Tensors:
        return self.judges.read(data).opinion._asdict()

    @override
    def quick(self, labels: Tensor, seen: Tensors) -> Row:
        fake = Judged(Labelled(torch.empty(len(labels), 0), labels), Opinion(**seen))
        train, part, folder = self.real.train, self.real.val, self.folder
        val = read_once(self.judges, part, md5=md5_of_data(part), folder=folder)
        counts = count_classes(labels, n_classes=self.real.n_classes)
        floor = quick_floor(self.judges, train, val, counts=counts, folder=folder)
        row = quick(fake, val, size=len(rows_like(train.labels, counts)))
        return row | {f"real_{name}": value for name, value in floor.items()}

    @override
    def labels(self, n: int) -> Tensor:
        return torch.arange(n * self.real.n_classes) % self.real.n_classes

    @override
    def require_full(self, labels: Tensor, *, what: str) -> None:
        names = self.real.class_names
        require_enough_real({"test": self.real.test}, class_names=names)
        _ = self.judges
        require_enough(labels, class_names=names, what=what)

    @override
    def full(self, images: Labelled, *, cas_seeds: int) -> Findings:
        log.info("reading real images, which takes a minute or two and is then remembered")
        parts = {"train": self.real.train, "val": self.real.val, "test": self.real.test}
        real = judge_real(self.judges, **parts, folder=self.folder, flip=self.real.flip)
        counts = count_classes(images.labels, n_classes=real.n_classes)
        real.require_enough(counts)
        fake = self.judges.read(images)
        log.info("measuring")
        found = real.neighbours(fake)
        rows = {
            "generated": real.measure(fake, found),
            "real": real.floor(counts),
            "noise": real.ceiling(counts),
        }
        panel_done = perf_counter()
        add_cas(rows, real, images, n_seeds=cas_seeds)
        details = {
            "n_real": real.sizes(counts)._asdict(),
            "label_accuracy_per_class": {
                self.real.class_names[label]: share
                for label, share in accuracy_per_class(fake).items()
            },
            "confusion": confusion(fake, n_classes=real.n_classes).tolist(),
        }
        return ClassFindings(
            rows=rows, md5s=real.md5s, details=details,
            cas_seeds=cas_seeds, cas_seconds=perf_counter() - panel_done,
            class_names=self.real.class_names,
            fake=fake, train=real.train.images, nearest=found["pixels"],
        )  # fmt: skip


def require_enough_real(parts: Mapping[str, Labelled], *, class_names: Sequence[str]) -> None:
    """Refuse a named part of the data with too few images, or none of some class."""
    least = Classifier.n_features + 1
    for name, part in parts.items():
        if len(part.labels) < least:
            raise NoJudgesError(
                f"{len(part.labels)} {name} images are too few for Frechet distances: give "
                f"at least {least}, by datamodule.train_val_test_split or more pictures"
            )
        counts = count_classes(part.labels, n_classes=len(class_names))
        if not counts.all():
            missing = class_names[int(counts.argmin())]
            raise NoJudgesError(f"there is no {name} image of class {missing}")


def add_cas(rows: dict[str, Row], real: Real, images: Labelled, *, n_seeds: int) -> None:
    """Add ``cas`` to all rows: its mean over ``n_seeds`` classifiers, one of them for the noise."""
    if n_seeds == 0:
        return
    counts = count_classes(images.labels, n_classes=real.n_classes)
    log.info(f"cas: training {n_seeds} classifiers on the images, and on real ones if new")
    scores = {
        "generated": [real.cas(images, seed=seed) for seed in range(n_seeds)],
        "real": [real.cas_floor(counts, seed=seed) for seed in range(n_seeds)],
        "noise": [real.cas_ceiling(counts, seed=0)],
    }
    for name, values in scores.items():
        rows[name]["cas"] = mean(values)
        if len(values) > 1:
            rows[name]["cas_standard_deviation"] = stdev(values)
