"""Tells a search how good its trial is, and stops one that is worse than its like."""

import logging

import pytorch_lightning as pl
from optuna.pruners import BasePruner
from optuna.trial import Trial
from pytorch_lightning.callbacks import Callback
from typing_extensions import override

from src.runs.studies import of_this_search

log = logging.getLogger(__name__)
AS_IT_IS = "as it is"  # marks the trial that changes nothing, which the others are held against
PRUNED = "pruned"  # the epoch after which a trial was stopped, among its attributes


class Pruning(Callback):
    """Reports ``metric`` whenever it was measured; the first of several ranks asks, all stop.

    A run that goes on by itself, without its search, trains to its end.
    """

    def __init__(
        self, study: str, trial: int, metric: str, pruner: BasePruner | None = None
    ) -> None:
        self.study, self.number, self.metric, self.pruner = study, trial, metric, pruner
        self.trial: Trial | None = None

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.trial = of_this_search(self.study, self.number, self.pruner)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get(self.metric)
        if value is None:
            return
        epoch = trainer.current_epoch + 1
        is_hopeless = self.is_hopeless(float(value), epoch=epoch)
        if trainer.strategy.broadcast(is_hopeless) and epoch != trainer.max_epochs:
            trainer.should_stop = True  # raised in here, it would look like a crash
            if self.trial is not None:
                self.trial.set_user_attr(PRUNED, epoch)
                log.info(f"stopped after epoch {epoch}: others were better")

    def is_hopeless(self, value: float, *, epoch: int) -> bool:
        if self.trial is None:
            return False
        # A trial that was handed over may repeat an epoch.
        if epoch not in self.trial.study.trials[self.number].intermediate_values:
            self.trial.report(value, step=epoch)
        return self.trial.should_prune() and AS_IT_IS not in self.trial.user_attrs
