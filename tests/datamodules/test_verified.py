"""Files are verified, repaired and fetched from the first source that works."""

import logging
from pathlib import Path
from typing import Any

import pytest

from src.datamodules.verified import ensure_files, md5_of, set_aside
from src.errors import InputError
from tests.toys import Shelf, assert_says, contents

FILES = {f"{name}-{kind}": f"{name} {kind}".encode() for name in "ab" for kind in ("x", "y")}
MD5S = {name: md5_of(data) for name, data in FILES.items()}


def test_sources_are_asked_in_order_and_only_for_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "src.datamodules")
    half = Shelf("HALF", dict(list(FILES.items())[:2]))
    full, unused = Shelf("FULL", FILES), Shelf("UNUSED", FILES)
    ensure_files(tmp_path, MD5S, [half, full, unused])
    assert contents(tmp_path) == FILES
    assert half.asked == list(FILES)[:3]
    assert full.asked == list(FILES)[2:]
    assert unused.asked == []
    assert caplog.messages == [
        f"{tmp_path}: 4 of 4 files are missing; trying HALF",
        "failed (sold out); trying FULL",
        f"{tmp_path}: all 4 files are in place, md5 verified",
    ]


def test_intact_files_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "src.datamodules")
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    ensure_files(tmp_path, MD5S, [])
    (message,) = caplog.messages
    assert_says(message, str(tmp_path), "all 4 files", "md5 verified")


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"\1" + data[1:]])
def test_a_damaged_file_is_named_set_aside_and_fetched_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    caplog.set_level(logging.INFO, "src.datamodules")
    name = "b-x"
    damaged = damage(FILES[name])
    for file, data in (FILES | {name: damaged}).items():
        (tmp_path / file).write_bytes(data)
    shelf = Shelf("SHELF", FILES)
    ensure_files(tmp_path, MD5S, [shelf])
    assert shelf.asked == [name]
    assert contents(tmp_path) == {**FILES, f"{name}.corrupt": damaged}
    assert_says(caplog.messages[0], f"{tmp_path / name} is damaged", f"({len(damaged)} bytes)")
    assert_says(caplog.messages[0], f"{name}.corrupt")


def test_a_source_with_a_wrong_file_is_passed_over(tmp_path: Path) -> None:
    altered = Shelf("ALTERED", dict.fromkeys(FILES, b"altered"))
    ensure_files(tmp_path, MD5S, [altered, Shelf("GOOD", FILES)])
    assert contents(tmp_path) == FILES


def test_when_all_sources_fail_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    sources = [Shelf("A", {}), Shelf("B", dict.fromkeys(FILES, b"altered"))]
    with pytest.raises(InputError) as failure:
        ensure_files(tmp_path / "raw", MD5S, sources)
    assert_says(failure.value, *FILES, "A: sold out", "B: its a-x has a wrong")
    assert_says(failure.value, f"put the uncompressed files into {tmp_path / 'raw'}")
    assert contents(tmp_path / "raw") == {}


def test_set_aside_never_overwrites(tmp_path: Path) -> None:
    for content in ("a", "b", "c"):
        (tmp_path / "x").write_text(content)
        set_aside(tmp_path / "x")
    contents = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert contents == {"x.corrupt": "a", "x.corrupt.1": "b", "x.corrupt.2": "c"}
