"""Where data files come from: web mirrors, archives and local folders."""

import gzip
import io
import os
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from src.files import locked

T = TypeVar("T")

# What a broken connection, a wrong address, or a page in place of an archive can raise.
FAILURES = (OSError, EOFError, ValueError, HTTPException, zlib.error, tarfile.TarError)
LARGEST_FILE = 1 << 26  # bytes: more than any file here, less than a decompression bomb


class SourceError(Exception):
    """Says in a few words why a source cannot give a file."""


class Source(Protocol):
    """Gives a file's uncompressed bytes by name, or raises SourceError; ``str`` names the place."""

    def __call__(self, name: str) -> bytes: ...


@dataclass(frozen=True)
class Mirror:
    """A web folder of gzipped files; ``answer_s`` and ``transfer_s`` limit the wait for each."""

    url: str
    answer_s: float = 5.0
    transfer_s: float = 300.0

    def __str__(self) -> str:
        return self.url

    def __call__(self, name: str) -> bytes:
        request = partial(urlopen, f"{self.url}{name}.gz", timeout=self.answer_s)
        with failures_as_reasons(), within(self.answer_s, request) as response:
            deadline = time.monotonic() + self.transfer_s
            return gunzip(b"".join(chunks_until(deadline, response)))


@dataclass(frozen=True)
class Archive:
    """A tar archive on the web, from which files are taken by name, wherever they lie in it.

    What has come before a connection breaks is kept in ``folder``, and the next start fetches the
    rest. Another process that fetches the same waits for it.
    """

    url: str
    folder: Path
    answer_s: float = 5.0
    transfer_s: float = 3_600.0

    def __str__(self) -> str:
        return self.url

    def __call__(self, name: str) -> bytes:
        with failures_as_reasons():
            return self.files[name]

    @cached_property
    def files(self) -> dict[str, bytes]:
        """All files by name, fetched when they are first asked for."""
        path = self.folder / f"{Path(self.url).name}.partial"
        with locked(path) as file:
            try:
                self.fetch_rest(file)
            finally:
                if file.tell() == 0:  # it is whole, or nothing has come
                    path.unlink(missing_ok=True)
            with tarfile.open(fileobj=file) as archive:
                return {
                    Path(member.name).name: content.read(LARGEST_FILE)
                    for member in archive
                    if (content := archive.extractfile(member)) is not None
                }

    def fetch_rest(self, file: BinaryIO) -> None:
        """Append to ``file`` what it lacks, and go to its start."""
        request = Request(self.url, headers={"Range": f"bytes={file.seek(0, os.SEEK_END)}-"})
        try:
            with within(
                self.answer_s, partial(urlopen, request, timeout=self.answer_s)
            ) as response:
                if response.status != HTTPStatus.PARTIAL_CONTENT:
                    file.truncate(0)
                for chunk in chunks_until(time.monotonic() + self.transfer_s, response):
                    file.write(chunk)
                if response.length:
                    raise EOFError("the connection broke: start again to fetch the rest")
        except HTTPError as error:
            with error:
                if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # it lacks nothing
                    raise
        file.seek(0)


@dataclass(frozen=True)
class Folder:
    """Gzipped files that a system package installs."""

    path: Path
    package: str

    def __str__(self) -> str:
        return f"{self.path} (of the package {self.package})"

    def __call__(self, name: str) -> bytes:
        with failures_as_reasons():
            return gunzip((self.path / f"{name}.gz").read_bytes())


@contextmanager
def failures_as_reasons() -> Iterator[None]:
    """Raise what a source's failures are known by as SourceError, in a few words."""
    try:
        yield
    except HTTPError as error:
        with error:  # it holds the open connection
            raise SourceError(reason(error)) from error
    except FAILURES as error:
        raise SourceError(reason(error)) from error


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return the result of ``work`` or raise TimeoutError after ``seconds``.

    A name look-up heeds no socket timeout; here it is left behind in its thread.
    """
    future: Future[T] = Future()

    def settle() -> None:
        try:
            future.set_result(work())
        except FAILURES as error:
            future.set_exception(error)

    threading.Thread(target=settle, daemon=True).start()
    return future.result(timeout=seconds)


def chunks_until(deadline: float, response: HTTPResponse) -> Iterator[bytes]:
    """Yield the whole body, or raise TimeoutError once ``time.monotonic()`` passes ``deadline``."""
    # read1 returns what has come, so that a trickle meets the deadline.
    while chunk := response.read1(1 << 20):
        yield chunk
        if time.monotonic() > deadline:
            raise TimeoutError("the transfer is too slow")


def gunzip(packed: bytes) -> bytes:
    """Unpack at most LARGEST_FILE bytes; a file cut there fails its md5."""
    return gzip.GzipFile(fileobj=io.BytesIO(packed)).read(LARGEST_FILE)


def reason(error: BaseException) -> str:
    """The few words of an error that matter, which URLError and OSError wrap."""
    cause = getattr(error, "reason", error)
    return getattr(cause, "strerror", None) or str(cause) or "no answer in time"
