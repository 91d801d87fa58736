"""A run that stops early goes on with the batch that it stopped before."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from src.callbacks.stop import OF_CLUSTERS, StopOnSignal
from src.runs.folders import LAST
from tests.toys import NUMBERS_BATCHES, SaveAt, fit_numbers


class InBatch(pl.Callback):
    """Acts at the end of one batch of the epoch ``epoch``."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.moment = epoch, batch

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if (trainer.current_epoch, arguments[-1]) == self.moment:
            self.act(trainer)


class Signalled(InBatch):
    def __init__(self, epoch: int, batch: int, number: int = signal.SIGTERM) -> None:
        super().__init__(epoch, batch)
        self.number = number

    def act(self, trainer: pl.Trainer) -> None:
        os.kill(os.getpid(), self.number)


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


@pytest.mark.parametrize("limit", [2 * NUMBERS_BATCHES + 2, 3 * NUMBERS_BATCHES, 1000])
def test_an_epoch_that_was_over_is_not_counted_again_under_max_steps(
    tmp_path: Path, limit: int
) -> None:
    saved = SaveAt(tmp_path / "saved.ckpt", "on_train_epoch_end", 1, NUMBERS_BATCHES - 1)
    whole = fit_numbers(StopOnSignal(tmp_path), saved, max_steps=limit)
    rest = fit_numbers(StopOnSignal(tmp_path), ckpt=saved.path, max_steps=limit)
    assert rest == whole[2 * NUMBERS_BATCHES :]
    assert rest


def test_a_signal_in_the_last_batch_saves_what_it_says_it_did(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        fit_numbers(StopOnSignal(tmp_path), Signalled(2, NUMBERS_BATCHES - 1))
    assert caught.value.code == 128 + signal.SIGTERM
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert fit_numbers(ckpt=last, max_epochs=3) == []
    rest = fit_numbers(max_epochs=4)[3 * NUMBERS_BATCHES :]
    assert fit_numbers(ckpt=last, max_epochs=4) == rest
    limits = {"max_epochs": 4, "max_steps": 1000}
    assert fit_numbers(StopOnSignal(tmp_path), ckpt=last, **limits) == rest


@contextmanager
def handled(number: int, handler: Callable[..., Any]) -> Iterator[None]:
    """As submitit does before it calls a run."""
    before = signal.signal(number, handler)
    try:
        yield
        assert signal.getsignal(number) is handler  # is given back
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", OF_CLUSTERS)
def test_what_announces_the_end_of_a_job_saves_before_it_queues_again(
    tmp_path: Path, number: int
) -> None:
    saved: list[bool] = []
    with handled(number, lambda *_: saved.append((tmp_path / LAST).is_file())):
        seen = fit_numbers(StopOnSignal(tmp_path), Signalled(1, 1, number))
    assert saved == [True]
    assert seen == fit_numbers()  # training went on meanwhile
    assert seen[: NUMBERS_BATCHES + 2] + fit_numbers(ckpt=tmp_path / LAST) == seen


def test_who_queues_a_job_again_may_end_it(tmp_path: Path) -> None:
    def leave(*_: object) -> None:
        raise SystemExit(-1)

    with handled(signal.SIGUSR2, leave), pytest.raises(SystemExit) as caught:
        fit_numbers(StopOnSignal(tmp_path), Signalled(1, 1, signal.SIGUSR2))
    assert caught.value.code == -1
    assert len(fit_numbers(ckpt=tmp_path / LAST)) == 2 * NUMBERS_BATCHES - 2


def test_in_a_job_of_slurm_sigterm_saves_and_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    seen = fit_numbers(StopOnSignal(tmp_path), Signalled(1, 1))
    assert seen == fit_numbers()
    assert seen[: NUMBERS_BATCHES + 2] + fit_numbers(ckpt=tmp_path / LAST) == seen
