"""Run folders and their checkpoints, found by a short name."""

from pathlib import Path

from src.errors import InputError
from src.runs.portable import PRETRAINED, WEIGHTS

LAST = Path("checkpoints", "last.ckpt")
RECORD = Path(".hydra", "overrides.yaml")  # what the run was started with


def newest_run(logs: Path) -> Path:
    """The run folder with the newest ``last.ckpt``, anywhere under ``logs``.

    A start that was refused, or that ended before its first checkpoint, does not count.

    Raises:
        InputError: if there is none.
    """
    files = [*logs.rglob(str(LAST))]
    if not files:
        raise InputError(
            f"there is no run under {logs} with a checkpoint yet: name a folder, or train one first"
        )
    return max(files, key=lambda file: file.stat().st_mtime).parents[1]


def find_checkpoint(name: str, *, logs: Path) -> Path:
    """The file that ``ckpt=name`` means.

    It is a checkpoint, the last of a run folder, the weights of an export, those of the ``latest``
    run, or the project's own, which are ``pretrained``.

    Raises:
        InputError: if there is no such file.
    """
    if name == "pretrained":
        return PRETRAINED / WEIGHTS
    path = newest_run(logs) if name == "latest" else Path(name)
    if path.is_dir():
        path = path / (WEIGHTS if (path / WEIGHTS).is_file() else LAST)
    if not path.is_file():
        raise InputError(
            f"ckpt={name} does not exist (looked for {path.absolute()}): "
            "name a .ckpt file, a run folder, ckpt=pretrained, or type ckpt=latest"
        )
    return path


def remove_unused(folder: Path) -> None:
    """Remove the folder of a command that came to nothing: one that holds at most an empty log.

    The folders of its day and task go too, if it was alone there.
    """
    inside = [*folder.glob("*")]
    if any(path.is_dir() or path.suffix != ".log" or path.stat().st_size for path in inside):
        return
    here = Path.cwd()
    try:
        for path in inside:
            path.unlink()
        for path in (folder, *folder.absolute().parents[:2]):
            if not here.is_relative_to(path):
                path.rmdir()
    except OSError:
        return  # others are there
