"""Translate ``trainer.gpus`` into Lightning's accelerator, devices and strategy."""

from typing import Any

import torch

from src.errors import InputError

Devices = int | str | list[int]  # how many (0 for none, -1 for all), which ones, or "auto"
Gpus = Devices | None
MOST_PROCESSES = 256  # on one machine
# Networks of one step learn apart: each backward leaves the others' weights without gradients.
DDP = "ddp_find_unused_parameters_true"


def n_gpus() -> int:
    """The number of GPUs on this machine: those of CUDA, or Apple's one."""
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def n_processes(
    *,
    gpus: Gpus = None,
    accelerator: str | None = None,
    devices: Gpus = None,
    num_nodes: int = 1,
    **_: Any,
) -> int:
    """The number of processes of a run with these Trainer arguments: one for each device.

    GPUs named by index all count; ``choose_devices`` refuses those that do not exist.
    """
    if devices is None:
        accelerator, devices = complete(accelerator, gpus)
    return max(1, count(devices, accelerator, available=n_gpus())) * num_nodes


def choose_devices(
    gpus: Gpus,
    *,
    available: int,
    accelerator: str | None = None,
    devices: Gpus = None,
    strategy: str | None = None,
    num_nodes: int = 1,
) -> dict[str, Any]:
    """Choose the Trainer's arguments; accelerator, devices and strategy win over ``gpus`` if given.

    Args:
        gpus: 0 or null for the CPU, a number, a list of indices ("0,1" too), -1 for all, "auto".
        available: GPUs on this machine.
        num_nodes: machines that take part, each with as many devices.

    Raises:
        InputError: if there are fewer GPUs than asked for, or ``gpus`` cannot be read.
    """
    if devices is None:
        if accelerator != "cpu":
            require_gpus(gpus, available=available)
        accelerator, devices = complete(accelerator, gpus)
    n_devices = count(devices, accelerator, available=available)
    if n_devices > MOST_PROCESSES:
        raise InputError(
            f"trainer.devices={devices} would start as many processes: type trainer.devices="
            f"{MOST_PROCESSES} or less"
        )
    if strategy in (None, "ddp"):
        is_alone = n_devices <= 1 and num_nodes == 1
        strategy = "auto" if is_alone and strategy is None else DDP
    return {
        "accelerator": accelerator or "auto",
        "devices": n_devices if devices == -1 else devices,
        "strategy": strategy,
    }


def complete(accelerator: str | None, gpus: Gpus) -> tuple[str, Devices]:
    """Complete an accelerator and its devices from ``gpus``, which may name none."""
    match accelerator, parse(gpus, key="trainer.gpus"):
        case ("cpu", _) | (None, 0):
            return "cpu", 1
        case _, 0 | "auto":
            return accelerator or "auto", "auto"
        case _, wanted:
            return accelerator or "gpu", wanted


def require_gpus(gpus: Gpus, *, available: int) -> None:
    """Refuse ``gpus`` that are more than the ``available`` ones, or not among their indices."""
    match parse(gpus, key="trainer.gpus"):
        case 0 | "auto":
            fit = True
        case list() as indices:
            fit = all(0 <= index < available for index in indices)
        case number:
            fit = 0 < count(number, None, available=available) <= available
    if not fit:
        raise InputError(
            f"trainer.gpus={gpus} but this machine has {available} GPUs: "
            f"use trainer.gpus={available}"
        )


def parse(devices: Gpus, *, key: str) -> Devices:
    """Read devices as people type them: null, a number, a list, "auto", "2" or "0,1"."""
    if not isinstance(devices, str):
        return devices or 0
    try:
        numbers = [int(part) for part in devices.split(",") if part.strip()]
    except ValueError:
        if devices == "auto":
            return devices
        raise InputError(
            f"{key}={devices} is not allowed: type 0, a number, a list such as [0,1], or auto"
        ) from None
    return numbers if "," in devices else next(iter(numbers), 0)


def count(devices: Devices, accelerator: str | None, *, available: int) -> int:
    """How many devices are meant: -1 and "auto" mean the one CPU, or all ``available`` GPUs."""
    match parse(devices, key="trainer.devices"):
        case list() as indices:
            return len(indices)
        case -1 | "auto":
            return 1 if accelerator == "cpu" else available
        case number:
            return int(number)
