"""A run that stops early goes on with the batch that it stopped before."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from src.callbacks.stop import StopOnSignal
from tests.datamodules.test_resume import BATCHES, SaveAt, fit


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
    [([], {"max_steps": BATCHES + 2}), ([OutOfTime(1, 1)], {})],
    ids=["max_steps", "max_time"],
)
@pytest.mark.parametrize("later", [{}, {"max_steps": 3 * BATCHES}], ids=["", "more steps"])
def test_the_rest_of_an_epoch_that_a_limit_cut_is_not_lost(
    tmp_path: Path, callbacks: list[Any], options: dict[str, Any], later: dict[str, Any]
) -> None:
    saved = SaveAt(tmp_path / "saved.ckpt", "on_train_epoch_end", 1, 1)
    before = fit(StopOnSignal(tmp_path), *callbacks, saved, **options)
    assert len(before) == BATCHES + 2
    assert before + fit(ckpt=tmp_path / "saved.ckpt", **later) == fit()


def test_a_signal_in_the_last_batch_saves_what_it_says_it_did(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        fit(StopOnSignal(tmp_path), Terminated(2, BATCHES - 1))
    assert caught.value.code == 128 + signal.SIGTERM
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert fit(ckpt=last, max_epochs=3) == []
    assert fit(ckpt=last, max_epochs=4) == fit(max_epochs=4)[3 * BATCHES :]
