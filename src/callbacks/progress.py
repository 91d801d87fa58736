"""What a person sees while a run goes on."""

import logging
from datetime import timedelta
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar
from typing_extensions import override

from src.callbacks.losses import LossRecord
from src.callbacks.quality import beside_real

log = logging.getLogger(__name__)


def make_progress(record: LossRecord, *, bar: bool) -> Callback:
    """Make a progress bar, as for a terminal, or one plain line per epoch, as for a log file."""
    return ProgressBar(record) if bar else EpochLines(record)


class ProgressBar(RichProgressBar):
    """Lightning's bar, with losses and images per second as the record has them."""

    def __init__(self, record: LossRecord) -> None:
        super().__init__(leave=True)
        self.record = record

    @override
    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        latest = {name.removeprefix("train/"): value for name, value in self.record.latest.items()}
        rate = latest.pop("images_per_second", None)
        images_per_second = {} if rate is None else {"images/s": f"{rate:,.0f}"}
        return {"step": f"{trainer.global_step:,}", **latest, **images_per_second}


class EpochLines(Callback):
    """One line per epoch: step, losses, speed, time left."""

    def __init__(self, record: LossRecord) -> None:
        self.record = record
        self.started_at, self.first_epoch = 0.0, 0

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started_at, self.first_epoch = perf_counter(), trainer.current_epoch

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            log.info(self.line(trainer))

    def line(self, trainer: pl.Trainer) -> str:
        row = self.record.history[-1]
        losses = "  ".join(
            f"{name.removeprefix('train/')} {value:.3f}"
            for name, value in row.items()
            if name.startswith(("train/", "val/"))
        )
        last = trainer.max_epochs or -1
        of = f"/{last}" if last > 0 else ""
        parts = [
            f"epoch {row['epoch']}{of}",
            f"step {row['step']:,}",
            losses,
            *beside_real(trainer.callback_metrics),
        ]
        return "  ".join([*parts, self.pace(trainer)])

    def pace(self, trainer: pl.Trainer) -> str:
        """Images per second over all of this run, and the time that its epochs will still take."""
        elapsed_s = perf_counter() - self.started_at
        speed = f"{self.record.n_images_seen / elapsed_s:,.0f} images/s"
        left = (trainer.max_epochs or 0) - trainer.current_epoch - 1
        if left < 1:
            return speed
        done = trainer.current_epoch + 1 - self.first_epoch
        return f"{speed}  {timedelta(seconds=round(elapsed_s / done * left))} left"
