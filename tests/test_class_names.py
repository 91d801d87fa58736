"""Names of classes are found as they are typed, and safe in messages and paths."""

from pathlib import Path

import pytest

from src.class_names import find_class, folder_of, folders_of, likely, listed, numbered

ANIMALS = ["cat", "dog", "hen"]


@pytest.mark.parametrize(
    ("typed", "names", "found"),
    [
        ("dog", ANIMALS, 1),
        (1, ANIMALS, 1),
        ("1", ANIMALS, 1),
        ("Dog", ANIMALS, None),
        (3, ANIMALS, None),
        (-1, ANIMALS, None),
        (7, numbered(10), 7),
        (2, ["1", "2", "3"], 1),  # by name
        (0, ["1", "2", "3"], None),  # a number there is a name, and none is called 0
        (1, ["01", "02"], None),
        ("01", ["01", "02"], 0),
    ],
)
def test_a_class_is_meant_by_name_or_by_number(
    typed: str | int, names: list[str], found: int | None
) -> None:
    assert find_class(typed, names) == found


def test_numbers_are_listed_as_a_range_and_long_lists_are_cut() -> None:
    assert listed(numbered(10)) == "0..9"
    assert listed(ANIMALS) == "cat, dog, hen"
    assert listed([f"a{i}" for i in range(25)]).endswith("a18, a19 and 5 more")


def test_the_nearest_name_is_guessed() -> None:
    assert likely(["zzz", "DGO"], ANIMALS) == "dog"
    assert likely(["zzz"], ANIMALS) is None


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("5", "5"),
        ("ankle boot", "ankle boot"),
        ("T-shirt/top", "T-shirt_top"),
        ("../../etc", "__.._etc"),
        ("..", "_"),
        ("", "_"),
        ("Käse", "Käse"),
        ("x" * 300, "x" * 100),
    ],
)
def test_a_folder_of_any_name_stays_where_it_should(tmp_path: Path, name: str, folder: str) -> None:
    assert folder_of(name) == folder
    assert (tmp_path / folder_of(name)).resolve().parent == tmp_path.resolve()


def test_no_two_classes_share_a_folder() -> None:
    assert folders_of(["a?", "b", "a*", "B"]) == ["a_", "b", "a_-2", "B-2"]
    assert folders_of(["a?", "a_-2", "a*"]) == ["a_", "a_-2", "a_-3"]
    assert folders_of(["cat", "dog"]) == ["cat", "dog"]
