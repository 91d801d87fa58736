"""How good the digits are, measured while training."""

import csv
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from typing_extensions import override

from src.callbacks.losses import publish
from src.datamodules.in_memory import InMemoryDataModule
from src.errors import InputError
from src.files import write_atomically
from src.images import Labelled
from src.metrics.cache import Row, md5_of_data
from src.metrics.classify import CHUNK
from src.metrics.footing import count_classes, rows_like
from src.metrics.judges import (
    Judged,
    Judges,
    NoJudgesError,
    load_judges,
    warn_of_other_split,
)
from src.metrics.panel import quick
from src.metrics.real import quick_floor, read_once
from src.models.generative import GenerativeModel
from src.networks.classifier import Classifier
from src.reports.figures import draw_quality
from src.runs.limits import is_cut

log = logging.getLogger(__name__)


class Quality(Callback):
    """Judges ``n`` images of the averaged generator, or the plain one, every ``every_n_epochs``.

    After those epochs, and after the last, ``val/fid_cnn``, ``val/label_accuracy`` and
    ``val/coverage`` go to every logger, with what real images score as ``real/...``, and a row with
    the seconds and images that training took so far goes to ``quality.csv``. The classes are
    balanced, the latents the same every time, the reference is the validation part. Every rank
    generates and judges a part of the images; the result is that of one process.
    """

    measured: ClassVar[tuple[str, ...]] = ("fid_cnn", "label_accuracy", "coverage")

    def __init__(
        self, run_dir: str | Path, data_dir: str | Path, every_n_epochs: int = 5, n: int = 10_000
    ) -> None:
        self.run_dir, self.data_dir = Path(run_dir), Path(data_dir)
        self.every_n_epochs, self.n = every_n_epochs, n
        if every_n_epochs < 1:
            raise InputError(
                f"callbacks.quality.every_n_epochs={every_n_epochs} is not allowed: type 1 or "
                "more, or ~callbacks.quality ~callbacks.best_checkpoint to measure nothing"
            )
        if n <= Classifier.n_features:
            least = Classifier.n_features + 1
            raise InputError(
                f"callbacks.quality.n={n} is too few for Frechet distances in "
                f"{Classifier.n_features} features: give at least {least}, as in "
                "callbacks.quality.n=10_000"
            )
        self.judges: Judges | None = None
        self.history: list[Row] = []
        self.epochs_checked = 0  # of which all that were due have been measured
        self.seconds_before = 0.0  # of training, before this process
        self.started_at = perf_counter()

    @override
    def state_dict(self) -> dict[str, Any]:
        checked = self.epochs_checked
        return {"history": self.history, "seconds": self.seconds, "epochs_checked": checked}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.seconds_before = state_dict["history"], state_dict["seconds"]
        measured = max((row["epoch"] for row in self.history), default=0)
        self.epochs_checked = state_dict.get("epochs_checked", measured)

    @property
    def seconds(self) -> float:
        """Wall time of training, over all processes of the run, without these evaluations."""
        return self.seconds_before + perf_counter() - self.started_at

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.fast_dev_run or not isinstance(data, InMemoryDataModule):  # type: ignore[attr-defined]
            return
        try:
            self.judges = self.find_judges(data, device=str(trainer.strategy.root_device))
        except NoJudgesError as error:
            if trainer.is_global_zero:
                log.warning("val/%s is not measured: %s", self.measured[0], error)

    def find_judges(self, data: InMemoryDataModule, *, device: str) -> Judges:
        """Those of the data set, if it is large enough for them."""
        require_enough_real(data)
        judges = load_judges(
            data.dataset.name,
            n_classes=data.dataset.n_classes,
            channels=data.dataset.channels,
            data_dir=self.data_dir,
            device=device,
        )
        rank_zero_only(warn_of_other_split)(judges, md5_of_data(data.parts["train"]))
        return judges

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started_at = perf_counter()

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name in self.measured:  # what is there afterwards is fresh, as BestCheckpoint needs it
            trainer.callback_metrics.pop(f"val/{name}", None)

    on_validation_start = on_train_epoch_start

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_last_batch and not trainer.sanity_checking:
            self.measure_if_due(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """For epochs that end without a validation."""
        if not is_cut(trainer):
            self.measure_if_due(trainer, pl_module)

    def measure_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch, checked = trainer.current_epoch + 1, self.epochs_checked
        is_due = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        self.epochs_checked = epoch
        if is_due and epoch > checked:
            self.measure(trainer, pl_module)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Whatever ended the training, such as max_steps, its last state is measured."""
        if not self.history or self.history[-1]["step"] != trainer.global_step:
            self.measure(trainer, pl_module)

    def measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, GenerativeModel)
        if self.judges is None or pl_module.images_seen is None:  # counted from the first step on
            return
        started_at = perf_counter()
        row = {
            "epoch": epochs(trainer), "step": trainer.global_step,
            "images": pl_module.images_seen, "seconds": self.seconds,
        }  # fmt: skip
        row |= self.numbers(trainer, pl_module, self.judges)
        row = trainer.strategy.broadcast(row)
        self.history.append(row | {"evaluation_seconds": perf_counter() - started_at})
        self.report(trainer)
        self.started_at += perf_counter() - started_at

    def numbers(self, trainer: pl.Trainer, model: GenerativeModel, judges: Judges) -> Row:
        """What is ``measured``, and the same of real images as ``real_...``; rank 0 knows it."""
        fake = self.judge(trainer, model, judges)
        if not trainer.is_global_zero:
            return {}
        return self.compare(fake, trainer.datamodule, judges)  # type: ignore[attr-defined]

    def judge(self, trainer: pl.Trainer, model: GenerativeModel, judges: Judges) -> Judged:
        """All images, of which each rank judges its share."""
        labels = torch.arange(self.n) % model.n_classes
        features = torch.zeros(self.n, judges.features.n_features)
        predictions, confidence = torch.zeros(self.n, dtype=torch.long), torch.zeros(self.n)
        for rows, fake in self.share(trainer, model):
            features[rows], predictions[rows], confidence[rows] = judges.read(fake)[2:]
        total = [self.sum_over_ranks(trainer, part) for part in (features, predictions, confidence)]
        return Judged(torch.empty(self.n, 0), labels, *total)

    def share(
        self, trainer: pl.Trainer, model: GenerativeModel
    ) -> Iterator[tuple[Tensor, Labelled]]:
        """This rank's images, every ``world_size``-th chunk, after their places among all."""
        generator = torch.Generator().manual_seed(0)
        noise = model.draw_noise(self.n, generator)
        labels = torch.arange(self.n) % model.n_classes
        for buffer in model.sampler.buffers():  # each rank's batch normalization has its own
            buffer.copy_(trainer.strategy.broadcast(buffer))
        chunks = torch.arange(self.n).split(CHUNK)
        for rows in chunks[trainer.global_rank :: trainer.world_size]:
            yield rows, Labelled(model.generate(noise[rows], labels[rows]), labels[rows])

    def sum_over_ranks(self, trainer: pl.Trainer, values: Tensor) -> Tensor:
        """Of which all but one are zero at each place, so that the sum is exact."""
        device = trainer.strategy.root_device
        return trainer.strategy.reduce(values.to(device), reduce_op="sum").cpu()

    def compare(self, fake: Judged, data: InMemoryDataModule, judges: Judges) -> Row:
        folder = self.data_dir / "judged"
        train, part = data.parts["train"], data.parts["val"]
        val = read_once(judges, part, md5=md5_of_data(part), folder=folder)
        counts = count_classes(fake.labels, n_classes=judges.n_classes)
        floor = quick_floor(judges, train, val, counts=counts, folder=folder)
        row = quick(fake, val, size=len(rows_like(train.labels, counts)))
        return row | {f"real_{name}": value for name, value in floor.items()}

    @property
    def latest(self) -> Row:
        """Under the names that loggers show; empty if nothing was measured yet."""
        if not self.history:
            return {}
        row = self.history[-1]
        values = {f"val/{name}": row[name] for name in self.measured}
        return values | {f"real/{name}": row[f"real_{name}"] for name in self.measured}

    def report(self, trainer: pl.Trainer) -> None:
        publish(trainer, self.latest)
        # Not by the module's log, which the end of training does not allow.
        trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in self.latest.items()}
        )
        if trainer.is_global_zero:
            write_rows(self.run_dir / "quality.csv", self.history)
            draw_quality(self.run_dir / "quality.png", {self.run_dir.name: self.history})


