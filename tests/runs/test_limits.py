"""A run with nothing left to train says what to type."""

from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer

from src.runs.limits import Done, reached, unforeseen


@pytest.mark.parametrize(
    ("limits", "options"),
    [
        ({}, []),
        ({"max_epochs": 4}, []),
        ({"max_epochs": 3}, ["trainer.max_epochs=N with more than 3"]),
        ({"max_epochs": -1}, []),
        ({"max_steps": 61}, []),
        ({"max_steps": 60}, ["trainer.max_steps=N with more than 60"]),
        ({"max_time": "00:01:01:02"}, []),
        (
            {"max_time": "00:01:01:01"},
            ["trainer.max_time=DD:HH:MM:SS with more than 00:01:01:01"],
        ),
        (
            {"max_epochs": 2, "max_steps": 20},
            ["trainer.max_epochs=N with more than 3", "trainer.max_steps=N with more than 20"],
        ),
    ],
)
def test_each_limit_that_is_reached_is_named(limits: dict[str, int], options: list[str]) -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **limits)
    found = reached(trainer, Done(epochs=3, steps=60, seconds=3661.5))
    assert found == [option.replace("than 20", "than 60") for option in options]


@pytest.mark.parametrize(
    ("callbacks", "names"),
    [
        ([], []),
        ([Timer()], []),  # which only measures
        ([Timer("00:00:01:00")], ["trainer.max_time"]),
        (
            [EarlyStopping("val/g_loss"), Timer("00:00:01:00")],
            ["trainer.max_time", "EarlyStopping"],
        ),
    ],
)
def test_what_ends_a_run_at_an_unknown_time_is_named(callbacks: Any, names: list[str]) -> None:
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=callbacks
    )
    assert unforeseen(trainer) == names
