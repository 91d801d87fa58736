"""Panels that survive narrow terminals, and commands that survive being typed."""

import re
import shlex

from rich.console import Console, RenderableType


def show(panel: RenderableType) -> None:
    """Print a panel or table so wide that no command and no number is broken into lines."""
    console = Console()
    width = console.measure(panel, options=console.options.update(width=200)).maximum
    Console(width=max(console.width, width)).print(panel)


def command(**settings: object) -> str:
    """``python run.py KEY=VALUE ...``, to be copied into a shell whatever the values hold."""
    return " ".join(["python run.py", *(setting(key, settings[key]) for key in settings)])


def setting(key: str, value: object) -> str:
    """``KEY=VALUE`` for a shell, in which Hydra then finds the value."""
    is_plain = re.fullmatch(r"[\w./+@%-]*", str(value), re.ASCII)
    return shlex.quote(f"{key}={value if is_plain else quoted(value)}")


def quoted(value: object) -> str:
    """Put a value in Hydra's quotes: backslashes are escaped before a quote and at the end."""
    text = re.sub(
        r"(\\*)('|$)", lambda found: 2 * found[1] + found[2].replace("'", r"\'"), str(value)
    )
    return f"'{text}'"


def unquoted(text: str) -> str:
    """The inverse of ``quoted``; what stands in no quotes stays as it is."""
    quote = text[:1]
    if len(text) < 2 or quote not in "'\"" or text[-1] != quote:
        return text
    return re.sub(
        rf"(\\+)({quote}|$)", lambda found: found[1][: len(found[1]) // 2] + found[2], text[1:-1]
    )
