"""Schedules that end with the run, however long it is."""

import pytest

from src.errors import InputError
from tests.conftest import Compose


@pytest.mark.parametrize(
    ("length", "images"),
    [
        (["trainer.max_epochs=3"], 3 * 55_000),
        (["trainer.max_steps=100"], 100 * 64),
        (["trainer.max_steps=100", "model.discriminator_steps=5"], 100 * 5 * 64),
        (["trainer.max_steps=100", "trainer.gpus=4"], 100 * 4 * 64),
        (["trainer.max_steps=100", "trainer.gpus=[0,3]"], 100 * 2 * 64),
        (["trainer.max_steps=100", "trainer.gpus=auto"], 100 * 64),
        (["trainer.max_steps=100", "trainer=ddp", "trainer.devices=2"], 100 * 2 * 64),
        (["trainer.max_steps=100_000", "trainer.max_epochs=2"], 2 * 55_000),
        (["trainer.max_epochs=null", "trainer.max_steps=10", "datamodule.batch_size=7"], 70),
        (
            ["trainer.max_epochs=1", "datamodule.train_val_test_split=[50_000,10_000,10_000]"],
            50_000,
        ),
    ],
)
def test_the_decay_ends_with_the_run(typed: Compose, length: list[str], images: int) -> None:
    cfg = typed("model/schedules=decay", *length)
    assert cfg.model.schedules.lr.points == [[images // 2, 1.0], [images, 0.0]]


def test_a_run_without_an_end_has_no_decay(typed: Compose) -> None:
    with pytest.raises(InputError, match=r"model.schedules end with the run, which has no end: "):
        typed("model/schedules=decay", "trainer.max_epochs=null")
