"""Train a model from its configuration to a reviewed run."""

import logging
import math
import re
import shlex
from pathlib import Path
from traceback import walk_tb
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Group
from rich.panel import Panel
from rich.table import Table

from src.callbacks.losses import DivergenceError, LossRecord
from src.callbacks.quality import Quality, beside_real
from src.class_names import listed
from src.configuration.build import build_datamodule, build_model, build_trainer
from src.configuration.check import sampling_options
from src.configuration.command_line import typed
from src.configuration.container import plain, tree
from src.configuration.prepare import options_as_typed, show_config
from src.configuration.threads import doubt
from src.datamodules.data_set import DataSet
from src.datamodules.in_memory import InMemoryDataModule
from src.errors import InputError
from src.images import Labelled
from src.loggers.wandb import close_wandb
from src.models.generative import GenerativeModel
from src.networks.facts import evaluating, mixes_samples
from src.reports.terminal import command, quoted, setting, show
from src.runs.checkpoints import load_checkpoint, require_same_model
from src.runs.folders import LAST, find_checkpoint
from src.runs.limits import Done, done_before, done_by, reached, unforeseen
from src.runs.record import claim_folder, release_folder

log = logging.getLogger(__name__)
LOST = re.compile(r"gloo|NCCL|onnection (closed|reset|refused)|Timed out waiting")


