"""Files are replaced whole or not at all."""

import os
from pathlib import Path

import pytest

from src.files import alone_in, write_atomically


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail) if step == "fsync" else None
    monkeypatch.setattr(Path, "replace", fail) if step == "replace" else None
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_lock_that_a_crash_has_left_does_not_last(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with alone_in(tmp_path, patience_s=0.05):
        pass
    assert not list(tmp_path.iterdir())


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(KeyError), alone_in(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())
