"""Stops in mid-epoch, by Ctrl-C, SIGTERM or a limit: what is saved goes on with the next batch."""

import logging
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from typing_extensions import override

from src.reports.terminal import command
from src.runs.limits import is_cut

log = logging.getLogger(__name__)
SIGNALS = signal.SIGINT, signal.SIGTERM


class StopOnSignal(Callback):
    """Stops between two batches, so that the checkpoint continues exactly; twice stops at once.

    Lightning counts an epoch that max_steps or max_time cuts short as done. In a checkpoint it is
    still open, so that a longer limit trains on the rest of it.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.received: int | None = None
        self.former: dict[int, Any] = {}

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.former = {number: signal.signal(number, self.receive) for number in SIGNALS}

    def receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.restore()

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.is_time(trainer):
            self.leave(trainer)

    def is_time(self, trainer: pl.Trainer) -> bool:
        """Whether any rank was told to stop; several ranks ask each other only now and then."""
        received = self.received is not None
        if trainer.world_size == 1:
            return received
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return False
        return trainer.strategy.reduce_boolean_decision(received, all=False)

    def leave(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.run_dir / "checkpoints" / "last.ckpt", weights_only=False)
        if not trainer.is_global_zero:
            raise SystemExit(0)  # anything else would have Lightning kill rank 0
        step, go_on = trainer.global_step, command(resume=self.run_dir)
        log.info(f"\nstopped and saved at step {step}: {go_on}")
        raise SystemExit(128 + (self.received or signal.SIGTERM))

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave after a signal, so that no test follows."""
        self.restore()
        if self.received is not None and trainer.world_size == 1:
            self.leave(trainer)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if is_cut(trainer):
            for count in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
                count["processed"] -= 1
                count["completed"] = min(count["completed"], count["processed"])

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.restore()

    def restore(self) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)
        self.former = {}
