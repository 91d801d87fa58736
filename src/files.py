"""Files that are on disk before anything relies on them."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO


def write_through(path: Path, content: bytes) -> None:
    """Write ``content``, and wait until the disk has it: a rename is then safe from a crash."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file, so that readers see the old or the whole new one, also after a crash."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        write_through(unfinished, content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path, *, patience_s: float = 10.0) -> Iterator[None]:
    """Have ``folder`` alone for a moment in which files are read, changed and written.

    Waits for other processes that do so there. A lock that is still there after ``patience_s``
    seconds was left by a crash, and is ignored.
    """
    lock, deadline = folder / "lock", time.monotonic() + patience_s
    while not is_made(partial(lock.touch, exist_ok=False)) and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read and append, once no other process has it locked; a crash unlocks it."""
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def is_made(make: Callable[[], None]) -> bool:
    """Whether this very call has made the file or folder, which ``make`` does not do twice."""
    try:
        make()
    except FileExistsError:
        return False
    return True
