"""A composed configuration, made ready: resolved, checked, shown."""

import re
import warnings
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities import rank_zero_only
from rich import print as show
from rich.syntax import Syntax
from rich.tree import Tree

import src.configuration.resolvers  # noqa: F401
from src.configuration.check import check
from src.configuration.command_line import CONFIGS, translate
from src.configuration.trust import OF_RUNS, require_known_targets
from src.errors import InputError


def compose_in(folder: Path, *arguments: str) -> DictConfig:
    """The prepared config of ``python run.py ARGUMENTS``, with ``folder`` as its run folder."""
    overrides = translate(["print_config=false", "ignore_warnings=false", *arguments])
    overrides += [f"hydra.run.dir={folder}", f"hydra.runtime.output_dir={folder}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("config", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        cfg.work_dir = str(folder)
        del cfg["hydra"]
    prepare(cfg)
    return cfg


def prepare(cfg: DictConfig) -> None:
    """Resolve in place, check against the schema, and print."""
    try:
        OmegaConf.resolve(cfg)
    except OmegaConfBaseException as error:
        raise InputError(f"the configuration does not resolve: {error}") from error
    if cfg.get("resume") is not None:
        require_known_record(cfg)
    check(plain(cfg))
    if cfg.debug or cfg.trainer.get("fast_dev_run"):
        make_fast(cfg)
    if cfg.ignore_warnings:
        warnings.filterwarnings("ignore")
    if cfg.print_config:
        rank_zero_only(show)(tree(plain(cfg)))


def require_known_record(cfg: DictConfig) -> None:
    """Refuse code, and another folder, that only the record of the resumed run names.

    What is typed after ``resume``, or named by a file of this project or of a folder that is typed
    there, is the user's own choice.
    """
    if cfg.run_dir != HydraConfig.get().runtime.output_dir:
        raise InputError(
            f"the record of {cfg.resume} would have it write into {cfg.run_dir}: remove run_dir "
            "from its .hydra/overrides.yaml"
        )
    overrides = HydraConfig.get().overrides.task
    resumed_at = [i for i, line in enumerate(overrides) if line.startswith("++resume=")]
    typed = " ".join(overrides[max(resumed_at, default=-1) + 1 :])
    sources = HydraConfig.get().runtime.config_sources  # a record can name none
    folders = [Path(source.path) for source in sources if source.schema == "file"]
    files = " ".join(file.read_text() for folder in folders for file in folder.rglob("*.yaml"))
    require_known_targets(
        plain(cfg),
        OF_RUNS,
        source=f"the record of {cfg.resume}",
        instead="if you trust it, type its option again beside resume",
        trusted={*re.findall(r"[\w.]+", typed), *re.findall(r"_target_: ([\w.]+)", files)},
    )


def options_as_typed() -> list[str]:
    """The options that start this run again, without the ``++`` that ``translate`` puts before."""
    return [line.removeprefix("++") for line in HydraConfig.get().overrides.task]


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
