"""A composed configuration, made ready: resolved, checked, shown."""

import warnings
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities import rank_zero_only
from rich import print as show
from rich.syntax import Syntax
from rich.tree import Tree

import src.resolvers  # noqa: F401
from src.errors import InputError
from src.schema import check


def prepare(cfg: DictConfig) -> None:
    """Resolve in place, check against the schema, and print."""
    try:
        OmegaConf.resolve(cfg)
    except OmegaConfBaseException as error:
        raise InputError(f"the configuration does not resolve: {error}") from error
    check(plain(cfg))
    if cfg.debug or cfg.trainer.get("fast_dev_run"):
        make_fast(cfg)
    if cfg.ignore_warnings:
        warnings.filterwarnings("ignore")
    if cfg.print_config:
        rank_zero_only(show)(tree(plain(cfg)))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Dictionaries, lists and scalars only: what a checkpoint may hold and a logger understands."""
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def make_fast(cfg: DictConfig) -> None:
    """One batch of everything in this process, for a look at whether it runs."""
    quick = {
        "trainer": {"fast_dev_run": cfg.trainer.get("fast_dev_run") or True, "gpus": 0},
        "datamodule": {"num_workers": 0, "pin_memory": False},
    }
    OmegaConf.set_struct(cfg, False)
    cfg.merge_with(quick)


def tree(config: dict[str, Any]) -> Tree:
    """The configuration as a tree, one branch per group."""
    root = Tree("CONFIG", guide_style="dim")
    for key, value in config.items():
        text = OmegaConf.to_yaml(OmegaConf.create({key: value})).rstrip()
        root.add(Syntax(text, "yaml", background_color="default"))
    return root
