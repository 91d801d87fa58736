"""The command line without a process: compose what a user types, in a temporary folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from src.command_line import CONFIGS, translate
from src.config import prepare

Compose = Callable[..., DictConfig]


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[Compose]:
    """``typed("seed=7", ...)`` is the prepared config of ``python run.py seed=7 ...``."""

    def composed(*arguments: str) -> DictConfig:
        overrides = ["print_config=false", "ignore_warnings=false", *arguments]
        folder = [f"hydra.run.dir={tmp_path}", f"hydra.runtime.output_dir={tmp_path}"]
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = compose("config", [*translate(overrides), *folder], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            cfg.work_dir, cfg.hydra = str(tmp_path), None
            del cfg["hydra"]
        prepare(cfg)
        return cfg

    yield composed
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
