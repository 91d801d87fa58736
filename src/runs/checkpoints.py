"""Checkpoint files, which are written whole or not at all and loaded without running code."""

import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from typing_extensions import override

from src.class_names import numbered
from src.errors import InputError
from src.files import write_atomically
from src.reports.terminal import command
from src.runs.portable import read_portable


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints beside their place, then renames them: a kill leaves the old file whole.

    Lightning's own way goes through the system's temporary folder. That is often on another disk,
    from which the last move is a copy.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content.getvalue())
        except OSError as error:
            raise InputError(
                f"checkpoint {path} could not be written ({error.strerror}); earlier checkpoints "
                f"are untouched: free some space, then type {command(resume=path.parent.parent)}"
            ) from error

    @override
    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove one local file, and only if it is a checkpoint.

        ``path`` may come from a stranger's checkpoint that this run has continued. Lightning's own
        way would remove whole folders, also outside the run.
        """
        if Path(path).suffix == ".ckpt":
            Path(path).unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this project onto the CPU: tensors and plain containers alone.

    Of exported weights it has the ``sampler`` in place of the ``state_dict``.

    Raises:
        InputError: if the file cannot be read, or is of another project or version.
    """
    if path.suffix == ".safetensors":
        return read_portable(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what foreign bytes unpickle to is anybody's guess
        raise InputError(
            f"ckpt={path} cannot be read: the file is truncated or is not a checkpoint; "
            "name another one (best-*.ckpt lie beside last.ckpt)"
        ) from error
    match checkpoint:
        case {"hyper_parameters": {"model": {"_target_": str()}}, "state_dict": dict()}:
            return dict(checkpoint)
        case {"hyper_parameters": {"model": dict()}}:
            raise InputError(
                f"ckpt={path} is of version 0.1, whose classes have moved: use it with the code "
                "that trained it, or train again with the options in its config.yaml"
            )
        case _:
            raise InputError(
                f"ckpt={path} was not written by this project: name a file that task=train has left"
            )


def names_in(checkpoint: dict[str, Any], *, n_classes: int, path: Path) -> list[str]:
    """The names of a checkpoint's classes; their numbers, if it was saved without names.

    Raises:
        InputError: if they are not as many texts as classes.
    """
    match checkpoint.get("class_names"):
        case None:
            return numbered(n_classes)
        case [*names] if len(names) == n_classes and all(isinstance(each, str) for each in names):
            return names
        case _:
            raise InputError(f"ckpt={path} names other classes than it has: name another one")


def package_of(target: str) -> str:
    """The package of the module that defines ``target``."""
    return target.rpartition(".")[0].rpartition(".")[0]


def without(model: dict[str, Any], options: Collection[str]) -> dict[str, Any]:
    """Copy a ``model`` group without ``options``, such as guidance or generator.truncation."""
    rest = {key: dict(node) if isinstance(node, dict) else node for key, node in model.items()}
    for option in options:
        part, _, name = option.partition(".")
        group = rest.get(part) if name else rest
        if isinstance(group, dict):
            group.pop(name or part, None)
    return rest


def require_same_model(
    checkpoint: dict[str, Any], model: dict[str, Any], *, path: Path, sampling: Collection[str] = ()
) -> None:
    """Refuse a ``model`` group that is not the checkpoint's, for resuming would ignore what is new.

    A key that the checkpoint lacks counts as an empty group. Schedules may differ, for those that
    end with the run are stretched with it, and so may options of ``sampling``.
    """
    saved = without(checkpoint["hyper_parameters"]["model"], sampling)
    wanted = without(model, ["schedules", *sampling])
    if package_of(saved["_target_"]) == package_of(model["_target_"]):
        del wanted["_target_"]  # ways of computing one family
    changed = [key for key in wanted if saved.get(key, {}) != wanted[key]]
    if changed:
        key = changed[0]
        raise InputError(
            f"ckpt={path} was trained with model.{key}={saved.get(key, {})}, not {model[key]}: "
            "repeat the options of that run, or type resume=RUN, which does so for you"
        )
