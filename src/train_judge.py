"""Train the two judges of a data set."""

import hashlib
import logging
import shlex
from math import ceil
from pathlib import Path
from time import perf_counter

from omegaconf import DictConfig
from torch import Tensor

from src.configuration.build import choose_device, ready_data
from src.configuration.prepare import options_as_typed
from src.datamodules.in_memory import InMemoryDataModule
from src.errors import InputError
from src.metrics.cache import md5_of_data
from src.metrics.classes import require_enough_real
from src.metrics.classify import accuracy, train_classifier
from src.metrics.judges import ROLES, Record, pack, save_judges, unpack
from src.metrics.panel import require_enough
from src.networks.classifier import PLAIN_SIDE, side_seen

log = logging.getLogger(__name__)
EPOCHS = 15
LEAST_IMAGES = 200_000  # that a judge sees, however few there are
LEAST_SKILL = 0.5  # on the way from always guessing the largest class to reading all images right


def train_judge(cfg: DictConfig) -> None:
    """Train both judges on the training images alone, and keep them in ``data_dir/judges``.

    Raises:
        InputError: if the data have one class or too few images for any report, or a judge reads
            too few validation images right.
    """
    device, datamodule = choose_device(cfg), ready_data(cfg)
    if datamodule.dataset.n_classes == 1:
        raise InputError(
            f"judges learn to tell classes apart, and {datamodule.dataset.name} has one: choose a "
            "data set with a folder for each class"
        )
    parts = datamodule.parts
    names = datamodule.dataset.class_names
    require_enough_real({"validation": parts["val"], "test": parts["test"]}, class_names=names)
    require_enough(parts["train"].labels, class_names=names, what="the training part")
    folder = Path(cfg.data_dir) / "judges"
    made = {
        role: train_one(datamodule, role, seed=cfg.seed + i, device=device, command=as_typed())
        for i, role in enumerate(ROLES)
    }
    save_judges(folder, datamodule.dataset.name, made)
    log.info(f"in {folder}: judges.json and the two files that it names")


def train_one(
    datamodule: InMemoryDataModule, role: str, *, seed: int, device: str, command: str
) -> tuple[bytes, Record]:
    """Train one judge, and return its packed weights and their record.

    The accuracies on record are those of the packed weights, which are rounded.
    """
    started = perf_counter()
    parts, dataset = datamodule.parts, datamodule.dataset
    n_classes, (n_images, channels, img_size, _) = dataset.n_classes, parts["train"].images.shape
    side = side_seen(channels=channels, img_size=img_size)
    is_plain = side == PLAIN_SIDE
    epochs = EPOCHS if is_plain else max(EPOCHS, ceil(LEAST_IMAGES / n_images))
    network = train_classifier(
        parts["train"], n_classes=n_classes, epochs=epochs, seed=seed, device=device,
        shift=side // (14 if is_plain else 8), flip=dataset.flip, shown_as=f"judge of {role}",
    )  # fmt: skip
    content = pack(network)
    sha256 = hashlib.sha256(content).hexdigest()
    unpack(content, into=network)
    val, test = (accuracy(network, parts[name], device=device) for name in ("val", "test"))
    log.info(
        f"{dataset.name}, {role}: {val:.2%} of the validation and {test:.2%} of the test images "
        f"are read right, after {epochs} epochs of {n_images:,} images in "
        f"{perf_counter() - started:.0f} s; sha256 {sha256[:12]}"
    )
    require_skill(dataset.name, val, parts["val"].labels, n_images=n_images)
    record = Record(
        file=f"{dataset.name}-{role}.safetensors",
        sha256=sha256,
        test_accuracy=test,
        seed=seed,
        channels=channels,
        n_classes=n_classes,
        img_size=img_size,
        flip=dataset.flip,
        command=command,
        trained_on=md5_of_data(parts["train"]),
    )
    return content, record


def require_skill(name: str, accuracy: float, labels: Tensor, *, n_images: int) -> None:
    """Refuse a judge whose ``accuracy`` on images of ``labels`` (N,) is too near a guess's."""
    guess = float(labels.bincount().max()) / len(labels)
    if accuracy < guess + LEAST_SKILL * (1 - guess):
        raise InputError(
            f"a judge of {name} that has learned from {n_images:,} images reads {accuracy:.0%} of "
            f"unseen ones right, and a guess {guess:.0%}: what it says of generated images would "
            "mislead, so that it is not kept; give more images of each class, or fewer classes"
        )


def as_typed() -> str:
    """The command that trains these judges again."""
    return shlex.join(["python", "run.py", *options_as_typed()])