def train(cfg: DictConfig) -> float | None:
    """Train a model, then test it; return the metric that ``cfg.optimized_metric`` names, if any.

    A run of a search whose losses diverge returns infinity, so that the others go on.
    """
    checkpoint, done = checkpoint_to_continue(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    model, datamodule, trainer = *build_model_and_data(cfg, checkpoint), build_trainer(cfg)
    if not trainer.fast_dev_run:  # type: ignore[attr-defined]
        say_what_ends_early(cfg, trainer, done)
        claim(cfg, starts_from=checkpoint)
    show_config(cfg)
    say_if_cores_are_taken(cfg, trainer)
    try:
        metrics = fit_and_test(cfg, model, datamodule, trainer, checkpoint)
    except InputError as error:
        release_folder(Path(cfg.run_dir), error, resumes=cfg.resume is not None)
        if not isinstance(error, DivergenceError) or HydraConfig.get().mode != RunMode.MULTIRUN:
            raise
        log.error("%s", error)  # noqa: TRY400 - one point of a search, whose others go on
        return math.inf
    finally:
        close_wandb()
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        rank_zero_only(log.info)("it runs: training, validation and test, nothing of which is kept")
    elif trainer.is_global_zero:
        more = [*reached(trainer, done_by(trainer))]
        show(report(Path(cfg.run_dir), metrics, model, more=more))
    return None if trainer.fast_dev_run else to_optimize(metrics, cfg.optimized_metric)  # type: ignore[attr-defined]


def build_model_and_data(
    cfg: DictConfig, checkpoint: Path | None
) -> tuple[GenerativeModel, pl.LightningDataModule]:
    """Build both for a run from ``checkpoint``, and tell the model what its classes are called."""
    model, datamodule = build_model(cfg), build_datamodule(cfg)
    if isinstance(datamodule, InMemoryDataModule):
        model.class_names = [*datamodule.dataset.class_names]
    require_trainable(model, datamodule)
    if checkpoint == Path(cfg.run_dir) / LAST:
        require_known_classes(checkpoint, model)
    return model, datamodule


def require_trainable(model: GenerativeModel, datamodule: pl.LightningDataModule) -> None:
    """Refuse optimizers and networks that would only fail once the data are there."""
    try:
        model.configure_optimizers()
    except Exception as error:  # what a class makes of foreign values is anybody's guess
        raise InputError(
            f"the optimizers cannot be built ({error}): type other values of model.lr, model.b1, "
            "model.b2, or of the optimizers in model"
        ) from error
    if isinstance(datamodule, InMemoryDataModule):
        if datamodule.batch_size == 1 and mixes_samples(model):
            raise InputError(
                "datamodule.batch_size=1 leaves batch normalization nothing to compare: type "
                "datamodule.batch_size=2 or more"
            )
        try_on(model, datamodule.dataset, img_size=datamodule.img_size)


def try_on(model: GenerativeModel, dataset: DataSet, *, img_size: int) -> None:
    """Evaluate the model on two blank images, as the first and the last class of a data set."""
    blank = torch.zeros(2, dataset.channels, img_size, img_size)
    labels = torch.tensor([0, dataset.n_classes - 1])
    try:
        with evaluating(model), torch.random.fork_rng(devices=[]):
            model.evaluate(Labelled(blank, labels))
    except (RuntimeError, ValueError, IndexError) as error:  # which torch raises for shapes
        raise InputError(
            f"the networks do not fit images of {dataset.channels} x {img_size} x {img_size} in "
            f"{dataset.n_classes} classes ({error}): leave such sizes out of the parts of model, "
            "or type HYDRA_FULL_ERROR=1 in front of the command to see where"
        ) from error


def claim(cfg: DictConfig, *, starts_from: Path | None) -> None:
    """Claim the run folder for this run alone, and record its options there."""
    options, resumes = options_as_typed(), cfg.resume is not None
    if resumes and typed("resume", options) is None:
        return  # SLURM has started it again, and all is on record
    if not resumes:
        options.append(f"threads={cfg.threads}")  # torch may choose others when the run goes on
    if starts_from is not None and not resumes:
        # By its path, for ``ckpt=latest`` is soon another one.
        options.append(f"ckpt={quoted(starts_from.absolute())}")
    if cfg.data is not None and not resumes:
        options.append(f"data={quoted(cfg.data)}")
    config = plain(cfg)
    claim_folder(Path(cfg.run_dir), options, config, picture=tree(config), resumes=resumes)


def fit_and_test(
    cfg: DictConfig,
    model: GenerativeModel,
    datamodule: pl.LightningDataModule,
    trainer: pl.Trainer,
    checkpoint: Path | None,
) -> dict[str, Any]:
    """Train and, if ``cfg.test_after_training``, test; return the last metrics of both.

    Raises:
        InputError: if Lightning refuses the options, another process has ended, or the run folder
            cannot be written.
    """
    try:
        trainer.fit(model, datamodule, ckpt_path=checkpoint, weights_only=True)
        metrics = last_measured(trainer) | trainer.callback_metrics
        if cfg.test_after_training:
            trainer.test(model, datamodule, verbose=False)
            metrics |= trainer.callback_metrics
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        if trainer.world_size > 1 and LOST.search(str(error)):
            raise InputError(
                f"another process of this run has ended, or its host cannot be reached "
                f"({str(error).strip().splitlines()[0]}): start all again with "
                f"{setting('resume', cfg.run_dir)}"
            ) from ConnectionError(str(error))  # which is no mistake in the options
        if not is_of_lightning(error):
            raise
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(
            f"the run folder cannot be written ({error}): free some space, "
            f"then type {command(resume=cfg.run_dir)}"
        ) from error
    return metrics


def is_of_lightning(error: Exception) -> bool:
    """Whether Lightning itself has raised ``error``, as it does to refuse options."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].startswith(("pytorch_lightning.", "lightning_fabric."))


def checkpoint_to_continue(cfg: DictConfig) -> tuple[Path | None, Done | None]:
    """Find and check the checkpoint that ``resume`` or ``ckpt`` names, and what it has done.

    Both are None for a run that starts from the beginning.
    """
    path = Path(cfg.run_dir) / LAST
    if cfg.resume is None or not path.is_file():
        if cfg.resume is not None:
            rank_zero_only(print)(f"{cfg.run_dir} has no checkpoint yet: starting it again")
        if cfg.ckpt is None:
            return None, None
        path = find_checkpoint(cfg.ckpt, logs=Path(cfg.work_dir) / "logs")
    checkpoint = load_checkpoint(path)
    if "sampler" in checkpoint:
        raise InputError(
            f"ckpt={cfg.ckpt} holds what generates alone, without the rest of its training: name a "
            "checkpoint that task=train has left, or type task=generate"
        )
    model = plain(cfg)["model"]
    require_same_model(checkpoint, model, path=path, sampling=sampling_options(model))
    require_same_batches(checkpoint, cfg, path=path)
    return path, done_before(checkpoint)


def require_known_classes(path: Path, model: GenerativeModel) -> None:
    """Refuse to resume with other classes, which would take the places of those learned."""
    names = load_checkpoint(path).get("class_names", [*model.class_names])
    if names != [*model.class_names]:
        raise InputError(
            f"{path} has learned the classes {listed(names)}, and the data have "
            f"{listed(model.class_names)}: give the folders their former names, or type "
            f"{command(ckpt=path)} with the data, for a new run that goes on from these weights"
        )


def require_same_batches(checkpoint: dict[str, Any], cfg: DictConfig, *, path: Path) -> None:
    """Refuse to go on with other batches in the middle of an epoch, which is counted in batches."""
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    saved, now = checkpoint["hyper_parameters"], plain(cfg)
    is_open = batches["current"]["processed"] and not batches["is_last_batch"]
    if is_open and what_is_a_batch(saved) != what_is_a_batch(now):
        raise InputError(
            f"{path} was saved in the middle of an epoch, which goes on in the batches that it was "
            f"begun with: keep datamodule.batch_size={saved['datamodule'].get('batch_size')} and "
            "the devices of trainer until the epoch is over"
        )


def what_is_a_batch(config: dict[str, Any]) -> list[Any]:
    """The options on which it depends how many images all devices take at once."""
    devices = "gpus", "accelerator", "devices", "num_nodes"
    return [config["datamodule"].get("batch_size"), *map(config["trainer"].get, devices)]


def say_what_ends_early(cfg: DictConfig, trainer: pl.Trainer, done: Done | None) -> None:
    """Say that a limit is reached already, or that one may come before the schedules end.

    Raises:
        InputError: if ``ckpt`` names a run that has nothing left to train.
    """
    limits = reached(trainer, done) if done else {}
    if limits:
        options = ", and ".join(f"{option} with more than {n}" for option, n in limits.items())
        ended = f"{cfg.resume or cfg.ckpt} has nothing left to train: type {options}"
        if cfg.resume is None:
            raise InputError(ended)
        rank_zero_only(print)(ended)
    elif cfg.model.get("schedules") and (enders := unforeseen(trainer)):
        rank_zero_only(print)(
            f"{' and '.join(enders)} may end the run before model.schedules, which count images: "
            "type trainer.max_epochs=N with as many as you expect"
        )


def say_if_cores_are_taken(cfg: DictConfig, trainer: pl.Trainer) -> None:
    """Say so, where a run on the CPU will be slow for it."""
    if trainer.strategy.root_device.type == "cpu" and (said := doubt(cfg)):
        rank_zero_only(print)(said)


def last_measured(trainer: pl.Trainer) -> dict[str, Any]:
    """The last losses and quality on record, also if a resumed run had no epoch left to train."""
    metrics: dict[str, Any] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, LossRecord) and callback.history:
            metrics |= callback.history[-1]
        elif isinstance(callback, Quality):
            metrics |= callback.latest
    return metrics


def to_optimize(metrics: dict[str, Any], name: str | None) -> float | None:
    """The metric ``name`` as a number; None if no name is given."""
    if name is None:
        return None
    if name not in metrics:
        raise InputError(f"optimized_metric={name} was not logged: choose of {', '.join(metrics)}")
    return float(metrics[name])


def report(
    run_dir: Path, metrics: dict[str, Any], model: GenerativeModel, *, more: list[str]
) -> Panel:
    """Show the final losses of a run, where its files are, and what to type next.

    Args:
        more: the options with which the run, once resumed, trains on.
    """
    run = run_dir.relative_to(Path.cwd()) if run_dir.is_relative_to(Path.cwd()) else run_dir
    labels = {"labels": model.class_names[5]} if model.n_classes > 5 else {}
    losses = Table.grid(padding=(0, 2))
    losses.add_row("loss of", *model.loss_names.values())
    for split in ("train", "val", "test"):
        keys = [f"{split}/{name}" for name in model.loss_names]
        losses.add_row(split, *(f"{metrics[key]:.4f}" for key in keys if key in metrics))
    lines = [
        *beside_real(metrics),
        "\nlook at samples.gif, curves.png and samples/ in the run folder, or type",
        f"  {command(task='generate', **labels, ckpt=run)}",
        f"  {command(task='evaluate', ckpt=run)}",
        f"  {command(resume=run)} {' '.join(more or ['trainer.max_epochs=N'])}",
    ]
    if not (run_dir / LAST).is_file():
        lines = ["no checkpoint was saved: type callbacks=default to keep what is learned"]
    if list(run_dir.glob("wandb/offline-run-*")):
        folder = shlex.quote(f"{run}/wandb/")
        lines += [f"  wandb leet {folder}latest-run", f"  wandb sync {folder}offline-run-*"]
    if (run_dir / "tensorboard").exists():
        lines += [f"  tensorboard --logdir {shlex.quote(f'{run}/tensorboard')}"]
    return Panel(Group(losses, *lines), title=str(run), expand=False)
