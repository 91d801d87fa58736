"""Losses on their way from the steps to loggers, curves and the screen."""

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from src.errors import InputError
from src.models.generative import GenerativeModel
from src.reports.curves import draw_curves
from src.reports.terminal import command
from src.runs.limits import is_cut

log = logging.getLogger(__name__)
Means = dict[str, float]
WORTH_A_WORD_S = 10.0  # an epoch that is shorter varies by itself, and its slowness costs nobody


def publish(trainer: pl.Trainer, metrics: Means) -> None:
    """Send metrics to every logger, on the one axis of all: the steps that Lightning counts."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=trainer.global_step)


def mean_over_ranks(trainer: pl.Trainer, values: Iterable[float]) -> list[float]:
    means = torch.tensor([*values], device=trainer.strategy.root_device)
    return trainer.strategy.reduce(means, reduce_op="mean").tolist()


class DivergenceError(InputError):
    """A loss that is NaN or infinite."""


class LossRecord(Callback):
    """Keeps the losses that the steps return on the device, and reads them back now and then.

    Every ``log_every_n_steps`` counted steps the means since the last time go to the loggers,
    with images per second (over all devices), learning rates and what is scheduled. Every epoch
    adds a row to ``history``, which travels in the checkpoint, and redraws ``curves.png``. A loss
    that is not finite stops the run, always before a checkpoint is written.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.latest: Means = {}
        self.history: list[Means] = []
        self.names: list[str] = []
        self.pending: dict[str, list[Tensor]] = {}
        self.sums: Means = {}  # of this epoch
        self.counts: dict[str, int] = {}
        self.evaluated: list[Tensor] = []  # (losses, 1) times images
        self.validation: Means = {}
        self.n_images, self.started_at = 0, perf_counter()
        self.n_images_seen, self.trained_s = 0, 0.0  # since this process started
        self.before = 0, 0.0  # both of them, when the epoch began
        self.fastest = 0.0  # images per second, of the epochs of this process
        self.has_warned = False

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, GenerativeModel)
        if not self.names:  # Lightning calls this once for fit and again for test
            self.names = [*pl_module.loss_names]
            self.pending = {name: [] for name in self.names}
            self.start_epoch()

    def start_epoch(self) -> None:
        self.sums, self.counts = dict.fromkeys(self.names, 0.0), dict.fromkeys(self.names, 0)

    @override
    def state_dict(self) -> dict[str, Any]:
        # No copies: ``on_save_checkpoint``, which Lightning calls after this, still adds to them.
        return {name: getattr(self, name) for name in ("history", "sums", "counts")}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.sums = state_dict["history"], state_dict["sums"]
        self.counts = state_dict["counts"]

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the row of an epoch that was cut short: it is written when the epoch ends."""
        epochs: Any = trainer.fit_loop.epoch_progress.current
        self.history = [row for row in self.history if row["epoch"] <= epochs.processed]

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.n_images, self.started_at = 0, perf_counter()
        self.before = self.n_images_seen, self.trained_s

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.paused_at = perf_counter()

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started_at += perf_counter() - self.paused_at

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.n_images += len(batch[1]) * trainer.world_size
        for name, loss in outputs.items():
            self.pending[name].append(loss)
        if len(self.pending[self.names[0]]) >= trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self.report(trainer)

    def report(self, trainer: pl.Trainer) -> None:
        """Read the pending losses back, refuse NaN, and publish their means."""
        names = [name for name in self.names if self.pending[name]]
        if not names:
            return
        losses = {name: torch.stack(self.pending[name]).tolist() for name in names}
        means = mean_over_ranks(trainer, [sum(each) / len(each) for each in losses.values()])
        if not all(map(math.isfinite, means)):
            raise self.not_finite(trainer.global_step, losses)
        self.pending = {name: [] for name in self.names}
        for name, mean in zip(names, means, strict=True):
            self.sums[name] += mean * len(losses[name])
            self.counts[name] += len(losses[name])
            self.latest[f"train/{name}"] = mean
        elapsed_s = perf_counter() - self.started_at
        self.latest["images_per_second"] = self.n_images / elapsed_s
        self.n_images_seen += self.n_images
        self.trained_s += elapsed_s
        self.n_images, self.started_at = 0, perf_counter()
        publish(trainer, self.latest | learning_rates(trainer) | schedules(trainer))

    def warn_if_slow(self, trainer: pl.Trainer) -> None:
        """Say once that an epoch ran at under half of the speed of the fastest before it."""
        n_images, seconds = self.n_images_seen - self.before[0], self.trained_s - self.before[1]
        if seconds < WORTH_A_WORD_S:
            return
        speed = n_images / seconds
        if speed < self.fastest / 2 and not self.has_warned and trainer.is_global_zero:
            self.has_warned = True
            on_cpu = trainer.strategy.root_device.type == "cpu"
            advice = self.advice() if on_cpu and torch.get_num_threads() > 1 else ""
            log.warning(
                f"epoch {trainer.current_epoch + 1} ran at {speed / self.fastest:.0%} of the speed "
                f"of the fastest: other processes may use this machine{advice}"
            )
        self.fastest = max(self.fastest, speed)

    def advice(self) -> str:
        again = command(resume=self.run_dir, threads=1)
        return f", and threads wait for each other: type Ctrl-C, then {again}"

    def not_finite(self, step: int, losses: dict[str, list[float]]) -> DivergenceError:
        """Name the first loss that is NaN or infinite, in lists that end at ``step``."""
        n_steps = len(losses.get(self.names[0], []))
        found = [
            (step - (len(each) - 1 - i) * n_steps // len(each), name)
            for name, each in losses.items()
            for i, loss in enumerate(each)
            if not math.isfinite(loss)
        ]
        bad_step, name = min(found, default=(step, "a loss on another device"))
        last = self.run_dir / "checkpoints" / "last.ckpt"
        return DivergenceError(
            f"{name} is not finite at step {bad_step}: the run was stopped, and "
            f"{f'{last} is the last good checkpoint' if last.is_file() else 'no checkpoint exists'}"
            "; start again with a smaller model.lr, or a penalty such as model/penalties=[r1,r2]"
        )

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.report(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.report(trainer)
        self.warn_if_slow(trainer)
        means = {f"train/{name}": self.sums[name] / n for name, n in self.counts.items() if n}
        if not is_cut(trainer):
            self.start_epoch()
        pl_module.log_dict(means, logger=False)
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        self.history.append(row | means | self.validation)
        self.validation = {}
        if trainer.is_global_zero:
            names = trainer.lightning_module.loss_names
            draw_curves(self.history, self.run_dir / "curves.png", names=names)  # type: ignore[arg-type]

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        losses = [outputs[name] for name in self.names]
        self.evaluated.append(torch.stack([*losses, torch.ones_like(losses[0])]) * len(batch[1]))

    on_test_batch_end = on_validation_batch_end

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validation = self.conclude(trainer, pl_module, split="val")

    @override
    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.conclude(trainer, pl_module, split="test")

    def conclude(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *, split: str) -> Means:
        """Publish the means over all images of a split, except those of the sanity check."""
        sums = mean_over_ranks(trainer, torch.stack(self.evaluated).sum(dim=0).tolist())
        self.evaluated = []
        if trainer.sanity_checking:
            return {}
        means = {f"{split}/{name}": sums[i] / sums[-1] for i, name in enumerate(self.names)}
        if not all(map(math.isfinite, means.values())):
            self.report(trainer)  # which names the first bad step, if training had one
            last = {name: [means[f"{split}/{name}"]] for name in self.names}
            raise self.not_finite(trainer.global_step, last)
        pl_module.log_dict(means, logger=False)
        publish(trainer, means)
        return means


def learning_rates(trainer: pl.Trainer) -> Means:
    names: Any = trainer.lightning_module.optimizer_names
    rates = [float(optimizer.param_groups[0]["lr"]) for optimizer in trainer.optimizers]
    return {f"lr/{name}": rate for name, rate in zip(names, rates, strict=True)}


def schedules(trainer: pl.Trainer) -> Means:
    scheduled: Means = trainer.lightning_module.scheduled  # type: ignore[assignment]
    return {f"schedule/{name}": value for name, value in scheduled.items()}
