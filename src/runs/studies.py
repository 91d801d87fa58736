"""A study of Optuna, the trials that it may go on with, and where all of it is kept."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    fail_stale_trials,
)
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from typing_extensions import override

from src.errors import InputError

STORAGE = "OPTUNA_STORAGE"  # of the search, for the ranks of a trial; a URL may hold a password
MOST_RETRIES = 10  # of one trial, which may be what kills its workers


@contextmanager
def unwarned() -> Iterator[None]:
    """Use what Optuna calls experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


with unwarned():
    again = RetryHeartbeatStaleTrialCallback(MOST_RETRIES, inherit_intermediate_values=True)
    always_again = RetryHeartbeatStaleTrialCallback(None, inherit_intermediate_values=True)


class BeatingJournal(JournalStorage, BaseHeartbeat):
    """A journal file, beside which each running trial has a file that its worker touches.

    Optuna's own journal never learns that a worker was killed.
    """

    def __init__(self, path: Path, *, heartbeat_s: int, grace_s: int) -> None:
        super().__init__(JournalFileBackend(str(path)))
        self.beats = path.with_suffix(".beats")
        self.beats.mkdir(exist_ok=True)
        self.heartbeat_s, self.grace_s = heartbeat_s, grace_s

    @override
    def record_heartbeat(self, trial_id: int) -> None:
        (self.beats / str(trial_id)).touch()

    @override
    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        (clock := self.beats / "now").touch()  # by which the disk dates the others too
        now = clock.stat().st_mtime
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        return [t._trial_id for t in running if now - self.last_beat(t) > self.grace_s]

    def last_beat(self, trial: FrozenTrial) -> float:
        path = self.beats / str(trial._trial_id)
        started_at = trial.datetime_start or datetime.now().astimezone()
        return path.stat().st_mtime if path.is_file() else started_at.timestamp()

    @override
    def get_heartbeat_interval(self) -> int:
        return self.heartbeat_s

    @override
    def get_heartbeat_stale_trial_callback(
        self,
    ) -> Callable[[optuna.Study, FrozenTrial], None]:
        return again


def address(storage: str | None, folder: Path) -> str:
    """The URL or file that ``search.storage`` means for a search in ``folder``."""
    if storage == "journal":
        return str(folder / "study.journal")
    return storage or f"sqlite:///{folder / 'study.db'}"


def open_storage(place: str, *, heartbeat_s: int = 60, grace_s: int = 180) -> BaseStorage:
    """Open what ``address`` has named.

    Raises:
        InputError: if it cannot be opened, with what its driver says.
    """
    try:
        with unwarned():
            if place.endswith(".journal"):
                return BeatingJournal(Path(place), heartbeat_s=heartbeat_s, grace_s=grace_s)
            waits = {"connect_args": {"timeout": 60}} if place.startswith("sqlite") else {}
            return RDBStorage(
                place,
                engine_kwargs=waits,
                heartbeat_interval=heartbeat_s,
                grace_period=grace_s,
                heartbeat_stale_trial_callback=again,
            )
    except Exception as error:  # what a driver raises is anybody's guess
        first = str(error).strip().partition("\n")[0]
        raise InputError(
            f"search.storage cannot be opened ({first}): leave it out for a file in the search's "
            "folder, or type search.storage=journal, or a URL such as sqlite:////tmp/study.db"
        ) from error


def hand_over(study: optuna.Study, number: int) -> None:
    """End a trial that was interrupted, and have it go on, here or elsewhere, as another."""
    if study.trials[number].state == TrialState.RUNNING:
        study.tell(number, state=TrialState.FAIL)
    if study.trials[number].state == TrialState.FAIL:
        always_again(study, study.trials[number])


def take_over(study: optuna.Study) -> None:
    """Have the trials go on whose workers have died."""
    with unwarned():
        fail_stale_trials(study)


def first_number(trial: Trial | FrozenTrial) -> int:
    """The number under which a trial was begun, before it was handed over."""
    frozen = trial.study.trials[trial.number] if isinstance(trial, Trial) else trial
    return frozen.system_attrs.get("failed_trial", trial.number)


def of_this_search(
    study: str, number: int, pruner: optuna.pruners.BasePruner | None
) -> Trial | None:
    """The trial that a search is running here; None where a run goes on by itself."""
    if STORAGE not in os.environ:
        return None
    found = optuna.load_study(
        study_name=study,
        storage=open_storage(os.environ[STORAGE]),
        pruner=pruner or optuna.pruners.NopPruner(),
    )
    return Trial(found, found.trials[number]._trial_id)
