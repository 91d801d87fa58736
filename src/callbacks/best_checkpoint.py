"""The checkpoint of the best quality so far."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from typing_extensions import override

from src.datamodules.in_memory import InMemoryDataModule


class BestCheckpoint(ModelCheckpoint):
    """Saves a checkpoint after what it monitors was measured, and at no other time.

    It saves before the checkpoint of the epoch, if its callback precedes that one's, which then
    knows of it.
    ``monitor="auto"`` is the first number that the data set's evaluation measures; the lowest is
    the best.
    """

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if self.monitor == "auto" and isinstance(data, InMemoryDataModule):
            self.monitor = f"val/{data.dataset.evaluation.measured[0]}"
        super().setup(trainer, pl_module, stage)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.monitor in trainer.callback_metrics:
            super().on_validation_end(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self.on_validation_end(trainer, pl_module)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self.on_validation_end(trainer, pl_module)
