"""The quality panel: what is measured of labelled images, and the rows it stands beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from src.errors import InputError
from src.metrics.cache import Row
from src.metrics.footing import count_classes, mean_over_parts
from src.metrics.frechet import (
    fit,
    fit_per_class,
    frechet_at_infinity,
    frechet_distance,
    frechet_per_class,
)
from src.metrics.judges import Judged
from src.metrics.kernel import kernel_distance
from src.metrics.neighbours import (
    Manifold,
    Nearest,
    c_t,
    manifold,
    mean_over_classes,
    nearer,
    nearest,
    share_nearer,
    spread_per_class,
)
from src.networks.classifier import Classifier

Distances = Mapping[str, Tensor]  # to the nearest training image, (N,), in two spaces
MOST = 10_000  # images in statistics of neighbours, whose cost grows with the square
SPACES = "pixels", "features"


@dataclass(frozen=True)
class Metric:
    """How a metric is named for people, and which end of it is good."""

    title: str
    better: Literal["lower", "higher", "like real"]
    digits: int = 3
    is_distance: bool = False  # from 0 without bound, so that it is drawn on a logarithmic scale


METRICS = {
    "fid_cnn": Metric("fid_cnn, to test", "lower", is_distance=True),
    "fid_cnn_infinity": Metric("  at infinite N", "lower", is_distance=True),
    "fid_cnn_train": Metric("fid_cnn, to train", "lower", is_distance=True),
    "kid_cnn": Metric("kid_cnn", "lower", digits=4, is_distance=True),
    "intra_class_fid": Metric("intra_class_fid", "lower", is_distance=True),
    "precision": Metric("precision", "higher"),
    "recall": Metric("recall", "higher"),
    "density": Metric("density", "higher"),
    "coverage": Metric("coverage", "higher"),
    "diversity": Metric("diversity", "like real"),
    "diversity_lowest": Metric("  of the poorest class", "like real"),
    "label_accuracy": Metric("label_accuracy", "higher", digits=4),
    "cas": Metric("cas", "higher", digits=4),
    "memorization_pixels": Metric("memorization, pixels", "like real"),
    "memorization_features": Metric("memorization, features", "like real"),
    "c_t_pixels": Metric("C_T, pixels", "like real", digits=1),
    "c_t_features": Metric("C_T, features", "like real", digits=1),
    "modes": Metric("modes, of 1,000", "higher", digits=0),
    "kl": Metric("kl, to equally many of each", "lower", digits=4, is_distance=True),
}


def written(row: Row, name: str) -> str:
    """The metric ``name`` of a row as text, with its uncertainty where one was measured."""
    digits = METRICS[name].digits
    errors = [
        row[key] for key in (f"{name}_standard_error", f"{name}_standard_deviation") if key in row
    ]
    uncertainty = f" ± {errors[0]:.{digits}f}" if errors else ""
    return f"{row[name]:.{digits}f}{uncertainty}"


def fidelity(fake: Judged, real: Judged) -> Row:
    """Metrics of how the features of ``fake`` are distributed beside those of ``real``."""
    reference = fit(real.features)
    kid = kernel_distance(fake.features, real.features)
    spread = spread_per_class(fake.features, fake.labels)
    ratios = [
        spread[label] / real_spread
        for label, real_spread in spread_per_class(real.features, real.labels).items()
    ]
    return {
        "fid_cnn": frechet_distance(fit(fake.features), reference),
        "fid_cnn_infinity": frechet_at_infinity(fake.features, reference),
        "kid_cnn": kid.value,
        "kid_cnn_standard_error": kid.standard_error,
        **intra_class(fake, real),
        **same_size_manifold(fake, real)._asdict(),
        "diversity": sum(ratios) / len(ratios),
        "diversity_lowest": min(ratios),
    }


def intra_class(fake: Judged, real: Judged) -> Row:
    """The mean Frechet distance within classes, where each has enough real images for one."""
    if int(real.labels.unique(return_counts=True)[1].min()) <= Classifier.n_features:
        return {}
    classes = frechet_per_class(
        fake.features, fake.labels, fit_per_class(real.features, real.labels)
    )
    return {"intra_class_fid": sum(classes.values()) / len(classes)}


def same_size_manifold(fake: Judged, real: Judged) -> Manifold:
    """Manifold metrics of equally many images of both, the real ones at random."""
    n = min(len(fake.labels), len(real.labels), MOST)
    return manifold(fake.features[:n], real.features[at_random(len(real.labels))[:n]])


def at_random(n: int) -> Tensor:
    """The numbers below ``n`` in an order that is always the same."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))


def label_accuracy(fake: Judged) -> float:
    """Share that the second judge reads as the label asked for (GAN-test, arXiv:1807.09499)."""
    return float((fake.predictions == fake.labels).double().mean())


def accuracy_per_class(fake: Judged) -> dict[int, float]:
    return {
        label: label_accuracy(fake.take(fake.labels == label))
        for label in fake.labels.unique().tolist()
    }


