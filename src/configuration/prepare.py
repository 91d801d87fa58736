"""Make a composed configuration ready: resolve and check it, then show it."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities import rank_zero_only
from rich import print as show

import src.configuration.resolvers  # noqa: F401
from src.configuration.build import build_dataset
from src.configuration.check import (
    check,
    check_dataset,
    check_model,
    check_saved_model,
    check_value,
    find_family,
    sampling_options,
)
from src.configuration.command_line import translate, typed
from src.configuration.container import plain, tree
from src.configuration.guesses import CONFIGS
from src.configuration.slurm import is_requeued
from src.configuration.threads import use_threads
from src.configuration.trust import OF_RUNS, require_known_targets, require_literal, targets
from src.datamodules.data_set import DataSet
from src.errors import InputError
from src.reports.terminal import quoted
from src.runs.checkpoints import package_of, without
from src.runs.folders import RECORD


def compose_in(folder: Path, *arguments: str) -> DictConfig:
    """Compose and prepare what ``python run.py ARGUMENTS`` would, with ``folder`` as run folder."""
    cfg = compose_raw(folder, *arguments)
    prepare(cfg)
    return cfg


def compose_raw(folder: Path, *arguments: str) -> DictConfig:
    """Compose the same, neither resolved nor checked yet."""
    cfg = compose_run(folder, "print_config=false", "ignore_warnings=false", *arguments)
    cfg.work_dir = str(folder)
    return cfg


def compose_run(folder: Path, *arguments: str) -> DictConfig:
    """Compose what is typed here for a run in another ``folder``, not resolved yet either."""
    where = f"hydra.run.dir={quoted(folder)}", f"hydra.runtime.output_dir={quoted(folder)}"
    typed, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # of the command
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = compose("config", [*translate(arguments), *where], return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = typed
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def prepare(cfg: DictConfig) -> None:
    """Fill in what data and machine know, resolve in place, and check against the schema.

    Raises:
        InputError: if the configuration does not resolve, or the schema refuses it.
    """
    try:
        take_shape_of_data(cfg)
        OmegaConf.resolve(cfg)
    except OmegaConfBaseException as error:
        _, _, refusal = str(error).partition("InputError raised while resolving interpolation: ")
        said = refusal.partition("\n")[0] or f"the configuration does not resolve: {error}"
        raise InputError(said) from error
    go_on_if_requeued(cfg)
    config = plain(cfg)
    require_known_record(cfg, config)
    is_trained = cfg.task in ("generate", "evaluate", "export") and cfg.ckpt is not None
    check(config, without_model=is_trained)  # which is then in the checkpoint
    if cfg.debug or cfg.trainer.get("fast_dev_run"):
        make_fast(cfg)
    use_threads(cfg)
    if cfg.ignore_warnings:
        warnings.filterwarnings("ignore")


def go_on_if_requeued(cfg: DictConfig) -> None:
    """Resume the run that this job began before SLURM stopped it, with what was fixed then."""
    if cfg.task != "train" or cfg.resume is not None or not is_requeued():
        return
    record = Path(str(cfg.run_dir)) / RECORD
    if not record.is_file():
        return
    recorded, options = yaml.safe_load(record.read_text()), options_as_typed()
    if not isinstance(recorded, list) or recorded[: len(options)] != options:
        return  # another run, which is refused
    rank_zero_only(print)(f"SLURM has started this job again: going on in {cfg.run_dir}")
    cfg.resume = cfg.run_dir
    cfg.threads = int(typed("threads", recorded) or 0) or None
    cfg.ckpt = typed("ckpt", recorded)


def show_config(cfg: DictConfig) -> None:
    """Print the configuration, where ``print_config`` asks for it."""
    if cfg.print_config:
        rank_zero_only(show)(tree(plain(cfg)))


def take_shape_of_data(cfg: DictConfig) -> None:
    """Give the model the shape and classes of the data set, before its parts refer to them.

    Where a data module has no data set, they are typed. The data set is built from literal text,
    which is checked first where the record of a resumed run names it.

    Raises:
        InputError: if the model is given other channels or classes than the data have.
    """
    if not isinstance(cfg.datamodule, DictConfig) or "dataset" not in cfg.datamodule:
        return  # what is no group is refused later
    require_use_of_data(cfg)
    config = plain(cfg.datamodule)
    node, split = config["dataset"], config.get("train_val_test_split")
    require_known_record(cfg, node)
    check_value(split, Sequence[int], path="datamodule.train_val_test_split")
    check_dataset(node)
    dataset = build_dataset(node)
    if dataset.sizes is not None:
        cfg.datamodule.train_val_test_split = own_sizes(dataset, typed=split or [])
    own = {"n_classes": dataset.n_classes, "channels": dataset.channels, "img_size": dataset.size}
    for key, value in own.items():
        if cfg.model.get(key) is None and key in cfg.model:
            cfg.model[key] = value
        elif key != "img_size" and cfg.model.get(key, value) != value:
            raise InputError(
                f"model.{key}={cfg.model[key]}, but {dataset.name} has {value}: leave it out, or "
                f"type model.{key}={value}"
            )


def own_sizes(dataset: DataSet, *, typed: Sequence[int]) -> list[int]:
    """The sizes of train, val and test in a data set that knows them, where no others are typed."""
    if typed:
        raise InputError(
            f"datamodule.train_val_test_split={typed} is not allowed, for {dataset.name} has "
            f"{dataset.sizes}: leave it out, or type datamodule.dataset.test_share=0.2"
        )
    return [*(dataset.sizes or ())]


def require_use_of_data(cfg: DictConfig) -> None:
    """Make the path ``data`` absolute, and refuse it where nothing reads it."""
    if cfg.data is None:
        return
    if not isinstance(cfg.data, str) or not cfg.data:
        raise InputError(
            f"data={cfg.data} is no path: type data=FOLDER, and data=./{cfg.data or 'FOLDER'} "
            "where its name is a number or a word such as true"
        )
    cfg.data = str(Path(cfg.data).expanduser().absolute())
    if "data" not in cfg.datamodule.dataset and (cfg.ckpt is None or cfg.task == "train"):
        raise InputError(f"data={cfg.data} is read by datamodule=image_folder alone: type that too")


def trained_model(cfg: DictConfig, saved: dict[str, Any], *, path: Path) -> dict[str, Any]:
    """The ``model`` group that a checkpoint has ``saved``, with what is typed of how it generates.

    Raises:
        InputError: if it may not be trusted, or another family or other options are typed.
    """
    require_literal(saved, source=f"ckpt={path}")
    composed = plain(cfg)["model"]
    find_family(composed)
    check_saved_model(saved, trusted=[*targets(composed)])
    changeable, model = sampling_options(saved), dict(saved)
    fixed, typed = without(saved, changeable), without(composed, changeable)
    for option in options_as_typed():
        group, _, rest = option.lstrip("+~").partition("=")[0].replace("/", ".").partition(".")
        if group != "model":
            continue
        name = rest.partition(".")[0]
        if not name and package_of(composed["_target_"]) != package_of(saved["_target_"]):
            raise InputError(
                f"ckpt={path} was trained as {saved['_target_']}, not as {composed['_target_']}: "
                f"leave {option} out, or name another checkpoint"
            )
        if changed := [each for each in changeable if f"{rest}.".startswith(f"{each}.")]:
            take(changed[0], model, source=composed)
        elif name and typed.get(name) != fixed.get(name):
            choices = "".join(
                f", or type model/{each}=NAME"
                if isinstance(saved.get(each), dict)
                else f", or type model.{each}=VALUE"
                for each in changeable
            )
            raise InputError(f"{option} changes nothing in a trained model: leave it out{choices}")
    check_model(model)
    return model


def take(option: str, model: dict[str, Any], *, source: dict[str, Any]) -> None:
    """Give ``model`` an option of ``source``, such as guidance or generator.truncation."""
    part, _, name = option.partition(".")
    value = source.get(part)
    model[part] = model[part] | {name: (value or {}).get(name)} if name else value


def require_known_record(cfg: DictConfig, node: Any) -> None:
    """Refuse code in ``node``, and another folder, that only the record of a resumed run names.

    The user's own choice is what is typed after ``resume``, and what is named by a file of this
    project or of a folder that is typed there.
    """
    if cfg.get("resume") is None:
        return
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
        node,
        OF_RUNS,
        source=f"the record of {cfg.resume}",
        instead="if you trust it, type its option again beside resume",
        trusted={*re.findall(r"[\w.]+", typed), *re.findall(r"_target_: ([\w.]+)", files)},
    )


def options_as_typed() -> list[str]:
    """The options that start this run again, without the ``++`` that ``translate`` adds."""
    return [line.removeprefix("++") for line in HydraConfig.get().overrides.task]


def make_fast(cfg: DictConfig) -> None:
    """Have one batch of everything run, in this process and on the CPU, to see whether it does."""
    one_batch = {
        "trainer": {"fast_dev_run": cfg.trainer.get("fast_dev_run") or True, "gpus": 0},
        "datamodule": {"num_workers": 0, "pin_memory": False},
    }
    OmegaConf.set_struct(cfg, False)
    cfg.merge_with(one_batch)
