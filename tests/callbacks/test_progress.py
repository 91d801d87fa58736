"""What a person reads: one line per epoch, or the bar's numbers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.callbacks import progress
from src.callbacks.losses import LossRecord
from src.callbacks.progress import EpochLines, ProgressBar, make_progress

ROW = {
    "epoch": 3,
    "step": 2577,
    "train/g_loss": 0.3674,
    "train/d_loss": 0.1946,
    "val/g_loss": 0.5754,
    "val/d_loss": 0.1631,
}


@pytest.fixture
def record(tmp_path: Path) -> LossRecord:
    """After the third epoch."""
    record = LossRecord(tmp_path)
    record.history = [{"epoch": 2}, ROW]
    record.n_images_seen = 195_000
    record.latest = {"train/g_loss": 0.5, "train/d_loss": 0.25, "images_per_second": 12345.6}
    return record


def at(
    epoch: int, *, max_epochs: int | None = 20, is_global_zero: bool = True, metrics: Any = None
) -> Any:
    return SimpleNamespace(
        current_epoch=epoch - 1,
        max_epochs=max_epochs,
        global_step=2577,
        is_global_zero=is_global_zero,
        callback_metrics=metrics or {},
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "perf_counter", lambda: clock.now)
    return clock


def test_an_epoch_is_one_line_with_step_losses_speed_and_time_left(
    record: LossRecord, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    lines = EpochLines(record)
    lines.on_train_start(at(1), None)
    clock.now += 3 * 65
    lines.on_train_epoch_end(at(3), None)
    assert caplog.messages == [
        "epoch 3/20  step 2,577  g_loss 0.367  d_loss 0.195  val/g_loss 0.575  val/d_loss 0.163  "
        "1,000 images/s  0:18:25 left"
    ]


def test_quality_stands_beside_real_images_where_it_was_measured(
    record: LossRecord, clock: SimpleNamespace
) -> None:
    lines = EpochLines(record)
    lines.on_train_start(at(3), None)
    clock.now += 1
    metrics = {"val/fid_cnn": 3.84, "real/fid_cnn": 0.117, "val/g_loss": 0.5}
    assert "val/d_loss 0.163  fid_cnn 3.840 (real 0.117)  " in lines.line(at(3, metrics=metrics))


def test_a_resumed_run_is_timed_by_the_epochs_since_then(
    record: LossRecord, clock: SimpleNamespace
) -> None:
    lines = EpochLines(record)
    lines.on_train_start(at(11), None)
    clock.now += 2 * 30
    assert lines.pace(at(12)).endswith("  0:04:00 left")  # 8 epochs of 30 s


@pytest.mark.parametrize("max_epochs", [3, -1, None])
def test_no_time_is_left_after_the_last_epoch_or_without_one(
    record: LossRecord, clock: SimpleNamespace, max_epochs: int | None
) -> None:
    lines = EpochLines(record)
    lines.on_train_start(at(1), None)
    clock.now += 90
    assert lines.pace(at(3, max_epochs=max_epochs)) == "2,167 images/s"
    assert lines.line(at(3, max_epochs=max_epochs)).startswith(
        "epoch 3/3 " if max_epochs == 3 else "epoch 3  "
    )


def test_only_the_first_rank_speaks(
    record: LossRecord, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    lines = EpochLines(record)
    lines.on_train_start(at(1), None)
    lines.on_train_epoch_end(at(3, is_global_zero=False), None)
    assert caplog.messages == []


def test_the_bar_shows_step_losses_and_speed(record: LossRecord) -> None:
    shown = ProgressBar(record).get_metrics(at(3), None)
    assert shown == {"step": "2,577", "g_loss": 0.5, "d_loss": 0.25, "images/s": "12,346"}
    assert record.latest["images_per_second"] == 12345.6


def test_before_the_first_report_the_bar_shows_the_step_alone(tmp_path: Path) -> None:
    assert ProgressBar(LossRecord(tmp_path)).get_metrics(at(1), None) == {"step": "2,577"}


@pytest.mark.parametrize(("terminal", "kind"), [(True, ProgressBar), (False, EpochLines)])
def test_a_terminal_gets_the_bar_and_a_file_gets_lines(
    record: LossRecord, terminal: bool, kind: type
) -> None:
    made = make_progress(record, bar=terminal)
    assert type(made) is kind
    assert made.record is record
