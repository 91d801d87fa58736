"""A run that is stopped and resumed trains on the batches that an uninterrupted run would."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from src.datamodules.in_memory import InMemoryDataModule
from src.images import Labelled

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),  # Lightning's own use
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),  # 3.12
]

TRAIN, BATCH = 42, 8
BATCHES = TRAIN // BATCH  # 5 per epoch, two images left over


class Numbers(InMemoryDataModule):
    """Pictures of one pixel whose value is their number."""

    def load(self) -> tuple[Labelled, Labelled]:
        images = torch.arange(TRAIN + 8, dtype=torch.uint8).view(-1, 1, 1, 1)
        labels = torch.zeros(TRAIN + 8, dtype=torch.int64)
        return Labelled(images, labels), Labelled(images[:8], labels[:8])


class Recorder(pl.LightningModule):
    """Writes down the batches that it has finished; optimizes by hand, as a GAN does."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, int, list[float]]] = []
        self.fail_at: tuple[int, int] | None = None

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        if self.fail_at == (self.current_epoch, batch_idx):
            raise KeyError("stop here")
        self.optimizers().step()
        self.seen.append((self.current_epoch, batch_idx, batch[0].flatten().tolist()))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Lightning validates only where this exists."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(pl.Callback):
    """Saves inside ``hook`` of the given epoch and batch."""

    def __init__(self, path: Path, hook: str, epoch: int, batch: int) -> None:
        self.path, self.moment = path, (hook, epoch, batch)

    def save_at(self, trainer: pl.Trainer, hook: str) -> None:
        batch = trainer.fit_loop.epoch_loop.batch_idx
        if self.moment == (hook, trainer.current_epoch, batch) and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.save_at(trainer, "on_train_batch_end")

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.save_at(trainer, "on_validation_end")

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.save_at(trainer, "on_train_epoch_end")

    def on_exception(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


def fit(
    *callbacks: pl.Callback,
    ckpt: Path | None = None,
    workers: int = 0,
    fail_at: tuple[int, int] | None = None,
    **options: Any,
) -> list[tuple[int, int, list[float]]]:
    module = Recorder()
    module.fail_at = fail_at
    data = Numbers(
        batch_size=BATCH,
        train_val_test_split=[TRAIN, 8, 8],
        img_size=1,
        channels=1,
        n_classes=1,
        seed=3,
        num_workers=workers,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **{"max_epochs": 3} | options,
    )
    try:
        trainer.fit(module, data, ckpt_path=ckpt, weights_only=True)
    except KeyError:
        assert fail_at
    return module.seen


@pytest.mark.parametrize(
    ("hook", "epoch", "batch", "workers"),
    [
        ("on_train_batch_end", 0, 0, 0),
        ("on_train_batch_end", 1, 2, 0),
        ("on_train_batch_end", 1, 2, 1),  # a worker fetches ahead, so it is the harder case
        ("on_train_batch_end", 1, BATCHES - 1, 0),
        ("on_validation_end", 1, BATCHES - 1, 0),
        ("on_train_epoch_end", 1, BATCHES - 1, 0),
        ("on_train_epoch_end", 1, BATCHES - 1, 1),
    ],
)
def test_a_resumed_run_sees_the_same_batches(
    tmp_path: Path, hook: str, epoch: int, batch: int, workers: int
) -> None:
    path = tmp_path / "saved.ckpt"
    whole = fit(SaveAt(path, hook, epoch, batch), workers=workers)
    assert len(whole) == 3 * BATCHES
    assert fit(ckpt=path, workers=workers) == whole[epoch * BATCHES + batch + 1 :]


@pytest.mark.parametrize("batch", [0, 2, BATCHES - 1])
def test_an_interrupted_step_is_repeated(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "saved.ckpt"
    before = fit(SaveAt(path, "", 0, 0), fail_at=(1, batch))
    assert before + fit(ckpt=path) == fit()


def test_resuming_respects_a_limited_epoch(tmp_path: Path) -> None:
    path = tmp_path / "saved.ckpt"
    whole = fit(SaveAt(path, "on_train_batch_end", 1, 1), limit_train_batches=3)
    assert len(whole) == 9
    assert fit(ckpt=path, limit_train_batches=3) == whole[5:]


def test_resuming_draws_nothing_from_the_global_random_stream(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    fit(SaveAt(tmp_path / "saved.ckpt", "on_train_batch_end", 1, 2))
    fit(ckpt=tmp_path / "saved.ckpt")
    assert torch.equal(torch.get_rng_state(), state)
