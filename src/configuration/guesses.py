"""Guess what was meant by an option that does not exist, and say what to type."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import Any

import yaml

from src.configuration.schema import Config
from src.reports.terminal import setting

CONFIGS = Path(__file__).parents[2] / "configs"
LIKENESS = 0.6  # of two words that are taken for the same one, from 0 to 1
OF_SIBLINGS = 0.15  # more likely than their like in another group


def choices(group: str) -> list[str]:
    """The names that ``GROUP=NAME`` may give."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def groups() -> list[str]:
    """All groups of options, such as model/loss."""
    folders = (path for path in CONFIGS.rglob("*") if path.is_dir())
    return sorted(path.relative_to(CONFIGS).as_posix() for path in folders)


def is_group(name: str) -> bool:
    return (CONFIGS / name).is_dir()


def choose(group: str, name: object) -> str:
    """What to type for an option of ``group`` that does not exist: the nearest, and all."""
    known, given = choices(group), Path(str(name)).stem
    nearest = [each for each in known if given and each.startswith(given)]
    nearest += get_close_matches(given, known, n=1, cutoff=0.5)
    guess = f"did you mean {nearest[0]}? " if nearest else ""
    return f"{guess}choose one of {', '.join(known)}"


def meant(key: str, value: Any, *, siblings: Sequence[str], config: Mapping[str, Any]) -> str:
    """What to type instead of an unknown ``key``: the nearest in the tree, or what is allowed.

    Args:
        key: from the root, as in model.lr.
        value: what was given to it.
        siblings: the keys that are allowed beside it.
        config: the composed configuration.
    """
    parent, _, name = key.replace("/", ".").rpartition(".")
    beside = [f"{parent}.{sibling}" if parent else sibling for sibling in siblings]
    here = {*beside, *(leaf for leaf in leaves(config) if not f"{leaf}.".startswith(f"{key}."))}
    elsewhere = dict(leaves_of_files())
    known = dict.fromkeys([*here, *groups(), *elsewhere])
    scores = {path: likeness(name, path, parent=parent) for path in known}
    # Of equals the shallowest, then what is there, then the logger of the experiments.
    best = max(
        sorted(scores),
        key=lambda path: (scores[path], -path.count("."), path in here, "wandb" in path),
    )
    if scores[best] < LIKENESS:
        return f"allowed there: {', '.join(sorted(siblings))}"
    if is_group(best):
        return f"did you mean {best}={option_of(best, value)}?"
    if best == key:
        return (
            f"it comes with {elsewhere[best]}: type that, or leave it out, by ~{key} where a file "
            "sets it"
        )
    return f"did you mean {best}?" + ("" if best in here else f" It comes with {elsewhere[best]}")


def option_of(group: str, value: Any) -> str:
    return value if value in choices(group) else f"NAME, with one of {', '.join(choices(group))}"


def likeness(name: str, path: str, *, parent: str) -> float:
    """How near the last word of ``path`` is to ``name``, from 0, and 1 for the same."""
    home, _, word = path.replace("/", ".").rpartition(".")
    near = SequenceMatcher(None, name, word).ratio()
    return near + OF_SIBLINGS * (parent != "" and home == parent)


def leaves(node: Mapping[str, Any], *, above: str = "") -> Iterator[str]:
    """Every key in a tree, from the root; those of groups come before what is in them."""
    for key, value in node.items():
        yield f"{above}{key}"
        if isinstance(value, Mapping):
            yield from leaves(value, above=f"{above}{key}.")


def leaves_of_files() -> Iterator[tuple[str, str]]:
    """Every key that an option of a group would bring, with that option, as in logger=wandb."""
    for group in groups():
        for file in sorted((CONFIGS / group).glob("*.yaml")):
            content = yaml.safe_load(text := file.read_text(encoding="utf-8"))
            if isinstance(content, dict) and "@package" not in text:
                above = group.replace("/", ".")
                yield from (
                    (leaf, f"{group}={file.stem}") for leaf in leaves(content, above=f"{above}.")
                )


def assignment(words: Sequence[str], wrong: int) -> str:
    """What was meant by ``words[wrong]``, which is not KEY=VALUE, and perhaps by its neighbours."""
    word, last = words[wrong], words[wrong - 1] if wrong else ""
    following = [*words[wrong + 1 : wrong + 3], "", ""]
    if word.startswith("="):
        return f"type the key in front of it, as in trainer.max_epochs{word if word[1:] else '=3'}"
    if following[0].startswith("="):
        value = following[0][1:] or following[1]
        return f"type {setting(word, value)}, in one word"
    if last.endswith("="):
        return f"type {setting(last[:-1], word)}, in one word"
    if last.count("[") > last.count("]"):
        return f"type '{''.join(until_closed(words[wrong - 1 :]))}', in quotes"
    return alone(word)


def alone(word: str) -> str:
    """What was meant by a ``word`` without = whose neighbours say nothing."""
    if is_group(word):
        return f"type {word}={option_of(word, None)}"
    if word in Config.__annotations__:
        return f"type {word}=VALUE"
    homes = [group for group in groups() if word in choices(group)]
    return f"type {homes[0]}={word}" if homes else "type KEY=VALUE, as in trainer.max_epochs=3"


def until_closed(words: Sequence[str]) -> Sequence[str]:
    """The words of a list that begins with the first of them, up to the one that closes it."""
    closing = next((i for i, word in enumerate(words) if "]" in word), len(words) - 1)
    return words[: closing + 1]
