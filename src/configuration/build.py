"""Build objects from the configuration: the only caller of Hydra's ``instantiate``."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    GradientAccumulationScheduler,
    ModelCheckpoint,
)
from pytorch_lightning.loggers import Logger

from src.callbacks.losses import LossRecord
from src.callbacks.progress import make_progress
from src.callbacks.quality import Quality
from src.callbacks.stop import StopOnSignal
from src.configuration.check import accepted, find_family, locate
from src.configuration.container import plain
from src.configuration.devices import choose_devices, n_gpus
from src.configuration.slurm import n_tasks
from src.configuration.trust import require_literal
from src.datamodules.data_set import DataSet
from src.datamodules.in_memory import InMemoryDataModule
from src.errors import InputError
from src.models.generative import GenerativeModel
from src.reports.figures import QUALITY
from src.runs.checkpoints import AtomicCheckpointIO

PRECISIONS = "32", "32-true", "bf16", "bf16-mixed"


def make(node: Mapping[str, Any], *, path: str) -> Any:
    """Build the object that a plain ``node`` names; ``path`` is its place in the configuration.

    Raises:
        InputError: if it refuses its arguments, with its own words; an ``InputError`` of its own
            comes out as raised.
    """
    try:
        return instantiate(OmegaConf.create(with_floats(node)), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, InputError):
            raise cause from None
        inside = re.search(r"full_key: (\S+)$", str(error))
        raise InputError(
            f"{path}{f'.{inside[1]}' if inside else ''} cannot be built ({cause}): type other "
            "values, or HYDRA_FULL_ERROR=1 in front of the command to see where"
        ) from error


def with_floats(node: Any) -> Any:
    """Copy ``node``, its integers as floats where what it names takes floats alone, as in b1=0."""
    if isinstance(node, list):
        return [*map(with_floats, node)]
    if not isinstance(node, Mapping):
        return node
    hints = accepted(locate(node["_target_"], path="")) if "_target_" in node else {}
    return {key: as_float(with_floats(value), hints.get(key)) for key, value in node.items()}


def as_float(value: Any, hint: Any) -> Any:
    """Turn ``value`` into a float, or a list of them, if its type ``hint`` names no integer."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if type(value) is int:
        return float(value) if float in options and int not in options else value
    if isinstance(value, list) and get_origin(hint) is not None:
        return [as_float(item, (*get_args(hint), None)[0]) for item in value]
    return value


def build_model(cfg: DictConfig) -> GenerativeModel:
    """Build the model of the family that ``model._target_`` names.

    Its hyper-parameters are the whole configuration and its numbers of weights.
    """
    config = plain(cfg)
    family = find_family(config["model"])
    parameters = accepted(family)
    parts = {key: node for key, node in config["model"].items() if key in parameters}
    model = family(**make(parts, path="model"), seed=cfg.seed)
    model.save_hyperparameters(config | count_weights(model))
    return model


def count_weights(model: GenerativeModel) -> dict[str, int]:
    """How many weights a model has, and how many of them are trained, under their logged names."""
    total = sum(weight.numel() for weight in model.parameters())
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return {
        "model/params_total": total,
        "model/params_trainable": trainable,
        "model/params_not_trainable": total - trainable,
    }


def build_dataset(node: dict[str, Any]) -> DataSet:
    """Build the data set that a checked and literal ``node`` names; nothing is fetched."""
    require_literal(node, source="datamodule.dataset")
    dataset = make(node, path="datamodule.dataset")
    if not isinstance(dataset, DataSet):
        raise InputError(
            f"datamodule.dataset._target_={node['_target_']} is no data set: name a class that "
            "derives from DataSet"
        )
    return dataset


def build_datamodule(cfg: DictConfig) -> pl.LightningDataModule:
    return make(plain(cfg)["datamodule"], path="datamodule")


def ready_data(cfg: DictConfig) -> InMemoryDataModule:
    """Build the data module and load its data, for tasks that need no trainer."""
    datamodule = build_datamodule(cfg)
    if not isinstance(datamodule, InMemoryDataModule):
        raise InputError(
            f"{cfg.datamodule['_target_']} does not hold its images in memory, which task=evaluate "
            "and task=train_judge need: give a DataSet to InMemoryDataModule"
        )
    datamodule.prepare_data()
    datamodule.setup("test")
    return datamodule


def build_callbacks(cfg: DictConfig, *, bar: bool) -> list[Callback]:
    """Build the callbacks that every run has, then those of the ``callbacks`` group."""
    run_dir = Path(cfg.run_dir)
    losses = LossRecord(run_dir)
    always = [losses, make_progress(losses, bar=bar), StopOnSignal(run_dir)]
    return [*always, *make_group(cfg, "callbacks")]


