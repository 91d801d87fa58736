"""What generates of a trained model: ``config.json`` and ``model.safetensors`` in a folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from src.errors import InputError
from src.files import write_atomically
from src.models.generative import GenerativeModel

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PRETRAINED = Path(__file__).parent / "pretrained"  # of the project
# What of a checkpoint's configuration generating needs; the rest is of a run, and of its machine.
NEEDED = "model", "datamodule", "seed"
ELSEWHERE = {"data": None, "data_dir": "data"}  # paths, which whoever reads it has elsewhere


def write_portable(
    folder: Path, model: GenerativeModel, checkpoint: dict[str, Any], *, dtype: torch.dtype
) -> None:
    """Write what generates of ``model``, and how far ``checkpoint`` was; ``dtype`` rounds it."""
    weights = {
        name: (each.to(dtype) if each.is_floating_point() else each).contiguous().cpu()
        for name, each in model.sampler.state_dict().items()
    }
    content = save(weights)
    config = {name: model.hparams[name] for name in NEEDED}
    config["datamodule"] = without_paths(config["datamodule"])
    record = config | {
        "class_names": [*model.class_names],
        "epoch": checkpoint["epoch"],
        "global_step": checkpoint["global_step"],
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomically(folder / WEIGHTS, content)
    write_atomically(folder / CONFIG, f"{json.dumps(record, indent=2)}\n".encode())


def without_paths(datamodule: dict[str, Any]) -> dict[str, Any]:
    """A ``datamodule`` group without the folders of the machine that it was used on."""
    dataset = datamodule.get("dataset", {})
    elsewhere = {key: value for key, value in ELSEWHERE.items() if key in dataset}
    return datamodule | {"dataset": dataset | elsewhere}


def read_portable(path: Path) -> dict[str, Any]:
    """Read ``model.safetensors`` at ``path`` as a checkpoint that has the ``sampler`` alone.

    Raises:
        InputError: if it is not what the ``config.json`` beside it describes.
    """
    beside = path.with_name(CONFIG)
    try:
        content, record = path.read_bytes(), json.loads(beside.read_text())
        found, wanted = hashlib.sha256(content).hexdigest(), record["sha256"]
        config = {name: record[name] for name in NEEDED}
        rest = {name: record[name] for name in ("class_names", "epoch", "global_step")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"ckpt={path} needs the {CONFIG} that task=export writes beside it: name the folder "
            "of an export"
        ) from error
    if found != wanted:
        raise InputError(
            f"{path} has the sha256 {found[:12]}..., not {wanted[:12]}... as {beside.name} says: "
            "copy or export the folder again"
        )
    weights: dict[str, Tensor] = load(content)
    sampler = {
        name: each.float() if each.is_floating_point() else each for name, each in weights.items()
    }
    return {"hyper_parameters": config, "sampler": sampler} | rest
