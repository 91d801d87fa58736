"""Losses on their way to loggers, history and screen, in real training loops of scripted losses."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from src.callbacks import losses
from src.callbacks.losses import LossRecord
from src.errors import InputError
from src.models.gan.model import ConditionalGAN
from src.models.generative import GenerativeModel
from tests.toys import assert_says

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),  # Lightning's own use
]

NAN, INF = float("nan"), float("inf")
Pair = tuple[float, float]  # generator, discriminator


class Scripted(GenerativeModel):
    """A GAN's counters without its networks: batch i of epoch e returns ``script[e][i]``."""

    loss_names = ConditionalGAN.loss_names
    optimizer_names = ConditionalGAN.optimizer_names

    def __init__(self, script: list[list[Pair]], *, discriminator_steps: int = 1) -> None:
        super().__init__(n_classes=1, noise_shape=(1,), batches_per_step=discriminator_steps)
        self.weights = torch.nn.Parameter(torch.zeros(2))
        self.script, self.discriminator_steps = script, discriminator_steps

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        g_loss, d_loss = map(torch.tensor, self.script[self.current_epoch][batch_idx])
        if (batch_idx + 1) % self.discriminator_steps:
            return {"d_loss": d_loss}
        self.optimizers()[0].step()
        return {"d_loss": d_loss, "g_loss": g_loss}

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"g_loss": torch.tensor(1.0 + 3 * batch_idx), "d_loss": torch.tensor(2.0)}

    test_step = validation_step

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD([self.weights], lr=lr) for lr in (0.25, 0.5)]


