"""Generate labelled images from a checkpoint."""

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.progress import track
from torch import Tensor

from src.configuration.build import build_model, choose_device
from src.configuration.check import check_saved_model
from src.configuration.container import plain
from src.configuration.trust import require_literal, targets
from src.errors import InputError
from src.images import Labelled, grid, picture
from src.models.generative import GenerativeModel
from src.runs.checkpoints import load_checkpoint
from src.runs.folders import find_checkpoint

log = logging.getLogger(__name__)
CHUNK = 1_000  # images at a time; part of what a seed means, so a constant


def generate(cfg: DictConfig) -> None:
    """Write images of the classes that are asked for, and a grid of them as ``samples.png``.

    They are in ``samples.npz`` (images uint8 (N, C, H, W), labels int64 (N,)), or, where
    ``cfg.format`` is png, in files such as ``5/0001.png``, the first of class 5.
    """
    path = find_checkpoint(ckpt_name(cfg), logs=Path(cfg.work_dir) / "logs")
    model = load_model(path, trusted=[*targets(plain(cfg)["model"])]).to(choose_device(cfg))
    labels = choose_labels(cfg.labels, n=cfg.n, n_classes=model.n_classes)
    images = torch.cat(list(sample(model, labels, seed=cfg.seed)))
    folder = Path(cfg.run_dir)
    if cfg.format == "png":
        write_pictures(folder, Labelled(images, labels))
    else:
        np.savez_compressed(folder / "samples.npz", images=images.numpy(), labels=labels.numpy())
    columns = min(cfg.n, 20)
    first = images.view(-1, cfg.n, *images.shape[1:])[:, :columns].flatten(0, 1)  # of every class
    grid(first, columns=columns).save(folder / "samples.png")
    files = "a folder per class" if cfg.format == "png" else "samples.npz"
    log.info(f"{len(images):,} images from {path}\nin {folder}: {files}, samples.png")


def write_pictures(folder: Path, data: Labelled) -> None:
    """Write every image into a file of its own, numbered from 1 in a folder per class."""
    numbers: Counter[int] = Counter()
    for image, label in zip(data.images, data.labels.tolist(), strict=True):
        numbers[label] += 1
        path = folder / str(label) / f"{numbers[label]:04d}.png"
        path.parent.mkdir(exist_ok=True)
        picture(image).save(path)


def ckpt_name(cfg: DictConfig) -> str:
    if cfg.ckpt is None:
        raise InputError(f"task={cfg.task} needs trained weights: type ckpt=PATH or ckpt=latest")
    return cfg.ckpt


def load_model(path: str | Path, *, trusted: Collection[str] = ()) -> GenerativeModel:
    """Build the model of a checkpoint as it was configured and trained, in eval mode.

    It needs no data set.

    Args:
        path: a checkpoint of task=train, or a run folder, which means its last one.
        trusted: classes from outside the project that the checkpoint may name.

    Raises:
        InputError: if the file cannot be read, names foreign classes, or does not fit its networks.
    """
    path = find_checkpoint(str(path), logs=Path("logs"))
    return rebuild(load_checkpoint(path), path=path, trusted=trusted).eval()


def rebuild(
    checkpoint: dict[str, Any], *, path: Path, trusted: Collection[str] = ()
) -> GenerativeModel:
    """Build the model of a ``checkpoint`` that is read already; errors name its ``path``."""
    saved = checkpoint["hyper_parameters"]
    require_literal(saved, source=f"ckpt={path}")
    check_saved_model(saved["model"], trusted=trusted)
    model = build_model(OmegaConf.create(saved))
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise InputError(
            f"ckpt={path} does not fit the networks that its own configuration names: "
            "they have changed since; generate with the code version that trained it"
        ) from error
    return model


def choose_labels(labels: str | int | list[int], *, n: int, n_classes: int) -> Tensor:
    """Class indices int64 (N,): ``n`` of every class that is asked for, class after class.

    Args:
        labels: one class, a list of classes, or "all".
        n: images of each class, at least 1.
        n_classes: classes are 0 to below this.

    Raises:
        InputError: if a class is not among them, or no image is asked for.
    """
    match labels:
        case int():
            classes = [labels]
        case str():
            classes = list(range(n_classes))
        case _:
            classes = list(labels)
    unknown = [label for label in classes if not 0 <= label < n_classes]
    if unknown:
        raise InputError(
            f"labels={unknown} are not among the classes 0..{n_classes - 1}: "
            "type labels=5, labels=[0,1] or labels=all"
        )
    if n < 1 or not classes:
        raise InputError(f"n={n} labels={labels} asks for no image: type n=16 labels=5")
    return torch.tensor(classes).repeat_interleave(n)


def sample(model: GenerativeModel, labels: Tensor, *, seed: int) -> Iterator[Tensor]:
    """Yield chunks of images uint8 (N, C, H, W) for ``labels``; equal seeds give equal bits."""
    generator = torch.Generator().manual_seed(seed)
    for chunk in track(
        torch.split(labels, CHUNK), description="generating", disable=len(labels) <= CHUNK
    ):
        yield model.generate(model.draw_noise(len(chunk), generator), chunk)
