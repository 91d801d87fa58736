"""A run that stops early goes on with the batch that it stopped before."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from src.callbacks.stop import StopOnSignal
from tests.toys import NUMBERS_BATCHES, SaveAt, fit_numbers


class InBatch(pl.Callback):
    """Acts at the end of one batch of the epoch ``epoch``."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.moment = epoch, batch

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if (trainer.current_epoch, arguments[-1]) == self.moment:
            self.act(trainer)


class Terminated(InBatch):
    def act(self, trainer: pl.Trainer) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class OutOfTime(InBatch):
    def act(self, trainer: pl.Trainer) -> None:
        trainer.should_stop = True


@pytest.mark.parametrize(
    ("callbacks", "options"),
    [([], {"max_steps": NUMBERS_BATCHES + 2}), ([OutOfTime(1, 1)], {})],
    ids=["max_steps", "max_time"],
)
@pytest.mark.parametrize("later", [{}, {"max_steps": 3 * NUMBERS_BATCHES}], ids=["", "more steps"])
def test_the_rest_of_an_epoch_that_a_limit_cut_is_not_lost(
    tmp_path: Path, callbacks: list[Any], options: dict[str, Any], later: dict[str, Any]
) -> None:
    saved = SaveAt(tmp_path / "saved.ckpt", "on_train_epoch_end", 1, 1)
    before = fit_numbers(StopOnSignal(tmp_path), *callbacks, saved, **options)
    assert len(before) == NUMBERS_BATCHES + 2
    assert before + fit_numbers(ckpt=tmp_path / "saved.ckpt", **later) == fit_numbers()


def test_a_signal_in_the_last_batch_saves_what_it_says_it_did(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        fit_numbers(StopOnSignal(tmp_path), Terminated(2, NUMBERS_BATCHES - 1))
    assert caught.value.code == 128 + signal.SIGTERM
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert fit_numbers(ckpt=last, max_epochs=3) == []
    assert fit_numbers(ckpt=last, max_epochs=4) == fit_numbers(max_epochs=4)[3 * NUMBERS_BATCHES :]
