"""Files that are known by their md5: checked, set aside where damaged, and fetched."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from src.datamodules.data_set import DataSet
from src.datamodules.sources import Source, SourceError
from src.errors import InputError
from src.files import write_atomically

log = logging.getLogger(__name__)


class VerifiedData(DataSet):
    """A data set of files in a ``folder``, known by their md5 and fetched from the first source."""

    md5s: ClassVar[Mapping[str, str]]
    folder: Path

    def sources(self) -> list[Source]:
        """The sources in the order of trying."""
        raise NotImplementedError

    @override
    def prepare(self) -> None:
        with folder_errors(self.folder):
            ensure_files(self.folder, self.md5s, self.sources())


def ensure_files(folder: Path, md5s: Mapping[str, str], sources: Sequence[Source]) -> None:
    """Leave every file of ``md5s`` in ``folder``, intact; log each thing done in one line."""
    for name, md5 in md5s.items():
        set_aside_if_damaged(folder / name, md5)
    if not absent(folder, md5s):
        log.info("%s: all %d files are there, md5 verified", folder, len(md5s))
        return
    folder.mkdir(parents=True, exist_ok=True)
    fetch_from_first(sources, folder, md5s)


def set_aside_if_damaged(path: Path, md5: str) -> None:
    """Rename the file at ``path``, if there is one and it has another md5."""
    if path.exists() and md5_of(path.read_bytes()) != md5:
        size = path.stat().st_size
        log.info("%s is damaged (%d bytes): set aside as %s", path, size, set_aside(path).name)


def absent(folder: Path, md5s: Mapping[str, str]) -> dict[str, str]:
    """Those files of ``md5s`` that are not in ``folder``, whatever is in those that are."""
    return {name: md5 for name, md5 in md5s.items() if not (folder / name).exists()}


def fetch_from_first(sources: Sequence[Source], folder: Path, md5s: Mapping[str, str]) -> None:
    """Ask each source in turn; log why the last one failed and which one is next.

    Raises:
        InputError: if files are missing after all sources.
    """
    failures: list[str] = []
    news = f"{folder}: {len(absent(folder, md5s))} of {len(md5s)} files are missing"
    for source in sources:
        log.info("%s; trying %s", news, source)
        try:
            fetch(source, folder, absent(folder, md5s))
        except SourceError as error:
            news = f"failed ({error})"
            failures.append(f"{source}: {error}")
        else:
            log.info("%s: all %d files are in place, md5 verified", folder, len(md5s))
            return
    raise InputError(
        f"{', '.join(absent(folder, md5s))} could not be fetched ({'; '.join(failures)}):"
        f" put the uncompressed files into {folder} by hand and start again"
    )


def fetch(source: Source, folder: Path, md5s: Mapping[str, str]) -> None:
    """Put the files of ``md5s`` in ``folder``, each only once it is verified.

    Raises:
        SourceError: if the source fails or gives a file with another md5.
    """
    for name, md5 in md5s.items():
        data = source(name)
        if md5_of(data) != md5:
            raise SourceError(f"its {name} has a wrong md5")
        write_atomically(folder / name, data)


@contextmanager
def folder_errors(folder: Path) -> Iterator[None]:
    """Say which setting to change when ``folder`` cannot be read or written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder} cannot be used ({error.strerror}):"
            " type data_dir=FOLDER with a folder that you may write to"
        ) from error


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def set_aside(path: Path) -> Path:
    """Rename a file to NAME.corrupt, or NAME.corrupt.1, ..., and return the new path."""
    names = (f"{path.name}.corrupt{f'.{i}' if i else ''}" for i in count())
    free = next(new for name in names if not (new := path.with_name(name)).exists())
    return path.rename(free)
