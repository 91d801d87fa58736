"""Stops and saves between two batches, by a signal or a limit: what is saved goes on exactly."""

import logging
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from typing_extensions import override

from src.errors import StoppedError
from src.reports.terminal import command
from src.runs.folders import LAST
from src.runs.limits import is_cut

log = logging.getLogger(__name__)
STOPPING = signal.SIGINT, signal.SIGTERM
OF_CLUSTERS = signal.SIGUSR1, signal.SIGUSR2  # that a job's time is nearly over
SIGNALS = *STOPPING, *OF_CLUSTERS


class StopOnSignal(Callback):
    """Saves between two batches, so that the checkpoint continues exactly; then stops or goes on.

    Ctrl-C and SIGTERM stop, twice at once. In a job of SLURM, SIGTERM announces that the job will
    be killed, and whoever exits by himself is not started again: there it saves and trains on.
    USR1 and USR2 save, then do what they meant before, as Lightning and submitit then queue again.

    Lightning counts an epoch that max_steps or max_time cuts short as done. In a checkpoint it is
    still open, so that a longer limit trains on the rest of it. Where max_steps is given, Lightning
    also counts an epoch twice that was over when it was saved: here it is counted once.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.received: set[int] = set()
        self.former: dict[int, Any] = {}
        self.stopping: set[int] = set()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        count_once(trainer)
        in_slurm = "SLURM_JOB_ID" in os.environ
        self.stopping = {signal.SIGINT} if in_slurm else {*STOPPING}
        self.former = {number: signal.signal(number, self.receive) for number in SIGNALS}

    def receive(self, number: int, frame: FrameType | None) -> None:
        self.received.add(number)
        if number in self.stopping:
            self.restore()

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        several = trainer.world_size > 1
        if several and trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return  # ranks ask each other only now and then
        self.obey(trainer)

    def obey(self, trainer: pl.Trainer) -> None:
        """Save, then stop or go on, if any rank was told to."""
        if not (due := self.due(trainer)):
            return
        trainer.save_checkpoint(self.run_dir / LAST, weights_only=False)
        if due & self.stopping:
            self.leave(trainer, max(due & self.stopping))
        self.received -= due
        if trainer.is_global_zero:
            log.info(f"\nsaved at step {trainer.global_step}, training goes on")
        for number in sorted(due & {*OF_CLUSTERS}):
            self.pass_on(trainer, number)

    def due(self, trainer: pl.Trainer) -> set[int]:
        """The signals that any rank has received."""
        if trainer.world_size == 1:
            return {*self.received}
        flags = torch.tensor(
            [float(number in self.received) for number in SIGNALS],
            device=trainer.strategy.root_device,
        )
        flags = trainer.strategy.reduce(flags, reduce_op="max")
        return {number for number, flag in zip(SIGNALS, flags.tolist(), strict=True) if flag}

    def leave(self, trainer: pl.Trainer, number: int) -> None:
        if not trainer.is_global_zero:
            raise StoppedError(0)  # anything else would have Lightning kill rank 0
        step, go_on = trainer.global_step, command(resume=self.run_dir)
        log.info(f"\nstopped and saved at step {step}: {go_on}")
        raise StoppedError(128 + number)

    def pass_on(self, trainer: pl.Trainer, number: int) -> None:
        """Have the handler act that was there before; where it ends one rank, end all."""
        handler = self.former.get(number)
        if not callable(handler):
            return
        ends = True
        try:
            handler(number, None)
            ends = False
        finally:
            if trainer.world_size > 1:
                ends = trainer.strategy.reduce_boolean_decision(ends, all=False)
        if ends:
            raise SystemExit(0)
        if trainer.is_global_zero:  # Lightning's own saves once more, for those without last.ckpt
            for path in Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt"):
                path.unlink()

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave after a signal, so that no test follows."""
        self.obey(trainer)
        self.restore()

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


def count_once(trainer: pl.Trainer) -> None:
    """Have a resumed run begin the next epoch, as without ``max_steps``, if the last one is over.

    Lightning takes every run with ``max_steps`` for one that resumes in the middle of an epoch.
    """
    loop = trainer.fit_loop
    epochs: Any = loop.epoch_progress.current
    if loop.restarting and epochs.ready == epochs.started == epochs.processed:
        loop._restarting = loop.epoch_loop.restarting = False
        loop.update_restart_stage()
        if epochs.completed < epochs.processed:
            loop.epoch_progress.increment_completed()