class Memory(Logger):
    """Keeps what it is given."""

    name, version = "memory", ""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing to keep."""

    def of(self, name: str) -> list[tuple[int | None, float]]:
        return [(step, metrics[name]) for step, metrics in self.rows if name in metrics]


class Clock(pl.Callback):
    """Two seconds for each training batch, and a hundred for a validation batch."""

    now = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self.now += 2

    def on_validation_batch_start(self, *_: Any) -> None:
        self.now += 100


def batches(images: int, *, size: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(images, 1), torch.zeros(images)), size)


@pytest.fixture(autouse=True)
def curves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[dict[str, float]], Path]]:
    """What would have been drawn, after each epoch."""
    drawn: list[tuple[list[dict[str, float]], Path]] = []
    monkeypatch.setattr(
        losses, "draw_curves", lambda rows, path, **_: drawn.append(([*rows], path))
    )
    return drawn


@pytest.fixture
def record(tmp_path: Path) -> LossRecord:
    return LossRecord(tmp_path)


def make_trainer(record: LossRecord, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {"max_epochs": 1, "log_every_n_steps": 2, "num_sanity_val_steps": 0}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "barebones": False}
    return pl.Trainer(
        **{**defaults, **quiet, **options},
        accelerator="cpu",
        logger=Memory(),
        callbacks=[record, *callbacks],
        enable_checkpointing=any(isinstance(each, ModelCheckpoint) for each in callbacks),
        default_root_dir=record.run_dir,
    )


def fit(
    record: LossRecord, gan: Scripted, *callbacks: pl.Callback, **options: Any
) -> tuple[pl.Trainer, Memory]:
    """Train on batches of 4 images; validate on 6 images in batches of 4 and 2."""
    trainer = make_trainer(record, *callbacks, **options)
    train = batches(4 * len(gan.script[0]), size=4)
    trainer.fit(gan, train, batches(6, size=4), weights_only=True)
    assert isinstance(trainer.logger, Memory)
    return trainer, trainer.logger


FIVE = [(1.0, 10.0), (2.0, 20.0), (4.0, 40.0), (8.0, 80.0), (16.0, 160.0)]


def test_means_since_the_last_time_are_published_at_generator_steps(record: LossRecord) -> None:
    _, logger = fit(record, Scripted([FIVE]))
    assert logger.of("train/g_loss") == [(2, 1.5), (4, 6.0), (5, 16.0)]
    assert logger.of("train/d_loss") == [(2, 15.0), (4, 60.0), (5, 160.0)]
    assert logger.of("lr/generator") == [(2, 0.25), (4, 0.25), (5, 0.25)]
    assert logger.of("lr/discriminator") == [(2, 0.5), (4, 0.5), (5, 0.5)]


def test_scheduled_values_are_published_with_the_learning_rates(record: LossRecord) -> None:
    gan = Scripted([FIVE])
    gan.scheduled = {"gamma": 0.5}
    _, logger = fit(record, gan)
    assert logger.of("schedule/gamma") == [(2, 0.5), (4, 0.5), (5, 0.5)]


def test_steps_go_on_over_epochs_and_windows_do_not_cross_them(record: LossRecord) -> None:
    _, logger = fit(record, Scripted([FIVE[:3], FIVE[2:]]), max_epochs=2)
    assert logger.of("train/g_loss") == [(2, 1.5), (3, 4.0), (5, 6.0), (6, 16.0)]


def test_with_several_discriminator_steps_the_axis_still_counts_the_generator_s(
    record: LossRecord,
) -> None:
    gan = Scripted([[*FIVE, (32.0, 320.0), (0.0, 0.0)]], discriminator_steps=2)
    trainer, logger = fit(record, gan, log_every_n_steps=2)
    assert trainer.global_step == 3
    assert logger.of("train/g_loss") == [(2, 5.0), (3, 32.0)]  # of 2, 8 and 32
    assert logger.of("train/d_loss") == [(2, 37.5), (3, 160.0)]
    assert record.history[0]["train/g_loss"] == pytest.approx(14)
    assert record.history[0]["train/d_loss"] == pytest.approx(90)


def test_the_mean_of_an_epoch_weighs_each_step_alike(record: LossRecord) -> None:
    trainer, _ = fit(record, Scripted([FIVE]))
    expected = {"train/g_loss": 31 / 5, "train/d_loss": 310 / 5}
    row = {"epoch": 1, "step": 5, **expected, "val/g_loss": 2.0, "val/d_loss": 2.0}
    assert record.history == [pytest.approx(row)]
    for name, value in expected.items():
        assert trainer.callback_metrics[name].item() == pytest.approx(value)


def test_each_epoch_has_its_own_row_and_redraws_the_curves(
    record: LossRecord, curves: list[tuple[list[dict[str, float]], Path]]
) -> None:
    fit(record, Scripted([FIVE, FIVE[:2] * 2 + FIVE[:1]]), max_epochs=2)
    assert [(row["epoch"], row["step"]) for row in record.history] == [(1, 5), (2, 10)]
    assert [row["train/g_loss"] for row in record.history] == pytest.approx([31 / 5, 7 / 5])
    assert curves == [(record.history[:n], record.run_dir / "curves.png") for n in (1, 2)]


def test_an_epoch_without_validation_does_not_repeat_the_last_one_s(record: LossRecord) -> None:
    fit(record, Scripted([FIVE] * 3), max_epochs=3, check_val_every_n_epoch=2)
    assert ["val/g_loss" in row for row in record.history] == [False, True, False]


def test_validation_weighs_each_image_alike(record: LossRecord) -> None:
    """4 images with 1 and 2 images with 4 have the mean 2, not 2.5."""
    trainer, logger = fit(record, Scripted([FIVE]))
    assert logger.of("val/g_loss") == [(5, 2.0)]
    assert logger.of("val/d_loss") == [(5, 2.0)]
    assert trainer.callback_metrics["val/g_loss"].item() == 2.0


def test_a_test_is_published_under_its_own_name(record: LossRecord) -> None:
    trainer = make_trainer(record)
    trainer.test(Scripted([]), batches(6, size=4), verbose=False)
    assert [metrics for _, metrics in trainer.logger.rows] == [
        {"test/g_loss": 2.0, "test/d_loss": 2.0}
    ]
    assert trainer.callback_metrics["test/g_loss"].item() == 2.0


def test_the_sanity_check_leaves_nothing(record: LossRecord) -> None:
    _, logger = fit(record, Scripted([FIVE]), num_sanity_val_steps=1)
    assert logger.of("val/g_loss") == [(5, 2.0)]
    assert [step for step, _ in logger.rows] == [2, 4, 5, 5]
    assert record.history[0]["val/g_loss"] == 2.0


def test_speed_counts_the_images_since_the_last_report(
    record: LossRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(losses, "perf_counter", lambda: clock.now)
    _, logger = fit(record, Scripted([FIVE]), clock, val_check_interval=3)
    assert [rate for _, rate in logger.of("images_per_second")] == [2.0, 2.0, 2.0]
    assert record.latest == {
        "train/g_loss": 16.0, "train/d_loss": 160.0, "images_per_second": 2.0,
    }  # fmt: skip


# -- epochs that are slow --------------------------------------------------------------------------


class Epochs(pl.Callback):
    """A clock whose epochs take the given seconds, beside 100 for each batch of validation."""

    def __init__(self, *seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.now += self.seconds[trainer.current_epoch] / 5

    def on_validation_batch_start(self, *_: Any) -> None:
        self.now += 100


@pytest.fixture
def warnings_of(
    record: LossRecord, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[..., list[str]]:
    def fit_epochs(*seconds: float, threads: int = 2) -> list[str]:
        clock = Epochs(*seconds)
        monkeypatch.setattr(losses, "perf_counter", lambda: clock.now)
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        fit(record, Scripted([FIVE] * len(seconds)), clock, max_epochs=len(seconds))
        return [each for each in caplog.messages if each.startswith("epoch ")]

    return fit_epochs


def test_an_epoch_at_under_half_of_the_fastest_speed_is_named_once(
    record: LossRecord, warnings_of: Callable[..., list[str]]
) -> None:
    (said,) = warnings_of(30.0, 20.0, 39.0, 50.0, 80.0)
    again = f"type Ctrl-C, then python run.py resume={record.run_dir} threads=1"
    assert_says(said, "epoch 4 ran at 40% of the speed of the fastest", again)


@pytest.mark.parametrize("seconds", [(80.0, 20.0, 39.0), (1.0, 9.0, 1.0)])
def test_what_starts_slowly_or_lasts_under_ten_seconds_is_not_slow(
    seconds: tuple[float, ...], warnings_of: Callable[..., list[str]]
) -> None:
    assert warnings_of(*seconds) == []


def test_one_thread_is_not_advised_twice(warnings_of: Callable[..., list[str]]) -> None:
    (said,) = warnings_of(20.0, 50.0, threads=1)
    assert said.endswith("other processes may use this machine")


# -- losses that are not finite -------------------------------------------------------------------


def stopped(record: LossRecord, gan: Scripted, *callbacks: pl.Callback, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        fit(record, gan, *callbacks, **options)
    return str(caught.value)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("step", [1, 2, 3, 5])
@pytest.mark.parametrize(("player", "name"), [(0, "g_loss"), (1, "d_loss")])
def test_the_first_loss_that_is_not_finite_is_named(
    record: LossRecord, bad: float, step: int, player: int, name: str
) -> None:
    script = [[list(pair) for pair in FIVE]]
    for later in range(step - 1, 5):
        script[0][later][player] = bad
    message = stopped(record, Scripted(script))
    assert message.startswith(f"{name} is not finite at step {step}: the run was stopped")
    assert "no checkpoint exists" in message
    assert message.endswith("such as model/penalties=[r1,r2]")


@pytest.mark.parametrize(("batch", "step"), [(0, 1), (1, 1), (2, 2), (5, 3), (6, 4), (7, 4)])
def test_a_discriminator_that_steps_more_often_is_stopped_at_the_generator_s_step(
    record: LossRecord, batch: int, step: int
) -> None:
    script = [(1.0, 1.0)] * 8
    script[batch] = (1.0, NAN)
    message = stopped(record, Scripted([script], discriminator_steps=2), log_every_n_steps=4)
    assert message.startswith(f"d_loss is not finite at step {step}:")


def test_the_run_stops_at_the_end_of_the_window_not_of_the_epoch(record: LossRecord) -> None:
    gan = Scripted([[FIVE[0], (NAN, 1.0), *FIVE[2:]]])
    trainer = make_trainer(record)
    with pytest.raises(InputError):
        trainer.fit(gan, batches(20, size=4), batches(6, size=4))
    assert trainer.global_step == 2
    assert trainer.logger.rows == []


def checkpointing(record: LossRecord, **options: Any) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=record.run_dir / "checkpoints",
        filename="last",
        enable_version_counter=False,
        **options,
    )


def test_no_checkpoint_holds_a_loss_that_is_not_finite(record: LossRecord) -> None:
    """Saved after step 2, to be saved after step 4: the window of 5 would end later."""
    gan = Scripted([[*FIVE[:2], (NAN, 1.0), *FIVE[3:]]])
    every_second = checkpointing(record, every_n_train_steps=2)
    message = stopped(record, gan, every_second, log_every_n_steps=5)
    last = record.run_dir / "checkpoints" / "last.ckpt"
    assert message.startswith("g_loss is not finite at step 3:")
    assert f"{last} is the last good checkpoint" in message
    assert torch.load(last, weights_only=True)["global_step"] == 2


# -- checkpoints ----------------------------------------------------------------------------------


def test_a_resumed_run_has_the_history_and_the_epoch_means_of_an_uninterrupted_one(
    record: LossRecord, tmp_path: Path
) -> None:
    script = [FIVE, [*FIVE[2:], *FIVE[:2]]]
    saved_at_step_8 = checkpointing(record, every_n_train_steps=4, save_top_k=-1)
    fit(record, Scripted(script), saved_at_step_8, max_epochs=2, log_every_n_steps=3)
    path = record.run_dir / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    assert state["global_step"] == 8  # three batches into the second epoch

    resumed = LossRecord(tmp_path / "resumed")
    resumed.load_state_dict(state["callbacks"]["LossRecord"])
    assert resumed.history == record.history[:1]
    assert resumed.sums == pytest.approx(
        {"g_loss": 28.0, "d_loss": 280.0}
    )  # 4 + 8 + 16, and the window is not lost
    assert resumed.counts == {"g_loss": 3, "d_loss": 3}


def test_the_state_makes_a_round_trip_through_a_safe_file(
    record: LossRecord, tmp_path: Path
) -> None:
    fit(record, Scripted([FIVE]))
    record.sums, record.counts = {"g_loss": 1.5, "d_loss": 2.5}, {"g_loss": 1, "d_loss": 2}
    torch.save(record.state_dict(), tmp_path / "state")
    restored = LossRecord(tmp_path)
    restored.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert restored.state_dict() == record.state_dict()
    assert restored.history == record.history
    assert restored.run_dir == tmp_path


def test_means_are_taken_over_the_ranks(record: LossRecord) -> None:
    """Every rank averages its own window; Lightning's reduction averages those."""
    other_rank = torch.tensor([3.0, 30.0])
    logger = Memory()
    trainer = SimpleNamespace(
        world_size=2,
        log_every_n_steps=2,
        global_step=2,
        loggers=[logger],
        optimizers=[],
        lightning_module=Scripted([]),
        strategy=SimpleNamespace(
            root_device=torch.device("cpu"),
            reduce=lambda means, reduce_op: {"mean": (means + other_rank) / 2}[reduce_op],
        ),
    )
    trainer.optimizers = trainer.lightning_module.configure_optimizers()
    record.setup(trainer, trainer.lightning_module, "fit")
    for g_loss, d_loss in FIVE[:2]:
        outputs = {"g_loss": torch.tensor(g_loss), "d_loss": torch.tensor(d_loss)}
        record.on_train_batch_end(trainer, None, outputs, [None, torch.zeros(4)], 0)
    assert logger.of("train/g_loss") == [(2, (1.5 + 3.0) / 2)]
    assert logger.of("train/d_loss") == [(2, (15.0 + 30.0) / 2)]
