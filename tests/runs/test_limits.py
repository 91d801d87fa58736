"""A run with nothing left to train says what to type."""

from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer

from src.runs.limits import Done, reached, unforeseen


@pytest.mark.parametrize(
    ("limits", "options"),
    [
        ({}, {}),
        ({"max_epochs": 4}, {}),
        ({"max_epochs": 3}, {"trainer.max_epochs=N": "3"}),
        ({"max_epochs": -1}, {}),
        ({"max_steps": 61}, {}),
        ({"max_steps": 60}, {"trainer.max_steps=N": "60"}),
        ({"max_time": "00:01:01:02"}, {}),
        ({"max_time": "00:01:01:01"}, {"trainer.max_time=DD:HH:MM:SS": "00:01:01:01"}),
        (
            {"max_epochs": 2, "max_steps": 20},
            {"trainer.max_epochs=N": "3", "trainer.max_steps=N": "60"},
        ),
    ],
)
def test_each_limit_that_is_reached_is_named_with_what_is_done(
    limits: dict[str, Any], options: dict[str, str]
) -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **limits)
    assert reached(trainer, Done(epochs=3, steps=60, seconds=3661.5)) == options


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
