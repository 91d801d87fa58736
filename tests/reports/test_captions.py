"""Names of classes stand where their images are, and leave the images as they were."""

import numpy as np
from PIL import Image

from src.reports.captions import above_columns, beside_rows


def tiles(columns: int, rows: int) -> Image.Image:
    return Image.new("RGB", (60 * columns, 60 * rows), (0, 90, 0))


def test_names_stand_above_their_columns() -> None:
    """Letters of one column do not reach into the next, however long its name is."""
    whole = np.asarray(above_columns(tiles(3, 2), ["cat", "an animal without end", "Ägä"]))
    margin = len(whole) - 120
    assert (whole[margin:] == (0, 90, 0)).all()
    letters = whole[:margin].max(axis=(0, 2)) > 0
    for column in range(3):
        mine = letters[60 * column : 60 * (column + 1)]
        assert mine[5:55].any()
        assert not mine[[0, 1, 58, 59]].any()
    assert not letters[:15].any(), "a short name stands in the middle"


def test_names_stand_beside_their_rows() -> None:
    """Two rows of one class share its name."""
    whole = np.asarray(beside_rows(tiles(2, 4), ["cat", "deer"]))
    margin = whole.shape[1] - 120
    assert (whole[:, margin:] == (0, 90, 0)).all()
    letters = np.flatnonzero(whole[:, :margin].max(axis=(1, 2)))
    assert {*(letters // 12)} <= {4, 5, 14, 15}  # around 60 and 180 of 240
    assert {*(letters // 120)} == {0, 1}


def test_a_name_of_several_lines_is_one() -> None:
    one, other = (beside_rows(tiles(1, 1), [name]) for name in ("a\nb", "a b"))
    assert np.array_equal(one, other)


def test_letters_of_other_alphabets_differ() -> None:
    """A font without them would draw the same box for each."""
    one, other = (np.asarray(beside_rows(tiles(1, 1), [name])) for name in "Жλ")
    assert one.shape != other.shape or (one != other).any()