def require_workable(callbacks: Sequence[Callback]) -> None:
    """Refuse callbacks that would only fail in the first epoch."""
    rare = {
        f"val/{name}": callback.every_n_epochs
        for callback in callbacks
        if isinstance(callback, Quality) and callback.every_n_epochs > 1
        for name in QUALITY
    }
    for callback in callbacks:
        metric = callback.monitor if isinstance(callback, EarlyStopping) and callback.strict else ""
        if metric in rare:
            raise InputError(
                f"EarlyStopping looks for {metric} in every epoch, but it is measured in one "
                f"of {rare[metric]}: type callbacks.quality.every_n_epochs=1, or, with the "
                "options of EarlyStopping, strict: false"
            )
        if isinstance(callback, GradientAccumulationScheduler):
            raise InputError(
                "GradientAccumulationScheduler does not work with models that step on every batch "
                "themselves: leave it out, and type a larger datamodule.batch_size"
            )


def build_loggers(cfg: DictConfig) -> list[Logger]:
    return make_group(cfg, "logger")


def make_group(cfg: DictConfig, group: str) -> list[Any]:
    """Build every object of a ``group`` whose keys are names of the user's choice."""
    return [make(node, path=f"{group}.{name}") for name, node in plain(cfg)[group].items()]


def build_trainer(cfg: DictConfig) -> pl.Trainer:
    arguments = trainer_arguments(cfg, available=n_gpus())
    arguments.setdefault("enable_progress_bar", sys.stdout.isatty())
    callbacks = build_callbacks(cfg, bar=arguments["enable_progress_bar"])
    require_workable(callbacks)
    saves = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    defaults: dict[str, Any] = {"enable_checkpointing": saves, "plugins": [AtomicCheckpointIO()]}
    trainer = new_trainer(defaults | arguments, callbacks=callbacks, logger=build_loggers(cfg))
    require_other_hosts(trainer)
    return trainer


def require_other_hosts(trainer: pl.Trainer) -> None:
    """Refuse several nodes where none but this one was named, instead of waiting for the others."""
    cluster = getattr(trainer.strategy, "cluster_environment", None)
    is_named = {"NODE_RANK", "GROUP_RANK"} & os.environ.keys() and "MASTER_ADDR" in os.environ
    if trainer.num_nodes > 1 and isinstance(cluster, LightningEnvironment) and not is_named:
        raise InputError(
            f"trainer.num_nodes={trainer.num_nodes}, but nothing tells this process of the other "
            "hosts: start it by srun or by torchrun, as in docs/clusters.md"
        )


def new_trainer(arguments: dict[str, Any], **others: Any) -> pl.Trainer:
    try:
        return pl.Trainer(**arguments, **others)
    except Exception as error:  # what Lightning makes of foreign values is anybody's guess
        raise InputError(f"the trainer cannot be built: {error}") from error


def choose_device(cfg: DictConfig) -> str:
    """The first device that training would take, as torch names it, for tasks that do not train."""
    _, devices = divide_trainer(cfg, available=n_gpus())
    trainer = new_trainer(devices, logger=False, enable_checkpointing=False)
    return str(trainer.strategy.root_device)


def trainer_arguments(cfg: DictConfig, *, available: int) -> dict[str, Any]:
    """Lightning's arguments from the ``trainer`` group, on a machine with ``available`` GPUs.

    Raises:
        InputError: if they do not suit the steps of a model, a search or this machine.
    """
    arguments, devices = divide_trainer(cfg, available=available)
    if (precision := arguments.get("precision")) is not None and str(precision) not in PRECISIONS:
        raise InputError(
            f"trainer.precision={precision} is not allowed, for 16-mixed overflows, and "
            "images and losses are in float32: type bf16-mixed or 32"
        )
    if arguments.get("limit_train_batches") == 0:
        raise InputError("trainer.limit_train_batches=0 trains nothing: type 1 or more")
    is_job = HydraConfig.get().mode == RunMode.MULTIRUN
    if devices["strategy"] != "auto" and is_job and n_tasks() == 1:
        raise InputError(
            "-m runs one device per job: type trainer.gpus=1, hydra/launcher=slurm for jobs of "
            "several devices, or a run without -m"
        )
    return arguments | devices


def divide_trainer(cfg: DictConfig, *, available: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the ``trainer`` group: what names no device, and Lightning's arguments for devices."""
    arguments = plain(cfg.trainer)
    names = "gpus", "accelerator", "devices", "strategy"
    named = {name: arguments.pop(name, None) for name in names}
    n_nodes = arguments.get("num_nodes", 1)
    return arguments, choose_devices(**named, num_nodes=n_nodes, available=available)
