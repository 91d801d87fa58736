"""How good the digits are, measured while training."""

import csv
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from src.callbacks.losses import publish
from src.datamodules.in_memory import InMemoryDataModule
from src.errors import InputError
from src.files import write_atomically
from src.images import Labelled
from src.metrics.cache import Row
from src.metrics.classify import CHUNK
from src.metrics.evaluation import Evaluation
from src.metrics.judges import NoJudgesError
from src.models.generative import GenerativeModel
from src.reports.figures import draw_quality
from src.runs.limits import is_cut

log = logging.getLogger(__name__)
MOST_IMAGES = 1_000_000  # that are judged at once


class Quality(Callback):
    """Judges ``n`` generated images every ``every_n_epochs``, in the way that suits the data set.

    After those epochs, and after the last, what the evaluation measures, such as ``val/fid_cnn``,
    goes to every logger, with what real images score as ``real/...``, and a row with the seconds
    and images that training took so far goes to ``quality.csv``. The classes are balanced, and the
    noise is the same every time.
    """

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
        if not 1 <= n <= MOST_IMAGES:
            raise InputError(
                f"callbacks.quality.n={n} is not allowed: type a number from 1 to {MOST_IMAGES}"
            )
        self.evaluation: Evaluation | None = None
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
        device = str(trainer.strategy.root_device)
        evaluation = data.evaluation(data_dir=self.data_dir, device=device)
        try:
            evaluation.require_quick(self.n)
        except NoJudgesError as error:
            self.warn(trainer, f"val/{evaluation.measured[0]} is not measured: {error}")
            return
        self.evaluation = evaluation
        self.warn(trainer, evaluation.doubt())

    def warn(self, trainer: pl.Trainer, message: str | None) -> None:
        if message is not None and trainer.is_global_zero:
            log.warning(message)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started_at = perf_counter()

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # What is there afterwards is fresh, as BestCheckpoint needs it.
        for name in self.evaluation.measured if self.evaluation else ():
            trainer.callback_metrics.pop(f"val/{name}", None)

    on_validation_start = on_train_epoch_start

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_last_batch and not trainer.sanity_checking:
            self.measure_if_due(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure after an epoch that ended without a validation."""
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
        """Measure the last state, whatever has ended the training, such as max_steps."""
        if not self.history or self.history[-1]["step"] != trainer.global_step:
            self.measure(trainer, pl_module)

    def measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, GenerativeModel)
        # Images are counted from the first step on.
        if self.evaluation is None or pl_module.images_seen is None:
            return
        started_at = perf_counter()
        row = {
            "epoch": epochs(trainer), "step": trainer.global_step,
            "images": pl_module.images_seen, "seconds": self.seconds,
        }  # fmt: skip
        row |= judge_over_ranks(trainer, pl_module, self.evaluation, n=self.n)
        self.history.append(row | {"evaluation_seconds": perf_counter() - started_at})
        self.report(trainer)
        self.started_at += perf_counter() - started_at

    @property
    def latest(self) -> Row:
        """The newest numbers under the names that loggers show; empty before the first ones."""
        if not self.history or self.evaluation is None:
            return {}
        row, names = self.history[-1], self.evaluation.measured
        values = {f"val/{name}": row[name] for name in names}
        return values | {f"real/{name}": row[f"real_{name}"] for name in names}

    def report(self, trainer: pl.Trainer) -> None:
        publish(trainer, self.latest)
        # Not by the module's log, which the end of training does not allow.
        trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in self.latest.items()}
        )
        if trainer.is_global_zero:
            write_rows(self.run_dir / "quality.csv", self.history)
            draw_quality(self.run_dir / "quality.png", {self.run_dir.name: self.history})


def judge_over_ranks(
    trainer: pl.Trainer, model: GenerativeModel, evaluation: Evaluation, *, n: int
) -> Row:
    """Measure ``n`` generated images, of which every rank generates and reads a part.

    The result is that of one process, and every rank has it.
    """
    labels, seen = torch.arange(n) % model.n_classes, evaluation.unread(n)
    for rows, fake in share(trainer, model, labels):
        for name, values in evaluation.read(fake).items():
            seen[name][rows] = values
    seen = {name: sum_over_ranks(trainer, values) for name, values in seen.items()}
    row = evaluation.quick(labels, seen) if trainer.is_global_zero else {}
    return trainer.strategy.broadcast(row)


def share(
    trainer: pl.Trainer, model: GenerativeModel, labels: Tensor
) -> Iterator[tuple[Tensor, Labelled]]:
    """Generate this rank's chunks of images, each after its rows among all ``labels`` (N,)."""
    noise = model.draw_noise(len(labels), torch.Generator().manual_seed(0))
    for buffer in model.sampler.buffers():  # each rank's batch normalization has its own
        buffer.copy_(trainer.strategy.broadcast(buffer))
    for rows in torch.arange(len(labels)).split(CHUNK)[trainer.global_rank :: trainer.world_size]:
        yield rows, Labelled(model.generate(noise[rows], labels[rows]), labels[rows])


def sum_over_ranks(trainer: pl.Trainer, values: Tensor) -> Tensor:
    """The sum of tensors of which all but one are zero at each place, so that it is exact."""
    device = trainer.strategy.root_device
    return trainer.strategy.reduce(values.to(device), reduce_op="sum").cpu()


def beside_real(metrics: Mapping[str, Any]) -> list[str]:
    """One text for each number that was measured last, beside what real images score."""
    names = [key.removeprefix("real/") for key in metrics if key.startswith("real/")]
    return [
        f"{name} {metrics[f'val/{name}']:.3f} (real {metrics[f'real/{name}']:.3f})"
        for name in names
        if f"val/{name}" in metrics
    ]


def epochs(trainer: pl.Trainer) -> int:
    """Number of epochs that have begun, the current one included."""
    return trainer.fit_loop.epoch_progress.total.ready


def write_rows(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
