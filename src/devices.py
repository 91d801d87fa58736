"""From ``trainer.gpus`` to Lightning's accelerator, devices and strategy."""

from typing import Any

from src.errors import InputError

Gpus = int | str | list[int] | None
# Two players share one step: each backward leaves the other's weights without gradients.
DDP = "ddp_find_unused_parameters_true"


def choose_devices(
    gpus: Gpus,
    *,
    available: int,
    accelerator: str | None = None,
    devices: int | str | list[int] | None = None,
    strategy: str | None = None,
) -> dict[str, Any]:
    """Arguments for the Trainer; accelerator, devices and strategy win over ``gpus`` if given.

    Args:
        gpus: 0 or null for the CPU, a number, a list of indices ("0,1" too), -1 for all, "auto".
        available: GPUs on this machine.
    """
    if accelerator is None and devices is None:
        accelerator, devices = from_gpus(gpus, available=available)
    devices = "auto" if devices is None else devices
    if strategy in (None, "ddp"):
        several = strategy == "ddp" or count(devices, available=available) > 1
        strategy = DDP if several else "auto"
    return {"accelerator": accelerator or "auto", "devices": devices, "strategy": strategy}


def from_gpus(gpus: Gpus, *, available: int) -> tuple[str, int | str | list[int]]:
    if isinstance(gpus, str):
        gpus = parse(gpus)
    if gpus in (None, 0, []):
        return "cpu", 1
    if gpus == "auto":
        return "auto", "auto"
    wanted = available if gpus == -1 else count(gpus, available=available)
    highest = max(gpus) + 1 if isinstance(gpus, list) else wanted
    if highest > available or wanted < 1:
        raise InputError(
            f"trainer.gpus={gpus} but this machine has {available} GPUs: "
            f"use trainer.gpus={available}"
        )
    return "gpu", gpus if isinstance(gpus, list) else wanted


def parse(gpus: str) -> Gpus:
    """As people type them: an empty text, "2", "-1", "auto" or "0,1"."""
    try:
        numbers = [int(part) for part in gpus.split(",") if part.strip()]
    except ValueError:
        if gpus == "auto":
            return gpus
        raise InputError(
            f"trainer.gpus={gpus} is not allowed: type 0, a number, a list such as [0,1], or auto"
        ) from None
    return numbers if "," in gpus else next(iter(numbers), 0)


def count(devices: int | str | list[int], *, available: int) -> int:
    if isinstance(devices, str):
        devices = available if devices == "auto" else parse(devices) or 0
    return len(devices) if isinstance(devices, list) else int(devices)
