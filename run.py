"""Entry point: ``python run.py experiment=train_mnist_gan.yaml``."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from src.configuration.environment import require_environment

require_environment()  # before the imports that need it

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import src.configuration.resolvers  # noqa: F401
from src.configuration.command_line import (
    errors_as_sentences,
    errors_of_jobs,
    have_hydra_raise,
    let_argparse_take_any_help,
    translate,
)


@hydra.main(config_path="configs", config_name="config", version_base="1.3")
def run(cfg: DictConfig) -> float | None:
    """Call the task that ``cfg.task`` names, and return its metric for a search, if any."""
    # Here, because these imports take seconds that --help and mistakes in options can spare.
    from src.compare import compare
    from src.configuration.prepare import prepare, show_config
    from src.evaluate import evaluate
    from src.generate import generate
    from src.train import train
    from src.train_judge import train_judge

    job = HydraConfig.get()
    folder, is_swept = Path(job.runtime.output_dir), job.mode == RunMode.MULTIRUN
    name = f"{job.job.num} ({job.job.override_dirname.replace('++', '')})" if is_swept else ""
    have_hydra_raise(always=is_swept)
    apart = not job.launcher._target_.endswith(".BasicLauncher")
    of_job = partial(errors_of_jobs, name, folder=folder, has_own_process=apart)
    with of_job() if is_swept else errors_as_sentences(folder):
        prepare(cfg)
        if cfg.task != "train":  # which shows it once nothing is refused
            show_config(cfg)
        tasks: dict[str, Callable[[DictConfig], Any]] = {
            "train": train, "generate": generate, "evaluate": evaluate, "compare": compare,
            "train_judge": train_judge,
        }  # fmt: skip
        if cfg.task == "search":
            from src.search import search  # which alone needs a database

            tasks["search"] = search
        if cfg.task == "export":
            from src.export import export  # which alone needs onnx

            tasks["export"] = export
        return tasks[cfg.task](cfg)


if __name__ == "__main__":
    with errors_as_sentences():
        let_argparse_take_any_help()
        sys.argv[1:] = translate(sys.argv[1:])
        have_hydra_raise(always=True)
        run()
