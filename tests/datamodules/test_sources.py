"""Each source gives the bytes or says in a few words why not; none hangs."""

import gzip
import http.server
import io
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from src.datamodules import sources
from src.datamodules.sources import Archive, Folder, Mirror, SourceError

PAYLOAD = b"the file's content" * 100


class Handler(http.server.BaseHTTPRequestHandler):
    """Knows good.gz, page.gz (no gzip), short.gz (cut) and trickle.gz (a byte now and then)."""

    def do_GET(self) -> None:
        packed = gzip.compress(PAYLOAD)
        bodies = {"/good.gz": packed, "/page.gz": b"<html>", "/short.gz": packed[:-12]}
        if self.path == "/trickle.gz":
            self.trickle()
        elif self.path in bodies:
            body = bodies[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.send_error(404)

    def trickle(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(1_000):
                self.wfile.write(b"x")
                time.sleep(0.02)
        except OSError:
            pass  # the client has given up, as it should

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()


def test_a_mirror_gives_the_uncompressed_file(server: str) -> None:
    assert Mirror(server)("good") == PAYLOAD


@pytest.mark.parametrize(
    ("name", "why"),
    [("absent", "Not Found"), ("page", "Not a gzipped file"), ("short", "ended before")],
)
def test_a_mirror_says_why_not(server: str, name: str, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        Mirror(server)(name)


def test_a_trickling_mirror_meets_its_deadline(server: str) -> None:
    started_at = time.perf_counter()
    with pytest.raises(SourceError, match="too slow"):
        Mirror(server, transfer_s=0.1)("trickle")
    assert time.perf_counter() - started_at < 5


def test_a_silent_server_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started_at = time.perf_counter()
        with pytest.raises(SourceError, match=r"timed out|no answer in time"):
            Mirror(f"http://127.0.0.1:{silent.getsockname()[1]}/", answer_s=0.2)("x")
        assert time.perf_counter() - started_at < 5


def test_a_name_look_up_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    finished = threading.Event()
    monkeypatch.setattr(sources, "urlopen", lambda *_, **__: finished.wait(5))
    with pytest.raises(SourceError, match="no answer in time"):
        Mirror("http://example.invalid/", answer_s=0.05)("x")
    finished.set()


def test_a_refused_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(SourceError, match="Connection refused"):
        Mirror(f"http://127.0.0.1:{port}/")("x")


def test_a_folder_gives_its_files_or_says_why_not(tmp_path: Path) -> None:
    (tmp_path / "good.gz").write_bytes(gzip.compress(PAYLOAD))
    assert Folder(tmp_path, package="any")("good") == PAYLOAD
    with pytest.raises(SourceError, match="No such file"):
        Folder(tmp_path, package="any")("absent")


def test_a_decompression_bomb_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGEST_FILE", 10)
    assert sources.gunzip(gzip.compress(PAYLOAD)) == PAYLOAD[:10]


FILES = {name: np.random.default_rng(0).bytes(1 << 18) for name in ("a.bin", "b.bin")}


def archive() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return packed.getvalue()


class Breaking(Handler):
    """Serves an archive in parts, and breaks the first connection half way."""

    content = archive()
    ranges: ClassVar[list[str]] = []
    knows_ranges = True

    def do_GET(self) -> None:
        asked = self.headers["Range"].removeprefix("bytes=").removesuffix("-")
        self.ranges.append(asked)
        start = int(asked) if self.knows_ranges else 0
        if start == len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if self.knows_ranges else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        end = len(self.content) if len(self.ranges) > 1 else len(self.content) // 2
        self.wfile.write(self.content[start:end])


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(Breaking, "ranges", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/all.tar.gz"
        httpd.shutdown()


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_an_archive_goes_on_where_its_connection_broke(
    breaking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows_ranges: bool
) -> None:
    monkeypatch.setattr(Breaking, "knows_ranges", knows_ranges)
    half = len(Breaking.content) // 2
    with pytest.raises(SourceError, match="the connection broke: start again"):
        Archive(breaking, tmp_path)("a.bin")
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [half]
    source = Archive(breaking, tmp_path)
    assert {name: source(name) for name in FILES} == FILES
    assert Breaking.ranges == ["0", str(half)]
    assert [*tmp_path.iterdir()] == []


def test_an_archive_that_lacks_nothing_is_read(breaking: str, tmp_path: Path) -> None:
    (tmp_path / "all.tar.gz.partial").write_bytes(Breaking.content)
    assert Archive(breaking, tmp_path)("b.bin") == FILES["b.bin"]


def test_a_page_in_an_archives_place_is_not_kept(
    breaking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "content", b"<html>")
    monkeypatch.setattr(Breaking, "ranges", ["one"])
    with pytest.raises(SourceError, match="could not be opened"):
        Archive(breaking, tmp_path)("a.bin")
    assert [*tmp_path.iterdir()] == []


def test_an_archive_out_of_reach_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(SourceError, match="Connection refused"):
        Archive("http://127.0.0.1:9/all.tar.gz", tmp_path)("a.bin")
    assert [*tmp_path.iterdir()] == []
