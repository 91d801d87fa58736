"""The picture of the losses."""

from pathlib import Path

import pytest
from matplotlib.axes import Axes
from PIL import Image

from src.reports.curves import draw_curves

NAMES = {"g_loss": "generator", "d_loss": "discriminator"}


def test_each_player_and_split_is_one_line_over_its_own_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, tuple[list[float], list[float]]] = {}
    monkeypatch.setattr(
        Axes, "plot", lambda self, x, y, *_, label, **__: drawn.update({label: (x, y)})
    )
    monkeypatch.setattr(Axes, "legend", lambda *_, **__: None)
    history = [
        {"epoch": 1, "step": 5, "train/g_loss": 0.5, "train/d_loss": 0.25},
        {"epoch": 2, "step": 9, "train/g_loss": 0.4, "train/d_loss": 0.3, "val/g_loss": 0.6},
    ]
    draw_curves(history, tmp_path / "curves.png", names=NAMES)
    assert drawn == {
        "generator, train": ([1, 2], [0.5, 0.4]),
        "generator, val": ([2], [0.6]),
        "discriminator, train": ([1, 2], [0.25, 0.3]),
        "discriminator, val": ([], []),
    }


def test_the_picture_is_written_where_there_was_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "run" / "curves.png"
    draw_curves([{"epoch": 1, "step": 5, "train/g_loss": 0.5}], path, names=NAMES)
    with Image.open(path) as picture:
        picture.verify()
