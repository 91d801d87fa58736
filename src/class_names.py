"""The names of classes: as they are typed, as messages list them, and as folders bear them."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import count

MOST_LISTED = 20


def numbered(n_classes: int) -> list[str]:
    """The names of classes that have no other: their numbers from 0."""
    return [str(label) for label in range(n_classes)]


def are_numbers(names: Sequence[str]) -> bool:
    """Whether classes have no names but their numbers."""
    return [*names] == numbered(len(names))


def find_class(typed: str | int, names: Sequence[str]) -> int | None:
    """The index of the class that is typed by name, or by number where no name is a number."""
    text = str(typed)
    if text in names:
        return names.index(text)
    is_index = text.isdecimal() and not any(name.isdecimal() for name in names)
    return int(text) if is_index and int(text) < len(names) else None


def listed(names: Sequence[str]) -> str:
    """Say which classes there are, in a few words."""
    if are_numbers(names):
        return f"0..{len(names) - 1}"
    rest = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def likely(typed: Sequence[str | int], names: Sequence[str]) -> str | None:
    """The name that is nearest to one of those that are typed, if any is near."""
    lower = {name.lower(): name for name in names}
    near = [get_close_matches(str(each).lower(), lower, n=1) for each in typed]
    return next((lower[found[0]] for found in near if found), None)


def folders_of(names: Sequence[str]) -> list[str]:
    """A folder for each class; one that would be shared, if only in capitals, gets a number."""
    folders: list[str] = []
    taken: set[str] = set()
    for name in names:
        safe = folder_of(name)
        free = next(each for each in candidates(safe) if each.lower() not in taken)
        folders.append(free)
        taken.add(free.lower())
    return folders


def candidates(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{n}" for n in count(2))


def folder_of(name: str) -> str:
    """The name of a class as a folder may be called, wherever the class has its name from."""
    safe = re.sub(r"[^\w .,+&'()@=-]", "_", name)[:100]
    return re.sub(r"^\.+", "_", safe) or "_"
