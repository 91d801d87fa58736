"""How many modes of stacked digits are generated, measured while training."""

import pytorch_lightning as pl
import torch
from typing_extensions import override

from src.callbacks.quality import Quality
from src.datamodules.in_memory import InMemoryDataModule
from src.datamodules.stacked_mnist import StackedMNIST
from src.errors import InputError
from src.images import Labelled
from src.metrics.cache import Row
from src.metrics.judges import Judges, NoJudgesError
from src.metrics.modes import count_modes, count_once, digit_judges, read_modes
from src.models.generative import GenerativeModel


class Modes(Quality):
    """Quality of stacked digits: ``val/modes`` and ``val/kl``, at the same times and places.

    The real ones are as many training triples, which have the digits' frequencies that are learned:
    both numbers depend on them, and on how many images there are.
    """

    measured = "modes", "kl"

    @override
    def find_judges(self, data: InMemoryDataModule, *, device: str) -> Judges:
        if not isinstance(data.dataset, StackedMNIST):
            raise NoJudgesError("only datamodule=stacked_mnist has modes: type callbacks=default")
        if len(data.train_set) < self.n:
            raise InputError(
                f"callbacks.quality.n={self.n} does not compare with {len(data.train_set)} "
                f"training triples: type callbacks.quality.n={len(data.train_set)} or less"
            )
        return digit_judges(data_dir=self.data_dir, device=device)

    @override
    def numbers(self, trainer: pl.Trainer, model: GenerativeModel, judges: Judges) -> Row:
        modes = torch.zeros(self.n, dtype=torch.int64)
        for rows, fake in self.share(trainer, model):
            modes[rows] = read_modes(judges, fake.images)
        modes = self.sum_over_ranks(trainer, modes)
        if not trainer.is_global_zero:
            return {}
        train = trainer.datamodule.parts["train"]  # type: ignore[attr-defined]
        real = Labelled(*(part[: self.n] for part in train))
        floor = count_once(judges, real, folder=self.data_dir / "judged")
        return count_modes(modes) | {f"real_{name}": value for name, value in floor.items()}
