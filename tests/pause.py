"""A callback that holds a run at a step, so that a test can meet it there."""

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from src.callbacks.stop import StopOnSignal

PATIENCE_S = 300


class Pause(pl.Callback):
    """Waits at step ``at`` for a signal or the file go_on, and after that at ``end`` for its end.

    A job that SLURM has started again waits for nothing.
    """

    def __init__(self, folder: str, at: int, end: int) -> None:
        self.folder, self.at, self.end = Path(folder), at, end

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        (stop,) = (each for each in trainer.callbacks if isinstance(each, StopOnSignal))
        step = trainer.global_step
        if "SLURM_RESTART_COUNT" not in os.environ:
            deadline = time.monotonic() + PATIENCE_S
            while self.waits(step, stop) and time.monotonic() < deadline:
                time.sleep(0.02)

    def waits(self, step: int, stop: StopOnSignal) -> bool:
        met = self.folder / "paused"
        if step == self.at:
            met.touch()
            return not (stop.received or (self.folder / "go_on").exists())
        return step == self.end and met.exists()
