"""The wandb callbacks in a real fit of two adversaries."""

import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from src.callbacks.wandb import (
    UploadCheckpointsAsArtifact,
    UploadCodeAsArtifact,
    WatchModel,
    best_checkpoints,
    histogram,
    warn_of_no_logger,
)
from src.configuration.guesses import CONFIGS
from src.loggers.csv import CSVLogger
from src.loggers.wandb import close_wandb, open_wandb

pytestmark = [
    # wandb does not wait for its service to end.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning on newer torch
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home, where nothing must appear, and no credentials."""
    home = tmp_path / "home"
    home.mkdir()
    for key in [key for key in os.environ if "WANDB" in key or "XDG" in key]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    warn_of_no_logger.cache_clear()
    close_wandb()
    yield home
    close_wandb()
    gc.collect()


class Adversaries(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = nn.Linear(2, 2), nn.Linear(2, 1)
        self.average = nn.Linear(2, 2).requires_grad_(False)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.discriminator(self.generator(batch)).sum())
        optimizer.step()
        self.log("loss", 1.0 / (1 + batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    folder: Path, logger: object, *, saver: ModelCheckpoint | None = None, **options: object
) -> pl.Trainer:
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "model.py").write_text("answer = 42\n")
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=logger,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        log_every_n_steps=1,
        callbacks=[
            saver or ModelCheckpoint(folder / "checkpoints", monitor="loss", save_last=True),
            WatchModel(log_freq=2),
            UploadCodeAsArtifact(str(folder / "src")),
            UploadCheckpointsAsArtifact(str(folder / "checkpoints")),
        ],
        **options,
    )
    trainer.fit(Adversaries(), DataLoader(torch.ones(4, 2)))
    return trainer


def records(folder: Path, kind: str) -> list[dict]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", str(folder), "--json"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [record for record in map(json.loads, lines) if record.get("type") == kind]


@pytest.mark.slow
def test_an_offline_run_holds_everything_in_its_folder(tmp_path: Path, home: Path) -> None:
    run = tmp_path / "run"
    fit(run, open_wandb(save_dir=str(run), offline=True))
    close_wandb()
    (folder,) = run.glob("wandb/offline-run-*")
    rows = [record["history"]["item"] for record in records(folder, "history")]
    charts = {key.split(".")[0] for row in rows for key in row if "/" in key}
    for kind in ("parameters", "gradients"):
        assert {f"{kind}/generator", f"{kind}/discriminator"} <= charts
        assert f"{kind}/average" not in charts
    artifacts = json.dumps(records(folder, "artifact"))
    assert "model.py" in artifacts
    assert "epoch=0" in artifacts
    assert "last.ckpt" not in artifacts
    assert (folder / "code" / "model.py").read_text() == "answer = 42\n"
    assert not (home / ".local").exists()  # where wandb would collect what it cannot upload


@pytest.mark.slow
def test_where_no_metric_chooses_the_last_checkpoint_is_uploaded(tmp_path: Path) -> None:
    run = tmp_path / "run"
    saver = ModelCheckpoint(run / "checkpoints", filename="last", save_on_train_epoch_end=True)
    fit(run, open_wandb(save_dir=str(run), offline=True), saver=saver)
    close_wandb()
    (folder,) = run.glob("wandb/offline-run-*")
    assert "last.ckpt" in json.dumps(records(folder, "artifact"))


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize(("name", "is_uploaded"), [("run/best.ckpt", True), ("key.pem", False)])
def test_a_checkpoint_that_was_continued_names_no_file_to_upload(
    tmp_path: Path, name: str, is_uploaded: bool
) -> None:
    saver = ModelCheckpoint(tmp_path / "run", monitor="val/fid_cnn")
    path = tmp_path / name
    saver.load_state_dict({"dirpath": "/elsewhere", "best_model_path": str(path)})
    trainer: Any = SimpleNamespace(checkpoint_callbacks=[saver])
    assert best_checkpoints(trainer) == [path] * is_uploaded


def test_without_wandb_one_warning_and_a_finished_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    with caplog.at_level(logging.WARNING):
        assert fit(run, CSVLogger(save_dir=str(run))).global_step == 4
    assert caplog.text.count("type logger=wandb") == 1
    assert not (run / "wandb").exists()


@pytest.mark.filterwarnings("ignore:.*fast_dev_run")
def test_a_fast_dev_run_needs_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path / "run", open_wandb(save_dir=str(tmp_path / "run")), fast_dev_run=True)
    assert "logger=wandb" not in caplog.text


def test_a_disabled_run_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = tmp_path / "run"
    fit(run, open_wandb(save_dir=str(run)))
    assert not (run / "wandb").exists()


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, float("nan")], [float("inf")], []])
def test_histograms_count_finite_values(values: list[float]) -> None:
    finite = torch.tensor(values).isfinite().sum()
    assert sum(histogram(torch.tensor(values)).histogram) == finite


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["csv", "tensorboard", "wandb", "many_loggers", "none"])
def test_every_logger_composes_with_the_wandb_callbacks(logger: str) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("config", [f"logger={logger}", "callbacks=wandb"])
    assert {"model_checkpoint", "watch_model"} <= set(cfg.callbacks)
    expected = {"none": set(), "many_loggers": {"csv", "tensorboard", "wandb"}}
    assert set(cfg.logger) == expected.get(logger, {logger})
