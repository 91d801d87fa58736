"""From ``trainer.gpus`` to Lightning's accelerator, devices and strategy."""

from typing import Any

import torch

from src.errors import InputError

Devices = int | str | list[int]
Gpus = Devices | None
# Two players share one step: each backward leaves the other's weights without gradients.
DDP = "ddp_find_unused_parameters_true"


def best_device() -> str:
    """Of this machine, for tasks without a trainer."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def n_gpus() -> int:
    """On this machine."""
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def n_processes(
    *,
    gpus: Gpus = None,
    accelerator: str | None = None,
    devices: Gpus = None,
    num_nodes: int = 1,
    **_: Any,
) -> int:
    """How many share a run with these arguments, one for each device.

    Numbered GPUs count as many as are named: that there are fewer is for ``choose_devices`` to say.
    """
    if devices is None:
        devices = 1 if accelerator == "cpu" else gpus or (accelerator and "auto")
    available = 1 if accelerator == "cpu" else n_gpus()
    return max(1, count(devices, available=available)) * num_nodes


def choose_devices(
    gpus: Gpus,
    *,
    available: int,
    accelerator: str | None = None,
    devices: Gpus = None,
    strategy: str | None = None,
) -> dict[str, Any]:
    """Arguments for the Trainer; accelerator, devices and strategy win over ``gpus`` if given.

    Args:
        gpus: 0 or null for the CPU, a number, a list of indices ("0,1" too), -1 for all, "auto".
        available: GPUs on this machine.
    """
    if devices is None:
        accelerator, devices = complete(accelerator, gpus, available=available)
    if strategy in (None, "ddp"):
        several = count(devices, available=1 if accelerator == "cpu" else available) > 1
        strategy = DDP if several or strategy == "ddp" else "auto"
    return {"accelerator": accelerator or "auto", "devices": devices, "strategy": strategy}


def complete(accelerator: str | None, gpus: Gpus, *, available: int) -> tuple[str, Devices]:
    """Accelerator and devices from ``gpus``, as far as the accelerator leaves them open."""
    if accelerator == "cpu":
        return "cpu", 1
    chosen, devices = from_gpus(gpus, available=available)
    if accelerator is None:
        return chosen, devices
    return accelerator, "auto" if chosen == "cpu" else devices


def from_gpus(gpus: Gpus, *, available: int) -> tuple[str, Devices]:
    wanted = parse(gpus, key="trainer.gpus") if isinstance(gpus, str) else gpus
    if wanted in (None, 0, []):
        return "cpu", 1
    if wanted == "auto":
        return "auto", "auto"
    indices = wanted if isinstance(wanted, list) else range(count(wanted, available=available))
    if not indices or min(indices) < 0 or max(indices) >= available:
        raise InputError(
            f"trainer.gpus={gpus} but this machine has {available} GPUs: "
            f"use trainer.gpus={available}"
        )
    return "gpu", wanted if isinstance(wanted, list) else len(indices)


def parse(devices: str, *, key: str) -> Devices:
    """As people type them: an empty text, "2", "-1", "auto" or "0,1"."""
    try:
        numbers = [int(part) for part in devices.split(",") if part.strip()]
    except ValueError:
        if devices == "auto":
            return devices
        raise InputError(
            f"{key}={devices} is not allowed: type 0, a number, a list such as [0,1], or auto"
        ) from None
    return numbers if "," in devices else next(iter(numbers), 0)


def count(devices: Gpus, *, available: int) -> int:
    """How many these are, where -1 and "auto" mean all that are available."""
    if isinstance(devices, str):
        devices = parse(devices, key="trainer.devices")
    if isinstance(devices, list):
        return len(devices)
    return available if devices in (-1, "auto") else int(devices or 0)
