"""Classes, parts and files of a folder, and what is left aside."""

from pathlib import Path

import pytest

from src.datamodules.listing import File, list_pictures
from src.errors import InputError


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_a_folder_per_class_is_listed_in_order(tmp_path: Path) -> None:
    make(tmp_path, "dog/b.png", "cat/deep/er/c.png", "cat/a.png")
    listing = list_pictures(tmp_path)
    assert listing.files == [
        File("cat/a.png", "", "cat"),
        File("cat/deep/er/c.png", "", "cat"),
        File("dog/b.png", "", "dog"),
    ]
    assert listing.skipped == {}


def test_pictures_without_folders_are_of_one_class(tmp_path: Path) -> None:
    root = make(tmp_path / "flowers", "b.png", "a.png")
    assert list_pictures(root).files == [
        File("a.png", "", "flowers"),
        File("b.png", "", "flowers"),
    ]


def test_folders_of_parts_are_parts_and_a_train_may_be_a_class(tmp_path: Path) -> None:
    root = make(tmp_path / "a", "train/cat/1.png", "test/cat/2.png", "val/cat/3.png")
    assert [(file.part, file.label) for file in list_pictures(root).files] == [
        ("train", "cat"), ("val", "cat"), ("test", "cat"),
    ]  # fmt: skip
    root = make(tmp_path / "b", "train/1.png", "test/2.png")
    assert [(file.part, file.label) for file in list_pictures(root).files] == [
        ("train", "b"), ("test", "b"),
    ]  # fmt: skip
    root = make(tmp_path / "c", "train/1.png", "plane/2.png")
    assert [file.label for file in list_pictures(root).files] == ["plane", "train"]


def test_what_is_no_picture_of_a_class_is_noted(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.png", "cat/.DS_Store", ".hidden/b.png", "readme.txt", ".DS_Store")
    (tmp_path / "cat" / "round").symlink_to(tmp_path)
    (tmp_path / "cat" / "self").symlink_to("self")
    (tmp_path / "cat" / "gone").symlink_to("nowhere")
    listing = list_pictures(tmp_path)
    assert [file.path for file in listing.files] == ["cat/a.png"]
    assert listing.skipped == {
        "cat/.DS_Store": "hidden",
        "cat/round": "a link in a circle",
        "cat/self": "no file",
        "cat/gone": "no file",
        ".DS_Store": "hidden",
        "readme.txt": "in no class's folder",
    }


def test_links_to_other_places_are_followed(tmp_path: Path) -> None:
    other = make(tmp_path / "other", "a.png")
    root = make(tmp_path / "root", "cat/b.png")
    (root / "dog").symlink_to(other)
    assert [file.path for file in list_pictures(root).files] == ["cat/b.png", "dog/a.png"]


def test_a_class_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "caf\udce9/a.png", "dog/b.png")
    with pytest.raises(InputError, match=r"caf\\udce9 names a class, .*: rename the folder"):
        list_pictures(tmp_path)


def test_an_empty_class_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.png", "dog/.DS_Store")
    with pytest.raises(InputError, match=r"dog holds no picture: put some there, or remove"):
        list_pictures(tmp_path)
