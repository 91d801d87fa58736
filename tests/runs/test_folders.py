"""Short names of runs and of their checkpoints."""

import os
from pathlib import Path

import pytest

from src.errors import InputError
from src.runs.folders import find_checkpoint, newest_run, remove_unused


def started(run: Path, *, at: int) -> Path:
    """A run folder with its configuration and a checkpoint."""
    (run / "checkpoints").mkdir(parents=True)
    for path in (run / "checkpoints" / "last.ckpt", run / "config.yaml"):
        path.touch()
        os.utime(path, (at, at))
    return run


LAST = "checkpoints/last.ckpt"


def test_the_newest_run_is_the_one_started_last_of_runs_and_multiruns(tmp_path: Path) -> None:
    first = started(tmp_path / "runs" / "2026-01-02" / "23-00-00", at=100)
    job = started(tmp_path / "multiruns" / "2026-01-01_00-00-00" / "0", at=200)
    assert newest_run(tmp_path) == job
    os.utime(first / LAST, (300, 300))
    assert newest_run(tmp_path) == first


def test_a_start_without_a_checkpoint_is_never_the_newest(tmp_path: Path) -> None:
    first = started(tmp_path / "runs" / "a" / "b", at=100)
    refused = started(tmp_path / "runs" / "a" / "c", at=200)
    (refused / LAST).unlink()
    assert newest_run(tmp_path) == first


def test_a_run_that_goes_on_writing_does_not_become_the_newest(tmp_path: Path) -> None:
    old = started(tmp_path / "runs" / "a" / "b", at=100)
    new = started(tmp_path / "runs" / "a" / "c", at=200)
    (old / "checkpoints" / "best.ckpt").touch()
    (old / "curves.png").touch()
    assert newest_run(tmp_path) == new


def test_a_run_in_a_folder_of_the_user_s_own_is_found(tmp_path: Path) -> None:
    started(tmp_path / "runs" / "a" / "b", at=100)
    mine = started(tmp_path / "thesis", at=200)
    assert newest_run(tmp_path) == mine


def test_what_wrote_nothing_leaves_no_folder(tmp_path: Path) -> None:
    empty, logged, used = (tmp_path / "logs" / "day" / name for name in ("1", "2", "3"))
    for folder in (empty, logged, used):
        folder.mkdir(parents=True)
        (folder / "run.log").touch()
    (logged / "run.log").write_text("something")
    (used / "checkpoints").mkdir()
    for folder in (empty, logged, used):
        remove_unused(folder)
    assert {path.name for path in (tmp_path / "logs" / "day").iterdir()} == {"2", "3"}
    remove_unused(tmp_path / "nowhere")


def test_the_folders_of_day_and_task_go_with_the_only_start_in_them(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "runs" / "day" / "1"
    folder.mkdir(parents=True)
    remove_unused(folder)
    assert [*(tmp_path / "logs").iterdir()] == []


def test_the_folder_where_the_command_is_typed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    remove_unused(tmp_path / "mine")
    assert tmp_path.is_dir()
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("folders", [[], ["runs/a/b"]], ids=["nothing", "a folder without record"])
def test_where_there_is_no_run_the_user_learns_what_to_do(
    tmp_path: Path, folders: list[str]
) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        newest_run(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert str(caught.value).endswith("name a folder, or train one first")


def test_a_checkpoint_is_named_by_file_by_folder_or_as_the_latest(tmp_path: Path) -> None:
    run = started(tmp_path / "runs" / "a" / "b", at=100)
    last, best = run / "checkpoints" / "last.ckpt", run / "checkpoints" / "best.ckpt"
    best.touch()
    assert find_checkpoint(str(best), logs=tmp_path) == best
    assert find_checkpoint(str(run), logs=tmp_path) == last
    assert find_checkpoint("latest", logs=tmp_path) == last


def test_relative_names_start_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(tmp_path / "run", at=100)
    monkeypatch.chdir(tmp_path)
    found = find_checkpoint("run", logs=tmp_path)
    assert found.samefile(tmp_path / "run" / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("name", ["nowhere", "nowhere.ckpt", "empty"])
def test_a_checkpoint_that_is_missing_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        find_checkpoint(name, logs=tmp_path)
    message = str(caught.value)
    looked_for = (
        tmp_path / name / "checkpoints" / "last.ckpt" if name == "empty" else tmp_path / name
    )
    assert message.startswith(f"ckpt={name} does not exist (looked for {looked_for})")
    assert message.endswith("type ckpt=latest")
