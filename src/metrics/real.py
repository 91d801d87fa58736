"""The real data's side of an evaluation, read by the judges once and remembered."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from src.errors import InputError
from src.images import Labelled
from src.metrics.cache import Row, md5_of_data, remembered, remembered_row
from src.metrics.classify import classification_accuracy_score
from src.metrics.footing import count_classes, noise, rows_like
from src.metrics.judges import Judged, Judges, Opinion
from src.metrics.neighbours import Nearest
from src.metrics.panel import (
    Distances,
    Sizes,
    distances_to,
    first,
    label_accuracy,
    measure,
    measure_real,
    nearest_in,
    quick,
)
from src.networks.classifier import Classifier


@dataclass(frozen=True)
class Real:
    """All parts of a data set, judged; computed once per judge, data and version of the metrics."""

    judges: Judges
    train: Judged
    val: Judged
    test: Judged
    md5s: dict[str, str]  # of each part
    folder: Path  # what is remembered
    flip: bool  # whether a mirror image of a training image is one

    @property
    def key(self) -> tuple[str, ...]:
        return (*self.judges.sha256s.values(), *self.md5s.values(), *["flip"] * self.flip)

    @property
    def n_classes(self) -> int:
        return self.judges.n_classes

    def test_gaps(self) -> Distances:
        compute = partial(distances_to, self.train, self.test, flip=self.flip)
        return remembered(self.folder, "test_gaps", *self.key, compute=compute)

    def neighbours(self, fake: Judged) -> dict[str, Nearest]:
        """Nearest training images of the first generated ones, in pixels and in features."""
        return nearest_in(self.train, first(fake), flip=self.flip)

    def seen(self, counts: Tensor) -> Judged:
        """Training images with the class frequencies of ``counts`` (K,), as many as there are."""
        return self.train.take(rows_like(self.train.labels, counts))

    def unseen(self, counts: Tensor) -> Judged:
        """Validation images with the class frequencies of ``counts`` (K,), as many as there are."""
        return self.val.take(rows_like(self.val.labels, counts))

    def sizes(self, counts: Tensor) -> Sizes:
        """How large ``seen`` and ``unseen`` are."""
        return Sizes(*(len(rows_like(part.labels, counts)) for part in (self.train, self.val)))

    def require_enough(self, counts: Tensor) -> None:
        """Refuse class frequencies in which there are too few real images to stand beside.

        Raises:
            InputError: naming the part and the number needed.
        """
        seen = count_classes(self.seen(counts).labels, n_classes=self.n_classes)[counts > 0]
        there = {
            "training images of the rarest class": int(seen.min()),
            "validation images": len(self.unseen(counts).labels),
        }
        for what, n in there.items():
            if n <= Classifier.n_features:
                raise InputError(
                    f"{n} {what} can be put beside these class frequencies, too few for Frechet "
                    f"distances in {Classifier.n_features} features, which take at least "
                    f"{Classifier.n_features + 1}: judge images of less uneven classes, or a data "
                    "set with more real ones"
                )

    def measure(self, fake: Judged, found: Mapping[str, Nearest]) -> Row:
        sizes = self.sizes(count_classes(fake.labels, n_classes=self.n_classes))
        return measure(
            fake, found, train=self.train, test=self.test, test_gaps=self.test_gaps(), sizes=sizes
        )

    def floor(self, counts: Tensor) -> Row:
        """What as many real images of each class score."""

        def compute() -> Row:
            return measure_real(
                seen=self.seen(counts), unseen=self.unseen(counts),
                train=self.train, test=self.test, test_gaps=self.test_gaps(), flip=self.flip,
            )  # fmt: skip

        return remembered_row(self.folder, "floor", *self.key, *counts.tolist(), compute=compute)

    def ceiling(self, counts: Tensor) -> Row:
        """What noise scores that is said to show as many of each class."""

        def compute() -> Row:
            judged = self.judges.read(self.noise(counts))
            return self.measure(judged, self.neighbours(judged))

        return remembered_row(self.folder, "ceiling", *self.key, *counts.tolist(), compute=compute)

    def noise(self, counts: Tensor) -> Labelled:
        return noise(counts, like=self.test.data)

    def cas(self, data: Labelled, *, seed: int) -> float:
        """Accuracy of a classifier of as many of the images as real ones can be put beside."""
        counts = count_classes(data.labels, n_classes=self.n_classes)
        size = self.sizes(counts).seen
        return classification_accuracy_score(
            data.take(slice(size)), self.test.data,
            n_classes=self.n_classes, seed=seed, device=self.judges.device,
        )  # fmt: skip

    def cas_floor(self, counts: Tensor, *, seed: int) -> float:
        return self.remembered_cas("cas_floor", self.seen(counts).data, counts, seed=seed)

    def cas_ceiling(self, counts: Tensor, *, seed: int) -> float:
        return self.remembered_cas("cas_ceiling", self.noise(counts), counts, seed=seed)

    def remembered_cas(self, name: str, data: Labelled, counts: Tensor, *, seed: int) -> float:
        def compute() -> Row:
            return {"cas": self.cas(data, seed=seed)}

        key = *self.key, *counts.tolist(), seed
        return remembered_row(self.folder, name, *key, compute=compute)["cas"]


def judge_real(
    judges: Judges,
    train: Labelled,
    val: Labelled,
    test: Labelled,
    *,
    folder: Path,
    flip: bool = False,
) -> Real:
    parts = {"train": train, "val": val, "test": test}
    md5s = {name: md5_of_data(part) for name, part in parts.items()}
    judged = {
        name: read_once(judges, part, md5=md5s[name], folder=folder) for name, part in parts.items()
    }
    return Real(judges, **judged, md5s=md5s, folder=folder, flip=flip)


def read_once(judges: Judges, data: Labelled, *, md5: str, folder: Path) -> Judged:
    def compute() -> dict[str, Tensor]:
        return judges.read(data).opinion._asdict()

    key = *judges.sha256s.values(), md5
    return Judged(data, Opinion(**remembered(folder, "judged", *key, compute=compute)))


def quick_floor(
    judges: Judges, train: Labelled, val: Judged, *, counts: Tensor, folder: Path
) -> Row:
    """What training images score against ``val``, whose own labels stand for accuracy."""

    def compute() -> Row:
        rows = rows_like(train.labels, counts)
        sample = judges.read(train.take(rows))
        unseen = val.take(rows_like(val.labels, counts))
        return quick(sample, val, size=len(rows)) | {"label_accuracy": label_accuracy(unseen)}

    key = *judges.sha256s.values(), md5_of_data(train), md5_of_data(val.data)
    return remembered_row(folder, "quick_floor", *key, *counts.tolist(), compute=compute)