def nearest_in(train: Judged, queries: Judged, *, flip: bool) -> dict[str, Nearest]:
    """The training images that are nearest to ``queries``, in two spaces.

    With ``flip`` their mirror images, which were trained on too, count as themselves in pixels.
    """
    images = train.images.flatten(1)
    found = nearest(queries.images.flatten(1), images)
    if flip:
        found = nearer(found, nearest(queries.images.flip(3).flatten(1), images))
    return {"pixels": found, "features": nearest(queries.features, train.features)}


def distances_to(train: Judged, queries: Judged, *, flip: bool) -> dict[str, Tensor]:
    found = nearest_in(train, queries, flip=flip)
    return {space: each.distances for space, each in found.items()}


def memorization(fake: Judged, test: Judged, fake_gaps: Distances, test_gaps: Distances) -> Row:
    """Whether images lie nearer to the training set than unseen real ones of their class do."""
    row = {}
    for space in SPACES:
        gaps = fake_gaps[space], fake.labels, test_gaps[space], test.labels
        row[f"memorization_{space}"] = mean_over_classes(share_nearer, *gaps)
        row[f"c_t_{space}"] = c_t(*gaps)
    return row


class Sizes(NamedTuple):
    """How many real images stand beside what is judged, at most as many as that."""

    seen: int  # by the judges, of the training part
    unseen: int  # of the validation part


def measure(
    fake: Judged,
    found: Mapping[str, Nearest],
    *,
    train: Judged,
    test: Judged,
    test_gaps: Distances,
    sizes: Sizes,
) -> Row:
    """Every metric but the classification accuracy score, which trains classifiers of its own.

    What depends on the number of images is the mean over parts as large as the real images of
    ``measure_real``. The classes must come in turn, as ``in_turn`` has them: then each part, and
    the first images, which statistics of neighbours take, have the class frequencies of the whole,
    as the real ones have. In random order ``fid_cnn_train`` comes out higher. ``found`` is
    ``nearest_in(train, first(fake), flip=...)``.
    """
    n, near = len(fake.labels), first(fake)
    gaps = {space: nearest.distances for space, nearest in found.items()}
    to_train = fit(train.features)

    def similarity(rows: slice) -> Row:
        return fidelity(fake.take(rows), test)

    def distance_to_train(rows: slice) -> Row:
        return {"fid_cnn_train": frechet_distance(fit(fake.features[rows]), to_train)}

    def copying(rows: slice) -> Row:
        mine = {space: distances[rows] for space, distances in gaps.items()}
        return memorization(near.take(rows), test, mine, test_gaps)

    return {
        **mean_over_parts(similarity, n, size=sizes.seen),
        **mean_over_parts(distance_to_train, n, size=sizes.unseen),
        "label_accuracy": label_accuracy(fake),
        **mean_over_parts(copying, len(near.labels), size=min(sizes.unseen, MOST)),
    }


def first(judged: Judged) -> Judged:
    """The first images, as many as statistics of neighbours take."""
    return judged.take(slice(MOST))


def measure_real(
    *, seen: Judged, unseen: Judged, train: Judged, test: Judged, test_gaps: Distances, flip: bool
) -> Row:
    """The floor: what images of the training distribution score, which a perfect generator makes.

    Training images stand for them wherever that is fair. The judges have learned their labels, and
    they are their own nearest neighbours: there, validation images stand for them, which are of the
    same writers. Both samples have the class frequencies of what is judged. That alone, in which
    real data differ a little, is 0.05 of MNIST's ``fid_cnn``.
    """
    near = first(unseen)
    return {
        **fidelity(seen, test),
        "fid_cnn_train": frechet_distance(fit(unseen.features), fit(train.features)),
        "label_accuracy": label_accuracy(unseen),
        **memorization(near, test, distances_to(train, near, flip=flip), test_gaps),
    }


def require_enough(labels: Tensor, *, class_names: Sequence[str], what: str) -> None:
    """Refuse fewer images in a class than the covariance of its features needs.

    Raises:
        InputError: naming the class and the number needed.
    """
    n_features = Classifier.n_features
    counts = count_classes(labels, n_classes=len(class_names))
    fewest = int(counts.argmin())
    if counts[fewest] <= n_features:
        raise InputError(
            f"{what} has {int(counts[fewest])} images of class {class_names[fewest]}, too few for "
            f"Frechet distances in {n_features} features: give at least {n_features + 1} of each "
            "class"
        )


def confusion(fake: Judged, *, n_classes: int) -> Tensor:
    """Shares (K, K) of each label asked for (rows) that were read as each class (columns)."""
    cells = torch.bincount(fake.labels * n_classes + fake.predictions, minlength=n_classes**2)
    table = cells.view(n_classes, n_classes).double()
    return table / table.sum(1, keepdim=True).clamp_min(1)


def quick(fake: Judged, real: Judged, *, size: int) -> Row:
    """Measure ``fid_cnn``, coverage and label accuracy; ``size`` is ``Sizes.seen``."""

    def similarity(rows: slice) -> Row:
        part = fake.take(rows)
        return {
            "fid_cnn": frechet_distance(fit(part.features), fit(real.features)),
            "coverage": same_size_manifold(part, real).coverage,
        }

    shares = mean_over_parts(similarity, len(fake.labels), size=size)
    return shares | {"label_accuracy": label_accuracy(fake)}
