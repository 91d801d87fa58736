"""Quality while training: when, where it is reported, and that it disturbs nothing."""

import csv
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from src.callbacks.best_checkpoint import BestCheckpoint
from src.configuration.prepare import compose_in
from src.errors import InputError
from src.generate import load_model
from src.runs.checkpoints import load_checkpoint
from src.train import train
from tests.toys import BARS, Compose, measure_again

N = 800
TINY = [
    *BARS,
    "ignore_warnings=true",
    "trainer.max_epochs=3",
    "callbacks.quality.every_n_epochs=2",
    f"callbacks.quality.n={N}",
    "model.ema_halflife_images=300",
    "model.lr=1e-3",
    "logger=csv",
]
STEPS = 1_500 // 64


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, judged_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(compose_in(folder, *TINY, f"data_dir={judged_data}"))
    return folder


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def test_it_is_measured_every_n_epochs_and_after_the_last(run: Path) -> None:
    table = rows(run / "quality.csv")
    assert [row["epoch"] for row in table] == [2, 3]
    assert [row["step"] for row in table] == [2 * STEPS, 3 * STEPS]
    assert [row["images"] for row in table] == [2 * STEPS * 64, 3 * STEPS * 64]
    assert 0 < table[0]["seconds"] < table[1]["seconds"]
    assert (run / "quality.png").stat().st_size > 1_000


def test_it_reaches_the_loggers_on_the_common_axis_beside_real_images(run: Path) -> None:
    logged = [row for row in rows(run / "metrics.csv") if "val/fid_cnn" in row]
    assert [row["step"] for row in logged] == [2 * STEPS, 3 * STEPS]
    for row, kept in zip(logged, rows(run / "quality.csv"), strict=True):
        for name in ("fid_cnn", "label_accuracy", "coverage"):
            assert row[f"val/{name}"] == pytest.approx(kept[name])
            assert row[f"real/{name}"] == pytest.approx(kept[f"real_{name}"])
    assert logged[0]["real/fid_cnn"] < logged[0]["val/fid_cnn"] / 20


def test_the_averaged_generator_is_measured_on_the_validation_part(
    run: Path, judged_data: Path
) -> None:
    kept = rows(run / "quality.csv")[-1]
    assert load_model(run / "checkpoints" / "last.ckpt").ema is not None
    for name, value in measure_again(run, judged_data, n=N).items():
        assert kept[name] == pytest.approx(value, rel=1e-4)


def test_the_best_checkpoint_has_the_lowest_distance(run: Path) -> None:
    best = min(rows(run / "quality.csv"), key=lambda row: row["fid_cnn"])
    names = [path.stem for path in (run / "checkpoints").glob("best-*.ckpt")]
    assert names == [f"best-{int(best['step']):09d}"]


def test_measuring_changes_no_weight(run: Path, tmp_path: Path, judged_data: Path) -> None:
    without = [*TINY, f"data_dir={judged_data}", "~callbacks.quality", "~callbacks.best_checkpoint"]
    train(compose_in(tmp_path, *without))
    with_it, plain = (
        load_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
        for folder in (run, tmp_path)
    )
    assert all(torch.equal(with_it[name], plain[name]) for name in plain)


def test_the_record_and_the_clock_go_on_after_a_resume(
    run: Path, typed: Compose, tmp_path: Path, judged_data: Path
) -> None:
    more = ["trainer.max_epochs=4", f"ckpt={run / 'checkpoints' / 'last.ckpt'}"]
    train(typed(*TINY, *more, f"data_dir={judged_data}"))
    before, after = rows(run / "quality.csv"), rows(tmp_path / "quality.csv")
    assert after[:2] == before
    assert [row["epoch"] for row in after] == [2, 3, 4]
    assert after[2]["seconds"] > before[1]["seconds"]


@pytest.mark.slow
def test_without_judges_a_run_says_so_once_and_goes_on(
    typed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        train(typed(*TINY, "trainer.max_epochs=2", f"data_dir={tmp_path}"))
    warnings = [record.message for record in caplog.records if "not measured" in record.message]
    assert len(warnings) == 1
    assert "type python run.py task=train_judge datamodule=" in warnings[0]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"last.ckpt"}


