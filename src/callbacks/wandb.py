"""What a wandb run can show besides losses: histograms of the networks, the code, checkpoints."""

import logging
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor
from typing_extensions import override

from src.loggers.wandb import Forgiving


class WatchModel(Callback):
    """Logs histograms of trained weights and their gradients every ``log_freq`` batches.

    Not ``wandb.watch``: its hooks follow a forward pass that a model as a whole never makes, know
    nothing of the step axis, and let a lost connection end the training.
    """

    def __init__(
        self, log: Literal["gradients", "parameters", "all"] = "all", log_freq: int = 100
    ) -> None:
        self.kinds = ("gradients", "parameters") if log == "all" else (log,)
        self.log_freq = log_freq

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        *_, batch_idx = args
        if batch_idx % self.log_freq == 0 and (logger := wandb_logger(trainer)) is not None:
            logger.log_metrics(self.histograms(pl_module), step=trainer.global_step)

    def histograms(self, module: torch.nn.Module) -> dict[str, Any]:
        trained = [named for named in module.named_parameters() if named[1].requires_grad]
        charts: dict[str, Any] = {}
        if "parameters" in self.kinds:
            charts |= {f"parameters/{name}": histogram(weight) for name, weight in trained}
        if "gradients" in self.kinds:
            slopes = {name: weight.grad for name, weight in trained}
            charts |= {f"gradients/{n}": histogram(s) for n, s in slopes.items() if s is not None}
        return charts


class UploadCodeAsArtifact(Callback):
    """Uploads the Python files below ``code_dir`` as they are when training starts."""

    def __init__(self, code_dir: str) -> None:
        self.code_dir = Path(code_dir)

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (logger := wandb_logger(trainer)) is not None and not logger.experiment.disabled:
            with Forgiving("uploading the code"):
                copy = Path(logger.experiment.settings.sync_dir) / "code"
                files = self.code_dir.rglob("*.py")
                upload(
                    logger, "project-source", "code", [self.copied(file, copy) for file in files]
                )

    def copied(self, file: Path, folder: Path) -> tuple[str, Path]:
        """Name and frozen copy of a file that may change before an offline run is uploaded."""
        name = file.relative_to(self.code_dir)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        return str(name), Path(shutil.copyfile(file, folder / name))


class UploadCheckpointsAsArtifact(Callback):
    """Uploads checkpoints when training ends: those a metric chose, or all below ``ckpt_dir``."""

    def __init__(self, ckpt_dir: str, upload_best_only: bool = True) -> None:  # noqa: FBT001, FBT002
        self.ckpt_dir = Path(ckpt_dir)
        self.upload_best_only = upload_best_only

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (logger := wandb_logger(trainer)) is not None and not logger.experiment.disabled:
            every = sorted(self.ckpt_dir.rglob("*.ckpt"))
            files = best_checkpoints(trainer) if self.upload_best_only else every
            name = f"checkpoints-{logger.version}"
            with Forgiving("uploading checkpoints"):
                upload(logger, name, "model", [(file.name, file) for file in files])


def wandb_logger(trainer: pl.Trainer) -> WandbLogger | None:
    """The run's wandb logger, on rank 0; where there is none, one warning says so."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
    if not loggers and not isinstance(trainer.logger, DummyLogger):  # fast_dev_run
        warn_of_no_logger()
    return loggers[0] if loggers and trainer.is_global_zero else None


@cache
def warn_of_no_logger() -> None:
    logging.getLogger(__name__).warning("callbacks=wandb does nothing: type logger=wandb as well")


def histogram(values: Tensor) -> wandb.Histogram:
    flat = values.detach().float().flatten().cpu()
    counts, edges = torch.histogram(flat[flat.isfinite()], bins=64)
    return wandb.Histogram(np_histogram=(counts.numpy(), edges.numpy()))


def best_checkpoints(trainer: pl.Trainer) -> list[Path]:
    """What each ModelCheckpoint holds best: by its metric if it has one, else the last."""
    savers = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    # A checkpoint that was continued names its own run's best one, or any file at all.
    own = {each: Path(each.best_model_path) for each in savers if is_own(each)}
    best = [path for each, path in own.items() if each.monitor is not None]
    return best or [*own.values()]


def is_own(saver: ModelCheckpoint) -> bool:
    """Whether the best checkpoint lies where the saver of this run writes."""
    best = Path(saver.best_model_path)
    return best.suffix == ".ckpt" and best.resolve().parent == Path(saver.dirpath or "").resolve()


def upload(logger: WandbLogger, name: str, kind: str, files: Iterable[tuple[str, Path]]) -> None:
    artifact = wandb.Artifact(name, type=kind)
    for inner_name, file in files:
        # "immutable" reads the file where it is: otherwise a copy is left in the home folder.
        artifact.add_file(str(file), name=inner_name, policy="immutable")
    logger.experiment.log_artifact(artifact)
