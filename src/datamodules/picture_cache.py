"""Decoded pictures, kept beside other data so that an unchanged folder is decoded once."""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from torch import Tensor

from src.datamodules.listing import File, Listing, printable
from src.datamodules.pictures import PictureError, read_picture
from src.errors import InputError
from src.files import locked, write_atomically

VERSION = 2  # of how pictures are read: raised with each change of their pixels
CHUNK = 256  # pictures in memory before they are written
FEW = 1_000  # pictures that take no time worth a progress bar
N_THREADS = 4
CGROUP_FILES = {  # of the limit, the use, and within memory.stat the cached files
    "": ("memory.max", "memory.current", "inactive_file"),  # version 2
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


@dataclass(frozen=True)
class Pictures:
    """All readable pictures of a folder, of one size, in the order of its listing."""

    path: Path  # of their record; their pixels lie beside it
    shape: tuple[int, int, int, int]
    files: list[File]
    skipped: dict[str, str]  # why, by their names
    key: str = ""  # a hash of the files and of how they are decoded, whatever is skipped beside
    digests: Sequence[str] = ()  # a hash of each file's content

    @property
    def images(self) -> Tensor:
        """Uint8 images (N, C, H, W), of which what is used is read from the disk."""
        pixels, count = self.path.with_suffix(".images"), int(np.prod(self.shape))
        return torch.from_file(str(pixels), size=count, dtype=torch.uint8).view(self.shape)

    def summary_of_skipped(self) -> str:
        """Say in one line what was skipped, and name a few files of each kind."""
        kinds = Counter(self.skipped.values())
        said = []
        for why, n in kinds.most_common():
            names = [printable(name) for name, reason in self.skipped.items() if reason == why]
            said.append(f"{n} {why} ({', '.join(names[:3])}{', ...' if n > 3 else ''})")
        return f"{len(self.skipped)} files are skipped: {'; '.join(said)}"


def read_pictures(listing: Listing, folder: Path, *, size: int, channels: int) -> Pictures:
    """Read all pictures of a listing from the cache in ``folder``, or decode them into it.

    The cache is keyed by the contents of all files. One process decodes, and others wait for it.

    Raises:
        InputError: if the pictures would not fit into memory.
    """
    require_memory(len(listing.files) * channels * size**2, listing.root)
    folder.mkdir(parents=True, exist_ok=True)
    place = short_hash(str(listing.root.resolve()), size, channels)
    with locked(folder / "lock"):
        digests = digests_of(listing, folder)
        key = key_of(listing.files, digests, size=size, channels=channels)
        records = map(read_record, folder.glob(f"*-{key}.json"))
        found = next((record for record in records if record is not None), None)
        if found is None:
            for path in {*folder.glob(f"{place}-*"), *folder.glob("*.partial")}:
                path.unlink()  # of what the pictures were before, or of a crash
            found = decode(listing, folder / f"{place}-{key}.json", size=size, channels=channels)
    own_key = key_of(found.files, digests, size=size, channels=channels)
    return replace(
        found,
        skipped=listing.skipped | found.skipped,
        key=own_key,
        digests=[digests[file.path] for file in found.files],
    )


def key_of(files: Sequence[File], digests: Mapping[str, str], *, size: int, channels: int) -> str:
    """A hash of what pictures are decoded from and how."""
    return short_hash(VERSION, size, channels, *files, *(digests[file.path] for file in files))


def digests_of(listing: Listing, folder: Path) -> dict[str, str]:
    """A hash of the content of each file, by its path.

    They are kept in ``folder``, and a file of the same size and times is not read again.
    """
    root = listing.root
    home = folder / f"{short_hash(str(root.resolve()))}.digests"
    known = read_digests(home)
    now = {file.path: stamp_of(root / file.path) for file in listing.files}
    found = {path: known[path] for path, stamp in now.items() if known.get(path, [])[:3] == stamp}
    missing = [path for path in now if path not in found]
    for path in track(
        missing, description=f"hashing {len(missing):,} pictures", disable=len(missing) < FEW
    ):
        found[path] = [*now[path], digest_of(root / path)]
    kept = {path: each for path, each in found.items() if each[3]}  # others may be read next time
    if kept != known:
        write_atomically(home, json.dumps(kept).encode())
    return {path: digest for path, (*_, digest) in found.items()}


def read_digests(path: Path) -> dict[str, list[Any]]:
    """The size, two times and hash of each file on record at ``path``; none if it is damaged."""
    try:
        found: dict[str, list[Any]] = json.loads(path.read_text())
        return {
            path: each
            for path, each in found.items()
            if isinstance(each, list) and [*map(type, each)] == [int, int, int, str]
        }
    except (OSError, ValueError, AttributeError):
        return {}


def stamp_of(path: Path) -> list[int]:
    """A file's size and two times, one of which is another once it has changed."""
    try:
        stat = path.stat()
    except OSError:
        return [0, 0, 0]
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def short_hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def digest_of(path: Path) -> str:
    """A hash of a file's content; of an unreadable file that of nothing."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def read_record(path: Path) -> Pictures | None:
    """The pictures on record at ``path``, if they are whole."""
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        shape, files = record["shape"], [File(*file) for file in record["files"]]
        found = Pictures(path, tuple(shape), files, record["skipped"])
        whole = path.with_suffix(".images").stat().st_size == np.prod(shape)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if whole else None


def decode(listing: Listing, path: Path, *, size: int, channels: int) -> Pictures:
    """Decode a listing's files into files at ``path`` and beside it; the record comes last."""
    kept: list[File] = []
    skipped: dict[str, str] = {}
    unfinished = path.with_suffix(".partial")
    with unfinished.open("wb") as stream:
        for file, pixels in decoded(listing, size=size, channels=channels):
            if isinstance(pixels, str):
                skipped[file.path] = pixels
            else:
                kept.append(file)
                stream.write(pixels.tobytes())
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path.with_suffix(".images"))
    found = Pictures(path, (len(kept), channels, size, size), kept, skipped)
    record = asdict(found) | {"path": str(listing.root)}
    write_atomically(path, json.dumps(record).encode())
    return found


