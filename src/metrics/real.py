"""The real data's side of an evaluation, read by the judges once and remembered."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from src.images import Labelled
from src.metrics.cache import Row, md5_of_data, remembered, remembered_row
from src.metrics.classify import classification_accuracy_score
from src.metrics.judges import Judged, Judges
from src.metrics.neighbours import Nearest
from src.metrics.panel import (
    Distances,
    balanced,
    distances_to,
    first,
    label_accuracy,
    measure,
    measure_real,
    nearest_in,
    noise,
    quick,
)


@dataclass(frozen=True)
class Real:
    """All parts of a data set, judged; computed once per judge, data and version of the metrics."""

    judges: Judges
    train: Judged
    val: Judged
    test: Judged
    md5s: dict[str, str]  # of each part
    folder: Path  # what is remembered

    @property
    def key(self) -> tuple[str, ...]:
        return (*self.judges.sha256s.values(), *self.md5s.values())

    @property
    def n_classes(self) -> int:
        return self.judges.n_classes

    def test_gaps(self) -> Distances:
        compute = partial(distances_to, self.train, self.test)
        return remembered(self.folder, "test_gaps", *self.key, compute=compute)

    def neighbours(self, fake: Judged) -> dict[str, Nearest]:
        """Of the first images, among the training images, in pixels and in features."""
        return nearest_in(self.train, first(fake))

    def measure(self, fake: Judged, found: Mapping[str, Nearest]) -> Row:
        gaps = self.test_gaps()
        return measure(fake, found, train=self.train, test=self.test, test_gaps=gaps)

    def floor(self, n: int) -> Row:
        compute = partial(
            measure_real, train=self.train, val=self.val, test=self.test, n=n,
            test_gaps=self.test_gaps(), n_classes=self.n_classes,
        )  # fmt: skip
        return remembered_row(self.folder, "floor", *self.key, n, compute=compute)

    def ceiling(self, n: int) -> Row:
        def compute() -> Row:
            judged = self.judges.read(self.noise(n))
            return self.measure(judged, self.neighbours(judged))

        return remembered_row(self.folder, "ceiling", *self.key, n, compute=compute)

    def noise(self, n: int) -> Labelled:
        return noise(n, like=Labelled(*self.test[:2]), n_classes=self.n_classes)

    def cas(self, data: Judged | Labelled, *, seed: int) -> float:
        train, test = (Labelled(*part[:2]) for part in (data, self.test))
        return classification_accuracy_score(
            train, test, n_classes=self.n_classes, seed=seed, device=self.judges.device
        )

    def cas_floor(self, n: int, *, seed: int) -> float:
        sample = self.train.take(balanced(self.train.labels, n, n_classes=self.n_classes))
        return self.remembered_cas("cas_floor", sample, n, seed=seed)

    def cas_ceiling(self, n: int, *, seed: int) -> float:
        return self.remembered_cas("cas_ceiling", self.noise(n), n, seed=seed)

    def remembered_cas(self, name: str, data: Judged | Labelled, n: int, *, seed: int) -> float:
        def compute() -> Row:
            return {"cas": self.cas(data, seed=seed)}

        return remembered_row(self.folder, name, *self.key, n, seed, compute=compute)["cas"]


def judge_real(
    judges: Judges, train: Labelled, val: Labelled, test: Labelled, *, folder: Path
) -> Real:
    parts = {"train": train, "val": val, "test": test}
    md5s = {name: md5_of_data(part) for name, part in parts.items()}
    judged = {
        name: read_once(judges, part, md5=md5s[name], folder=folder) for name, part in parts.items()
    }
    return Real(judges, **judged, md5s=md5s, folder=folder)


def read_once(judges: Judges, data: Labelled, *, md5: str, folder: Path) -> Judged:
    def compute() -> dict[str, Tensor]:
        return dict(zip(Judged._fields[2:], judges.read(data)[2:], strict=True))

    key = *judges.sha256s.values(), md5
    return Judged(*data, **remembered(folder, "judged", *key, compute=compute))


def quick_floor(judges: Judges, train: Labelled, val: Judged, *, n: int, folder: Path) -> Row:
    """What ``n`` training images score against ``val``, whose own labels stand for accuracy."""

    def compute() -> Row:
        rows = balanced(train.labels, n, n_classes=judges.n_classes)
        sample = judges.read(Labelled(train.images[rows], train.labels[rows]))
        return quick(sample, val) | {"label_accuracy": label_accuracy(val)}

    key = *judges.sha256s.values(), md5_of_data(train), md5_of_data(Labelled(*val[:2])), n
    return remembered_row(folder, "quick_floor", *key, compute=compute)
