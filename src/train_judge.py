"""Train the two judges of a data set."""

import hashlib
import logging
import shlex
from pathlib import Path
from time import perf_counter

from omegaconf import DictConfig

from src.configuration.build import choose_device, ready_data
from src.configuration.prepare import options_as_typed
from src.datamodules.in_memory import InMemoryDataModule
from src.metrics.cache import md5_of_data
from src.metrics.classify import accuracy, train_classifier
from src.metrics.judges import ROLES, Record, pack, save_judges, unpack

log = logging.getLogger(__name__)
EPOCHS = 15


def train_judge(cfg: DictConfig) -> None:
    """Train both judges on the training images alone, and keep them in ``data_dir/judges``."""
    device, datamodule = choose_device(cfg), ready_data(cfg)
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
    parts, n_classes = datamodule.parts, datamodule.dataset.n_classes
    network = train_classifier(
        parts["train"], n_classes=n_classes, epochs=EPOCHS, seed=seed, shift=2, device=device
    )
    content = pack(network)
    sha256 = hashlib.sha256(content).hexdigest()
    unpack(content, into=network)
    val, test = (accuracy(network, parts[name], device=device) for name in ("val", "test"))
    log.info(
        f"{datamodule.dataset.name}, {role}: {val:.2%} of the validation and {test:.2%} of the "
        f"test images are read right, after {perf_counter() - started:.0f} s; sha256 {sha256[:12]}"
    )
    record = Record(
        file=f"{datamodule.dataset.name}-{role}.safetensors",
        sha256=sha256,
        test_accuracy=test,
        seed=seed,
        channels=datamodule.dataset.channels,
        n_classes=n_classes,
        command=command,
        trained_on=md5_of_data(parts["train"]),
    )
    return content, record


def as_typed() -> str:
    """The command that trains these judges again."""
    return shlex.join(["python", "run.py", *options_as_typed()])
