"""What ends a run, and what to type so that it goes on."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer


def is_cut(trainer: pl.Trainer) -> bool:
    """Whether max_steps, max_time or a callback has ended an epoch before its last batch."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches = trainer.fit_loop.epoch_loop.batch_progress
    are_left = not batches.is_last_batch and batches.current.ready < trainer.num_training_batches
    return epochs.processed == epochs.ready and are_left


class Done(NamedTuple):
    """How much of a run is done: whole epochs, counted steps, and seconds of training."""

    epochs: int
    steps: int
    seconds: float


def done_before(checkpoint: Mapping[str, Any]) -> Done:
    """How much was done when ``checkpoint`` was saved; 0 seconds if no ``max_time`` has run."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    timer = checkpoint.get("callbacks", {}).get("Timer", {"time_elapsed": {"train": 0.0}})
    return Done(epochs, checkpoint["global_step"], timer["time_elapsed"]["train"])


def done_by(trainer: pl.Trainer) -> Done:
    """How much ``trainer`` has done after training; 0 seconds if no ``max_time`` has run."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    seconds = max((timer.time_elapsed() for timer in timers(trainer)), default=0.0)
    return Done(epochs.processed - is_cut(trainer), trainer.global_step, seconds)


def timers(trainer: pl.Trainer) -> list[Timer]:
    """The timers with a duration among the callbacks, the one of ``max_time`` included."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    found = [callback for callback in callbacks if isinstance(callback, Timer)]
    return [timer for timer in found if timer.time_remaining() is not None]


def unforeseen(trainer: pl.Trainer) -> list[str]:
    """The options and callbacks that may end training at a time that nobody knows beforehand."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    stops = any(isinstance(callback, EarlyStopping) for callback in callbacks)
    return ["trainer.max_time"] * bool(timers(trainer)) + ["EarlyStopping"] * stops


def reached(trainer: pl.Trainer, done: Done) -> dict[str, str]:
    """The options that must be raised for ``trainer`` to train on, and the values to exceed."""
    time = min((t.time_elapsed() + (t.time_remaining() or 0) for t in timers(trainer)), default=-1)
    limits = {
        "trainer.max_epochs=N": (done.epochs, trainer.max_epochs),
        "trainer.max_steps=N": (done.steps, trainer.max_steps),
        "trainer.max_time=DD:HH:MM:SS": (done.seconds, time),
    }
    return {
        option: clock(count) if isinstance(count, float) else str(count)
        for option, (count, limit) in limits.items()
        if limit is not None and 0 <= limit <= count
    }


def clock(seconds: float) -> str:
    """Write seconds as DD:HH:MM:SS, the form of ``trainer.max_time``."""
    duration = timedelta(seconds=int(seconds))
    hours, rest = divmod(duration.seconds, 3600)
    return f"{duration.days:02}:{hours:02}:{rest // 60:02}:{rest % 60:02}"
