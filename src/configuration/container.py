"""A configuration as plain values for programs, and as a tree for people."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.syntax import Syntax
from rich.tree import Tree


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Resolve to dictionaries, lists and scalars, which checkpoints may hold and loggers take."""
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def tree(config: dict[str, Any]) -> Tree:
    """Draw a configuration as a tree with one branch for every group."""
    root = Tree("CONFIG", guide_style="dim")
    for key, value in config.items():
        text = OmegaConf.to_yaml(OmegaConf.create({key: value})).rstrip()
        root.add(Syntax(text, "yaml", background_color="default"))
    return root
