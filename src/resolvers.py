"""What a configuration may compute: ``${part_of_run:0.5}``, ``${unused:FOLDER}``."""

from itertools import chain, count
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf

from src.errors import InputError


def part_of_run(share: float, *, _root_: DictConfig) -> int:
    """The real images in this share of the run, on all devices, for schedules.

    With both ``trainer.max_epochs`` and ``max_steps``, of the shorter. Batches that
    ``limit_train_batches`` leaves out count, and devices that are not numbered count as one.
    """
    data, trainer = _root_.datamodule, _root_.trainer
    per_step = data.batch_size * _root_.model.discriminator_steps * n_devices(trainer)
    limits = [
        (trainer.get("max_epochs"), data.train_val_test_split[0]),
        (trainer.get("max_steps"), per_step),
    ]
    lengths = [count * size for count, size in limits if count is not None and count >= 0]
    if not lengths:
        raise InputError(
            "model.schedules end with the run, which has no end: type trainer.max_epochs=N, or "
            "model/schedules=none"
        )
    return int(share * min(lengths))


def n_devices(trainer: DictConfig) -> int:
    devices = trainer.get("devices") or trainer.get("gpus")
    if isinstance(devices, ListConfig):
        return len(devices)
    return max(1, devices) if isinstance(devices, int) else 1


def unused(folder: str) -> str:
    """Make ``folder``, or ``folder-2`` and so on: one that no other process has or will get.

    Where none can be made it is returned as it is, so that Hydra, which makes it too, says why.
    """
    try:
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        return next(filter(is_made, chain([folder], (f"{folder}-{n}" for n in count(2)))))
    except OSError:
        return folder


def is_made(folder: str) -> bool:
    """Whether this very call has made it."""
    try:
        Path(folder).mkdir()
    except FileExistsError:
        return False
    return True


OmegaConf.register_new_resolver("part_of_run", part_of_run, replace=True)
# Hydra reads a run's folder several times, and in each job of a sweep.
OmegaConf.register_new_resolver("unused", unused, use_cache=True, replace=True)
