"""Entry point: ``python run.py experiment=train_mnist_gan.yaml``."""

import sys

from src.configuration.environment import require_environment

require_environment()  # before the imports that need it

import hydra
from omegaconf import DictConfig

import src.configuration.resolvers  # noqa: F401
from src.configuration.command_line import (
    errors_as_sentences,
    have_hydra_raise,
    let_argparse_take_any_help,
    translate,
)


@hydra.main(config_path="configs", config_name="config", version_base="1.3")
def run(cfg: DictConfig) -> float | None:
    """Call the task that ``cfg.task`` names, and return its metric for a search, if any."""
    # Here, because these imports take seconds that --help and mistakes in options can spare.
    from src.compare import compare
    from src.configuration.prepare import prepare
    from src.evaluate import evaluate
    from src.generate import generate
    from src.train import train
    from src.train_judge import train_judge

    have_hydra_raise(always=False)
    with errors_as_sentences():
        prepare(cfg)
        tasks = {
            "train": train, "generate": generate, "evaluate": evaluate, "compare": compare,
            "train_judge": train_judge,
        }  # fmt: skip
        return tasks[cfg.task](cfg)


if __name__ == "__main__":
    with errors_as_sentences():
        sys.argv[1:] = translate(sys.argv[1:])
        have_hydra_raise(always=True)
        let_argparse_take_any_help()
        run()
