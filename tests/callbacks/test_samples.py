"""Grids and their film."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.callbacks.samples import SampleGrid, write_film
from src.configuration.build import build_model
from src.images import grid
from tests.toys import Compose


@pytest.mark.parametrize("channels", [1, 3])
def test_the_film_keeps_the_colours(tmp_path: Path, channels: int) -> None:
    (tmp_path / "samples").mkdir()
    shades = np.arange(256, dtype=np.uint8).reshape(16, 16)
    second = shades if channels == 1 else shades // 2
    frame = np.stack([shades, second, second], axis=-1)
    for epoch in (1, 2):
        Image.fromarray(frame).save(tmp_path / "samples" / f"epoch_{epoch:04d}.png")
    write_film(tmp_path / "samples")
    with Image.open(tmp_path / "samples.gif") as film:
        assert np.array_equal(np.asarray(film.convert("RGB")), frame)


@pytest.mark.parametrize(("n_classes", "columns", "rows"), [(10, 10, 4), (3, 3, 4), (1, 10, 1)])
def test_classes_are_columns_where_there_are_several(
    typed: Compose, n_classes: int, columns: int, rows: int
) -> None:
    gan = build_model(
        typed(
            "model=small_gan", "datamodule=synthetic", f"datamodule.dataset.n_classes={n_classes}"
        )
    )
    picture = SampleGrid("unused", rows=rows).draw(gan)
    black = torch.zeros(rows * columns, 1, 28, 28, dtype=torch.uint8)
    assert picture.size == grid(black, columns=columns).size


def test_names_of_classes_stand_above_their_columns(typed: Compose) -> None:
    gan = build_model(typed("model=small_gan", "datamodule=synthetic"))
    plain = SampleGrid("unused", rows=2).draw(gan)
    gan.class_names = [f"kind {label}" for label in range(10)]
    named = np.asarray(SampleGrid("unused", rows=2).draw(gan))
    margin = len(named) - plain.height
    assert margin > 10
    assert named[:margin].any()
    assert np.array_equal(named[margin:], np.asarray(plain))
