"""Printing that survives narrow terminals."""

from rich.console import Console, RenderableType


def show(panel: RenderableType) -> None:
    """Print it wide enough that no command and no number is broken into lines."""
    console = Console()
    width = console.measure(panel, options=console.options.update(width=200)).maximum
    Console(width=max(console.width, width)).print(panel)
