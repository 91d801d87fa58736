"""Where data files come from: web mirrors and local folders."""

import gzip
import io
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen

T = TypeVar("T")

# What a broken connection, a wrong address, or a page in place of a gzip file can raise.
FAILURES = (OSError, EOFError, ValueError, HTTPException, zlib.error)
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
        try:
            with within(self.answer_s, request) as response:
                return gunzip(read_until(time.monotonic() + self.transfer_s, response))
        except HTTPError as error:
            with error:  # it holds the open connection
                raise SourceError(reason(error)) from error
        except FAILURES as error:
            raise SourceError(reason(error)) from error


@dataclass(frozen=True)
class Folder:
    """Gzipped files that a system package installs."""

    path: Path
    package: str

    def __str__(self) -> str:
        return f"{self.path} (of the package {self.package})"

    def __call__(self, name: str) -> bytes:
        try:
            return gunzip((self.path / f"{name}.gz").read_bytes())
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


def read_until(deadline: float, response: HTTPResponse) -> bytes:
    """Read the whole body, or raise TimeoutError once ``time.monotonic()`` passes ``deadline``."""
    chunks = []
    # read1 returns what has come, so that a trickle meets the deadline.
    while chunk := response.read1(1 << 20):
        chunks.append(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError("the transfer is too slow")
    return b"".join(chunks)


def gunzip(packed: bytes) -> bytes:
    """Unpack at most LARGEST_FILE bytes; a file cut there fails its md5."""
    return gzip.GzipFile(fileobj=io.BytesIO(packed)).read(LARGEST_FILE)


def reason(error: BaseException) -> str:
    """The few words of an error that matter, which URLError and OSError wrap."""
    cause = getattr(error, "reason", error)
    return getattr(cause, "strerror", None) or str(cause) or "no answer in time"
