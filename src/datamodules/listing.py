"""What lies in a folder of pictures: files, their classes and parts, and what is left aside."""

import os
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from src.errors import InputError

PARTS = "train", "val", "test"
NEARLY_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}


class File(NamedTuple):
    """A file by its path below the folder, the part that it is in, if any, and its class."""

    path: str
    part: str
    label: str


@dataclass
class Listing:
    """The files of a folder, in the order of part, class and name, and why others are skipped."""

    root: Path
    files: list[File] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def class_names(self) -> list[str]:
        return sorted({file.label for file in self.files})


def list_pictures(root: Path) -> Listing:
    """List a folder that holds a folder for each class, or pictures without labels.

    The same may be in folders called train, val and test, if there are no others beside them. Of a
    class are all files below its folder. Links are followed, but not in circles.
    """
    listing = Listing(root)
    tops = {path.name for path in folders_in(root)}
    parts = sorted(tops, key=PARTS.index) if "train" in tops and tops <= {*PARTS} else [""]
    if parts == [""]:
        require_no_near_parts(root, tops)
        require_no_wrapper(root)
    else:
        require_classes_in_all(root, parts)
    for part in parts:
        list_part(listing, root / part, part=part)
    if parts != [""]:
        list_loose(listing, root)
    return listing


def require_no_near_parts(root: Path, names: Set[str]) -> None:
    """Refuse folders that are nearly parts, and would be classes; a train beside planes is one."""
    lower = {name.lower() for name in names}
    near = lower & NEARLY_PARTS
    if near and (near == lower or ("train" in near and len(near) > 1)):
        raise InputError(
            f"{root} holds the folders {', '.join(sorted(names))}: parts are called train, val and "
            "test, in lower case and with no other folder beside them; rename or move the others"
        )


def require_no_wrapper(root: Path) -> None:
    """Refuse a lone folder around the folders of classes, which would be one class."""
    folders = folders_in(root)
    inner = [path.name for path in folders_in(folders[0])] if len(folders) == 1 else []
    if (len(inner) > 1 or {*inner} & NEARLY_PARTS) and not has_files(folders[0]):
        raise InputError(
            f"{root} holds one folder, and that holds the folders {', '.join(inner[:3])}, which "
            f"would all be one class: type data={folders[0]}, or put all pictures into one folder"
        )


def require_classes_in_all(root: Path, parts: Sequence[str]) -> None:
    """Refuse parts with a folder for each class beside parts with none."""
    sorted_in = [part for part in parts if folders_in(root / part)]
    loose = [part for part in parts if part not in sorted_in and has_files(root / part)]
    if sorted_in and loose:
        raise InputError(
            f"{root / loose[0]} holds pictures without a class, and {sorted_in[0]} folders of "
            "classes: put those into folders too, or move them elsewhere"
        )


def has_files(folder: Path) -> bool:
    """Whether files lie in ``folder`` that are not hidden."""
    return any(path.is_file() and not path.name.startswith(".") for path in folder.iterdir())


def list_part(listing: Listing, folder: Path, *, part: str) -> None:
    """Add the files below ``folder`` to a listing."""
    classes = folders_in(folder)
    for home in classes or [folder]:
        label = home.name if classes else listing.root.name
        require_unicode(label, home)
        found = [File(path, part, label) for path in walk(home, listing)]
        if not found:
            raise InputError(
                f"{home} holds no picture: put some there, or remove the folder, which would be a "
                "class"
            )
        listing.files += found
    if classes:
        list_loose(listing, folder)


def require_unicode(label: str, home: Path) -> None:
    """Refuse a class whose name no report can show, such as one of an old archive in Latin-1."""
    if printable(label) != label:
        raise InputError(
            f"{printable(str(home))} names a class, and its name is not UTF-8: rename the folder"
        )


def printable(name: str) -> str:
    """A file's name, with what is not UTF-8 in it escaped."""
    return name.encode(errors="backslashreplace").decode()


def list_loose(listing: Listing, folder: Path) -> None:
    """Note the files that lie beside the folders of classes or parts."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            why = "hidden" if path.name.startswith(".") else "in no class's folder"
            listing.skipped[str(path.relative_to(listing.root))] = why


def folders_in(folder: Path) -> Sequence[Path]:
    """The folders in ``folder`` that are not hidden, in the order of their names."""
    hidden = ".", "__MACOSX"  # which is what archives of a Mac hold beside their folders
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(hidden))


def walk(folder: Path, listing: Listing, *, above: Sequence[str] = ()) -> Iterator[str]:
    """Yield the paths of all files below ``folder``, and note what is left aside."""
    above = [*(above or [os.path.realpath(listing.root)]), os.path.realpath(folder)]
    home = "" if folder == listing.root else f"{folder.relative_to(listing.root)}/"
    for entry in entries(folder, listing):
        why = reason_to_skip(entry, above=above)
        if why is not None:
            listing.skipped[home + entry.name] = why
        elif not entry.is_file(follow_symlinks=False) and Path(entry).is_dir():
            yield from walk(folder / entry.name, listing, above=above)
        else:
            yield home + entry.name


def entries(folder: Path, listing: Listing) -> "list[os.DirEntry[str]]":
    """What lies in a folder, by name; nothing, which is noted, if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        listing.skipped[str(folder.relative_to(listing.root))] = f"unreadable ({error.strerror})"
        return []


def reason_to_skip(entry: "os.DirEntry[str]", *, above: Sequence[str]) -> str | None:
    """Why there is no picture at ``entry``, or none below it; ``above`` are the folders around."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_file(follow_symlinks=False):
        return None
    if Path(entry).is_dir():
        return "a link in a circle" if os.path.realpath(entry) in above else None
    return None if Path(entry).is_file() else "no file"