@pytest.mark.parametrize(
    ("options", "measured"),
    [
        (["trainer.max_steps=30"], [(2, 30)]),
        (["trainer.check_val_every_n_epoch=2"], [(2, 2 * STEPS), (3, 3 * STEPS)]),
        (["trainer.limit_val_batches=0"], [(2, 2 * STEPS), (3, 3 * STEPS)]),
        (["trainer.val_check_interval=0.5"], [(2, 2 * STEPS), (3, 3 * STEPS)]),
        (["callbacks.quality.every_n_epochs=5"], [(3, 3 * STEPS)]),
    ],
)
def test_the_last_state_is_measured_whatever_ends_the_training(
    typed: Compose, tmp_path: Path, judged_data: Path, options: list[str], measured: list[Any]
) -> None:
    train(typed(*TINY, *options, f"data_dir={judged_data}"))
    table = rows(tmp_path / "quality.csv")
    assert [(row["epoch"], row["step"]) for row in table] == measured
    assert table[-1]["images"] == 64 * table[-1]["step"]
    best = min(table, key=lambda row: row["fid_cnn"])
    assert (tmp_path / "checkpoints" / f"best-{int(best['step']):09d}.ckpt").is_file()


def test_a_search_reads_the_quality_of_a_run_that_was_already_over(
    run: Path, typed: Compose, tmp_path: Path, judged_data: Path
) -> None:
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    cfg = typed(*TINY, "optimized_metric=val/fid_cnn", f"data_dir={judged_data}")
    cfg.resume = str(tmp_path)
    value = train(cfg)
    assert value == pytest.approx(rows(run / "quality.csv")[-1]["fid_cnn"])
    assert train(typed(*TINY, "debug=true", "optimized_metric=val/fid_cnn")) is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ["datamodule.dataset.n_classes=11"],
            "know 10 classes and 1 channels, these data have 11 and 1",
        ),
        (["datamodule.dataset.channels=3"], "these data have 10 and 3"),
        (["datamodule.train_val_test_split=[1500,64,700]"], "64 validation images are too few"),
    ],
)
def test_data_that_no_judge_fits_are_trained_on_with_a_warning(
    typed: Compose, judged_data: Path, caplog: pytest.LogCaptureFixture,
    options: list[str], reason: str,
) -> None:  # fmt: skip
    with caplog.at_level(logging.WARNING):
        train(typed(*TINY, *options, "trainer.max_steps=2", f"data_dir={judged_data}"))
    assert reason in caplog.text


@pytest.mark.parametrize(("split_seed", "warned"), [(0, False), (1, True)])
def test_judges_of_another_split_are_warned_of(
    typed: Compose, judged_data: Path, caplog: pytest.LogCaptureFixture,
    split_seed: int, warned: bool,
) -> None:  # fmt: skip
    split = f"datamodule.split_seed={split_seed}"
    with caplog.at_level(logging.WARNING):
        train(typed(*TINY, split, "trainer.max_steps=2", f"data_dir={judged_data}"))
    assert ("not known to have learned from today's training part" in caplog.text) == warned


def test_an_interval_of_zero_is_refused(typed: Compose) -> None:
    with pytest.raises(InputError, match="every_n_epochs=0 is not allowed: type 1 or more, or ~"):
        train(typed(*TINY, "callbacks.quality.every_n_epochs=0"))


def test_too_few_images_to_judge_are_refused(typed: Compose, judged_data: Path) -> None:
    with pytest.raises(InputError, match=r"callbacks.quality.n=64 .* at least 65"):
        train(typed(*TINY, "callbacks.quality.n=64", f"data_dir={judged_data}"))


class Scripted(pl.LightningModule):
    """Logs a value after some epochs only."""

    def __init__(self, values: list[float | None]) -> None:
        super().__init__()
        self.values, self.weight = values, torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.weight

    def validation_step(self, batch: Any, batch_idx: int) -> None: ...

    def on_validation_start(self) -> None:
        self.trainer.callback_metrics.pop("val/fid_cnn", None)

    def on_validation_epoch_end(self) -> None:
        value = self.values[self.current_epoch]
        if value is not None and not self.trainer.sanity_checking:
            self.log("val/fid_cnn", value)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.weight], lr=1.0)


def test_best_is_decided_only_where_something_was_measured(tmp_path: Path) -> None:
    best = BestCheckpoint(
        dirpath=tmp_path, filename="{step}", monitor="val/fid_cnn", save_on_train_epoch_end=False
    )
    trainer = pl.Trainer(
        max_epochs=6, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[best], accelerator="cpu", num_sanity_val_steps=0,
    )  # fmt: skip
    values = [None, 3.0, None, 2.0, None, 5.0]
    trainer.fit(Scripted(values), DataLoader(torch.zeros(2)), DataLoader(torch.zeros(1)))
    assert best.best_model_score == 2.0
    assert [path.name for path in tmp_path.iterdir()] == ["step=8.ckpt"]
