"""Run folders, found by a short name."""

from pathlib import Path

from src.errors import InputError


def newest_run(logs: Path) -> Path:
    """The run folder under ``logs`` that was started last."""
    records = [*logs.glob("runs/*/*/.hydra"), *logs.glob("multiruns/*/*/.hydra")]
    if not records:
        raise InputError(f"there is no run under {logs} yet: name a folder, or train one first")
    return max(records, key=lambda record: record.stat().st_mtime).parent


def find_checkpoint(name: str, *, logs: Path) -> Path:
    """The file that ``ckpt=name`` means: a file, a run folder's last one, or ``latest``."""
    path = newest_run(logs) if name == "latest" else Path(name)
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise InputError(
            f"ckpt={name} does not exist (looked for {path.absolute()}): "
            "name a .ckpt file, a run folder, or type ckpt=latest"
        )
    return path
