"""How many threads torch computes with, and whether this machine has that many cores to spare."""

import os
from time import process_time
from typing import Any

import torch
from omegaconf import DictConfig

from src.configuration.container import plain
from src.configuration.devices import n_processes


def use_threads(cfg: DictConfig) -> None:
    """Have this process and those it starts use ``cfg.threads``; null becomes torch's own choice.

    The bits of a training depend on the number, so that it is written down with the run. Numbers
    below normal ones are taken for zero, as also by threads that torch starts later: momenta of
    gradients that stay 0 shrink to them, and processors are slow with them.
    """
    torch.set_flush_denormal(True)
    if cfg.threads is None:
        cfg.threads = own_choice(cfg)
    if cfg.threads != torch.get_num_threads():
        torch.set_num_threads(cfg.threads)
    if processes_here(cfg) > 1:
        os.environ["OMP_NUM_THREADS"] = str(cfg.threads)  # else Lightning takes its own number


def own_choice(cfg: DictConfig) -> int:
    """What torch chooses: OMP_NUM_THREADS, or all cores, which the processes of a run share."""
    n_threads = torch.get_num_threads()
    return (
        n_threads if "OMP_NUM_THREADS" in os.environ else max(1, n_threads // processes_here(cfg))
    )


def processes_here(cfg: DictConfig) -> int:
    """The number of processes of a run on this machine."""
    trainer: dict[str, Any] = plain(cfg.trainer) | {"num_nodes": 1}
    return n_processes(**trainer) if cfg.task == "train" else 1


def doubt(cfg: DictConfig) -> str | None:
    """Say that other processes leave fewer cores than a run is about to use, and what to type.

    None where there is nothing to say, as with one thread, which no other has to wait for.
    """
    n_cores, n_processes = os.cpu_count() or 1, processes_here(cfg)
    # What this process itself has done within the last minute is no reason for doubt.
    busy = round(os.getloadavg()[0] - process_time() / 60)
    fitting = max(1, (n_cores - busy) // n_processes)
    if busy < 1 or cfg.threads <= fitting:
        return None
    return (
        f"{min(busy, n_cores)} of {n_cores} cores were busy in the last minute: while they are, "
        f"{cfg.threads} threads wait for each other and take 1.6 to 10 times as long as one: "
        f"stop, and type threads={fitting}"
    )
