"""A command within a command: what a search does for each of its trials."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.configuration.command_line import translate
from src.configuration.prepare import compose_run, prepare


@contextmanager
def nested(folder: Path, arguments: Sequence[str]) -> Iterator[DictConfig]:
    """Have this process be ``python run.py ARGUMENTS`` in ``folder``, with the ranks it starts."""
    outer, words, environment = HydraConfig.instance().cfg, sys.argv[1:], dict(os.environ)
    n_threads, notes = torch.get_num_threads(), logging.FileHandler(folder / "run.log", delay=True)
    try:
        cfg = compose_run(folder, *arguments)
        prepare(cfg)
        sys.argv[1:] = translate(arguments)  # which Lightning types again for each other rank
        logging.getLogger().addHandler(notes)
        yield cfg
    finally:
        logging.getLogger().removeHandler(notes)
        notes.close()
        if dist.is_initialized():
            dist.destroy_process_group()
        torch.set_num_threads(n_threads)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[1:], HydraConfig.instance().cfg = words, outer