def beside_real(metrics: Mapping[str, Any]) -> list[str]:
    """What was measured last, if anything was, each with what real images score."""
    names = [key.removeprefix("real/") for key in metrics if key.startswith("real/")]
    return [
        f"{name} {metrics[f'val/{name}']:.3f} (real {metrics[f'real/{name}']:.3f})"
        for name in names
        if f"val/{name}" in metrics
    ]


def require_enough_real(data: InMemoryDataModule) -> None:
    """Refuse a training or validation part with too few images, or none of some class."""
    least = Classifier.n_features + 1
    for name, part in {"training": data.train_set, "validation": data.val_set}.items():
        if len(part) < least:
            raise NoJudgesError(
                f"{len(part)} {name} images are too few for Frechet distances: type at least "
                f"{least} in datamodule.train_val_test_split"
            )
        counts = count_classes(part.labels, n_classes=data.dataset.n_classes)
        if not counts.all():
            raise NoJudgesError(f"there is no {name} image of class {int(counts.argmin())}")


class BestCheckpoint(ModelCheckpoint):
    """Saves after what it monitors was measured, and at no other time.

    Before the checkpoint of the epoch, if it precedes that one's callback, which then knows of it.
    """

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


def epochs(trainer: pl.Trainer) -> int:
    """Begun so far, the one that goes on included."""
    return trainer.fit_loop.epoch_progress.total.ready


def write_rows(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