def decoded(
    listing: Listing, *, size: int, channels: int
) -> Iterator[tuple[File, NDArray[np.uint8] | str]]:
    """Yield every file with its pixels (C, size, size), or why it has none."""
    read = partial(read_or_say_why, root=listing.root, size=size, channels=channels)
    files = listing.files
    with warnings.catch_warnings(), ThreadPoolExecutor(N_THREADS) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # they are skipped
        for start in track(
            range(0, len(files), CHUNK),
            description=f"reading {len(files):,} pictures",
            disable=len(files) < FEW,
        ):
            part = files[start : start + CHUNK]
            yield from zip(part, pool.map(read, part), strict=True)


def read_or_say_why(file: File, *, root: Path, size: int, channels: int) -> NDArray[np.uint8] | str:
    try:
        return read_picture(root / file.path, size=size, channels=channels)
    except PictureError as error:
        return str(error)


def require_memory(n_bytes: int, root: Path) -> None:
    """Refuse pictures that would not fit into the memory that is free, before any is read."""
    free = free_memory()
    if n_bytes > free:
        raise InputError(
            f"the pictures of {root} take {n_bytes / 1e9:.1f} GB in memory, and "
            f"{free / 1e9:.1f} GB are free: type a smaller model.img_size, or take fewer pictures"
        )


def free_memory() -> int:
    """Bytes of memory that this machine, and a container or a job within it, can still give."""
    lines = Path("/proc/meminfo")
    if not lines.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # macOS tells no more
    sizes = dict(line.split(":") for line in lines.read_text().splitlines())
    free = [int(sizes["MemAvailable"].split()[0]) << 10]
    groups = Path("/proc/self/cgroup")
    if groups.is_file():
        free += free_in_cgroups(groups.read_text(), root=Path("/sys/fs/cgroup"))
    return min(free)


def free_in_cgroups(lines: str, *, root: Path) -> Iterator[int]:
    """Bytes that the Linux control groups of a process leave of their memory, where they limit it.

    Files that are only cached in memory make room where it is needed, and do not count.

    Args:
        lines: what /proc/self/cgroup says.
        root: where the groups are mounted.
    """
    for line in lines.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in CGROUP_FILES:
            continue
        most, used, cached = CGROUP_FILES[controllers]
        home = root / controllers / path.lstrip("/")
        for folder in (home, *home.parents):
            with suppress(OSError, ValueError, KeyError):  # without a limit, or above all groups
                limit, usage = (int((folder / name).read_text()) for name in (most, used))
                stat = dict(
                    each.split() for each in (folder / "memory.stat").read_text().splitlines()
                )
                yield limit - usage + int(stat[cached])
