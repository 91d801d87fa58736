"""The record in a run folder of how its run was started."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.tree import Tree

from src.errors import InputError
from src.files import write_atomically
from src.reports.terminal import setting
from src.runs.folders import LAST, RECORD


@rank_zero_only
def claim_folder(
    run_dir: Path, options: Sequence[str], config: dict[str, Any], *, picture: Tree, resumes: bool
) -> None:
    """Save what a run is started with in its folder, which must not belong to another run.

    A start that was refused has changed nothing there, so that ``resume`` finds its own record. The
    record comes first, so that a run that is killed right here can be resumed.

    Args:
        options: the overrides that start the run again.
        config: the resolved configuration, kept as ``config.yaml``.
        picture: the same for people, kept as ``config_tree.txt``.
        resumes: whether the record is that of this very run, and may be replaced.

    Raises:
        InputError: if the folder holds a run that is not being resumed.
    """
    content = as_yaml([*options])
    (run_dir / RECORD).parent.mkdir(exist_ok=True)
    try:
        if resumes:
            write_atomically(run_dir / RECORD, content)
        else:
            with (run_dir / RECORD).open("xb") as file:
                file.write(content)
    except FileExistsError:
        raise InputError(
            f"{run_dir} already holds a run: type {setting('resume', run_dir)} to continue it, "
            "or hydra.run.dir=PATH for another folder"
        ) from None
    (run_dir / "config.yaml").write_bytes(as_yaml(config))
    with (run_dir / "config_tree.txt").open("w", encoding="utf-8") as file:
        Console(file=file, width=120).print(picture)


@rank_zero_only
def release_folder(run_dir: Path, error: InputError, *, resumes: bool) -> None:
    """Let the corrected command have the folder of a start that came to nothing.

    A full disk is no mistake in the options: that run is resumed.
    """
    is_new = not resumes and not (run_dir / LAST).is_file()
    if is_new and not isinstance(error.__cause__, OSError):
        (run_dir / RECORD).unlink(missing_ok=True)


def as_yaml(content: Any) -> bytes:
    """Write ``content`` as YAML, its keys in the order that they have."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()
