"""Files that are on disk before anything relies on them."""

import os
from pathlib import Path


def write_through(path: Path, content: bytes) -> None:
    """Write and wait until the disk has it, so that a rename afterwards is safe from a crash."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, content: bytes) -> None:
    """Readers see the old file or the whole new one, also after a crash."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        write_through(partial, content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
