"""Decide which classes a checkpoint or a run's record may name, before any of it is run."""

import sys
from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import Any

from optuna.pruners import BasePruner
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from torch import nn
from torch.optim import Optimizer

from src.datamodules.data_set import DataSet
from src.datamodules.in_memory import InMemoryDataModule
from src.errors import InputError

Homes = dict[str, tuple[type, ...]]  # a package, and of which kinds its classes are to be
OF_CHECKPOINTS: Homes = {
    "torch.nn": (nn.Module,),
    "torch.optim": (Optimizer,),
    "src.networks": (nn.Module,),
    "src.datamodules": (InMemoryDataModule, DataSet),
    "src.models": (object,),
}
OF_RUNS: Homes = OF_CHECKPOINTS | {
    "pytorch_lightning.callbacks": (Callback,),
    "pytorch_lightning.loggers": (Logger,),
    "src.callbacks": (Callback,),
    "src.loggers": (Logger,),
    "optuna.pruners": (BasePruner,),
}


def require_known_targets(
    node: Any, homes: Homes, *, source: str, instead: str, trusted: Collection[str] = ()
) -> None:
    """Refuse a target, at any depth, that is neither ``trusted`` nor a class of ``homes``."""
    for name in targets(node):
        if not isinstance(name, str) or (name not in trusted and not is_known(name, homes)):
            raise InputError(
                f"{source} names {name}, which is none of the networks, losses, optimizers and the "
                f"like that it may name: {instead}"
            )


def targets(node: Any) -> Iterator[Any]:
    """Yield every ``_target_`` in ``node``; in a hostile file it need not be a text."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node["_target_"]
        node = [*node.values()]
    if isinstance(node, list | tuple):
        for item in node:
            yield from targets(item)


def is_known(name: str, homes: Homes) -> bool:
    """Whether ``name`` is a class of the right kind in the module that defines or publishes it.

    Every module has attributes from elsewhere, such as ``os``: what counts is where a class was
    defined. Torch's classes that call what they are given are none of a network's parts.
    """
    module_name, _, class_name = name.rpartition(".")
    home = next((home for home in homes if is_inside(module_name, home)), None)
    if home is None:
        return False
    found = vars(find_module(module_name)).get(class_name)
    if not isinstance(found, type) or not issubclass(found, homes[home]):
        return False
    calls_others = home.startswith("torch.") and "Callable" in str(signature(found))
    return is_inside(found.__module__, home) and not calls_others


def is_inside(module: str, home: str) -> bool:
    return f"{module}.".startswith(f"{home}.")


def find_module(name: str) -> ModuleType:
    """The module ``name``, imported only if the project's own; an empty one if there is none."""
    try:
        return import_module(name) if name.startswith("src.") else sys.modules[name]
    except (ImportError, KeyError):
        return ModuleType(name)


def require_literal(node: Any, *, source: str) -> None:
    """Refuse ``${...}``, which OmegaConf would evaluate, at any depth of a resolved ``node``."""
    if isinstance(node, Mapping):
        node = [*node.values()]
    if isinstance(node, list | tuple):
        for item in node:
            require_literal(item, source=source)
    elif isinstance(node, str) and "${" in node:
        raise InputError(
            f"{source} holds {node}, which would be evaluated here and which task=train never "
            "writes: write what it stands for"
        )
