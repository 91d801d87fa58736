"""A trial ends early on all ranks by what the first of them hears from its study."""

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.pruners import BasePruner, ThresholdPruner
from optuna.trial import TrialState

from src.callbacks.pruning import AS_IT_IS, PRUNED, Pruning
from src.runs.studies import STORAGE, address, open_storage

METRIC = "val/fid_cnn"


class Rank:
    """A trainer that stands in for one of two ranks, in the middle of its epochs."""

    max_epochs = 4

    def __init__(self, number: int, *, said: list[Any]) -> None:
        self.is_global_zero, self.said = number == 0, said
        self.strategy, self.should_stop, self.current_epoch = self, False, 0
        self.callback_metrics: dict[str, Any] = {}

    def broadcast(self, value: Any) -> Any:
        """What rank 0, which is asked first, has said."""
        if self.is_global_zero:
            self.said.append(value)
        return self.said[-1]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """A study with one trial that runs."""
    monkeypatch.setenv(STORAGE, place := address(None, tmp_path))
    found = optuna.create_study(storage=open_storage(place), study_name="tiny")
    found.add_trial(optuna.create_trial(state=TrialState.RUNNING))
    return found


def ranks(pruner: BasePruner | None) -> list[tuple[Rank, Pruning]]:
    said: list[Any] = []
    pairs = [(Rank(i, said=said), Pruning("tiny", 0, METRIC, pruner)) for i in range(2)]
    for rank, pruning in pairs:
        pruning.on_fit_start(rank, None)
    return pairs


def train_epoch(pairs: list[tuple[Rank, Pruning]], epoch: int, value: float | None) -> list[bool]:
    """Whether each rank stops after an epoch in which ``value`` was measured, or nothing."""
    for rank, pruning in pairs:
        rank.current_epoch = epoch - 1
        rank.callback_metrics = {} if value is None else {METRIC: torch.tensor(value)}
        pruning.on_train_epoch_end(rank, None)
    return [rank.should_stop for rank, _ in pairs]


def test_both_ranks_stop_and_the_study_hears_once(study: optuna.Study) -> None:
    pairs = ranks(ThresholdPruner(upper=5.0))
    assert train_epoch(pairs, 1, 4.0) == [False, False]
    assert train_epoch(pairs, 2, None) == [False, False]
    assert train_epoch(pairs, 3, 6.0) == [True, True]
    (trial,) = study.trials
    assert trial.intermediate_values == {1: 4.0, 3: 6.0}
    assert trial.user_attrs == {PRUNED: 3}


def test_the_experiment_as_it_is_trains_to_its_end(study: optuna.Study) -> None:
    pairs = ranks(ThresholdPruner(upper=5.0))
    pairs[0][1].trial.set_user_attr(AS_IT_IS, True)
    assert train_epoch(pairs, 1, 6.0) == [False, False]
    assert study.trials[0].intermediate_values == {1: 6.0}


@pytest.mark.parametrize("pruner", [None, ThresholdPruner(upper=5.0)])
def test_the_last_epoch_is_never_too_bad(study: optuna.Study, pruner: BasePruner | None) -> None:
    pairs = ranks(pruner)
    assert train_epoch(pairs, Rank.max_epochs, 6.0) == [False, False]
    assert study.trials[0].intermediate_values == {Rank.max_epochs: 6.0}
    assert study.trials[0].user_attrs == {}


def test_an_epoch_that_is_trained_again_is_reported_once(study: optuna.Study) -> None:
    train_epoch(ranks(None), 1, 4.0)
    train_epoch(ranks(None), 1, 4.5)  # warnings of Optuna are errors
    assert study.trials[0].intermediate_values == {1: 4.0}


def test_a_run_that_goes_on_without_its_search_trains_to_its_end(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STORAGE)
    assert train_epoch(ranks(ThresholdPruner(upper=5.0)), 1, 6.0) == [False, False]
    assert study.trials[0].intermediate_values == {}
