"""Generate labelled images from a checkpoint."""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from rich.progress import track
from torch import Tensor

from src.class_names import are_numbers, find_class, folders_of, likely, listed
from src.configuration.build import build_model, choose_device, ready_data
from src.configuration.check import check_saved_data, check_saved_model
from src.configuration.container import plain
from src.configuration.prepare import options_as_typed, trained_model
from src.configuration.trust import require_literal, targets
from src.datamodules.data_set import DataSet
from src.datamodules.in_memory import InMemoryDataModule
from src.errors import InputError
from src.images import Labelled, grid, picture, to_float
from src.models.generative import GenerativeModel
from src.reports.captions import beside_rows
from src.reports.terminal import setting
from src.runs.checkpoints import load_checkpoint, names_in
from src.runs.folders import find_checkpoint

log = logging.getLogger(__name__)
CHUNK = 1_000  # images at a time; part of what a seed means, so a constant


class Trained(NamedTuple):
    """What ``ckpt`` names: its file, what is in it, and the model with the options typed for it."""

    path: Path
    checkpoint: dict[str, Any]
    options: dict[str, Any]  # the ``model`` group that it generates with
    model: GenerativeModel

    @property
    def is_as_trained(self) -> bool:
        """Whether nothing of how it generates was typed anew."""
        return self.options == self.checkpoint["hyper_parameters"]["model"]


class Made(NamedTuple):
    """Generated images, and the images that are shown of them, in rows of ``columns``."""

    images: Labelled
    shown: Tensor
    columns: int


def generate(cfg: DictConfig) -> None:
    """Write images of the classes that are asked for, and a grid of them as ``samples.png``.

    With ``cfg.interpolate`` they walk from one noise to another; with ``cfg.reconstruct`` they are
    images of the data, encoded and decoded. They are in ``samples.npz`` (images uint8 (N, C, H, W),
    labels int64 (N,)), or, where ``cfg.format`` is png, in files such as ``cat/0001.png``.
    """
    path, checkpoint, _, model = load_trained(cfg)
    model.to(choose_device(cfg))
    labels = choose_labels(cfg.labels, n=cfg.n, names=model.class_names)
    if cfg.reconstruct:
        require_encoder(cfg, checkpoint, model, path=path)
        made = reconstruct(model, labels, data_of(cfg, model), cfg)
    else:
        noise = walk(model, labels, n=cfg.n, seed=cfg.seed) if cfg.interpolate else None
        images = torch.cat(list(sample(model, labels, seed=cfg.seed, noise=noise)))
        columns = cfg.n if cfg.interpolate else min(cfg.n, 20)
        shown = images.view(-1, cfg.n, *images.shape[1:])[:, :columns].flatten(0, 1)
        made = Made(Labelled(images, labels), shown, columns)
    folder = Path(cfg.run_dir)
    if cfg.format == "png":
        write_pictures(folder, made.images, names=model.class_names)
    else:
        images, labels = made.images
        np.savez_compressed(folder / "samples.npz", images=images.numpy(), labels=labels.numpy())
    draw(made, n=cfg.n, names=model.class_names).save(folder / "samples.png")
    files = "a folder per class" if cfg.format == "png" else "samples.npz"
    log.info(f"{len(made.images.labels):,} images from {path}\nin {folder}: {files}, samples.png")


def draw(made: Made, *, n: int, names: Sequence[str]) -> Image.Image:
    """A grid of what is shown, of ``n`` images a class, with the classes' names beside it.

    There are none where the ``names`` of all classes are their numbers.
    """
    tiles = grid(made.shown, columns=made.columns)
    if are_numbers(names):
        return tiles
    return beside_rows(tiles, [names[label] for label in made.images.labels[::n].tolist()])


def require_encoder(
    cfg: DictConfig, checkpoint: dict[str, Any], model: GenerativeModel, *, path: Path
) -> None:
    """Refuse to reconstruct beside a walk, or by what cannot, before any data are read."""
    if cfg.interpolate:
        raise InputError("interpolate and reconstruct are two pictures: type one of them")
    if type(model).reconstruct is GenerativeModel.reconstruct:
        model.reconstruct(Labelled(torch.empty(0), torch.empty(0)))  # which says so
    if "sampler" in checkpoint:
        raise InputError(
            f"reconstruct needs an encoder, and {path} holds what generates alone: name the "
            "checkpoint that it was exported from, or leave reconstruct out"
        )


def walk(model: GenerativeModel, labels: Tensor, *, n: int, seed: int) -> Tensor:
    """Noise (N, *noise_shape) that walks in ``n`` steps from one draw to another, class by class.

    Directions turn evenly from one to the other (spherical interpolation), as lengths change.
    """
    ends = model.draw_noise(2 * len(labels) // n, torch.Generator().manual_seed(seed))
    start, end = ends.flatten(1)[:, None].chunk(2)  # (classes, 1, D)
    lengths = [each.norm(dim=2, keepdim=True) for each in (start, end)]
    ways = [each / length for each, length in zip((start, end), lengths, strict=True)]
    angle = (ways[0] * ways[1]).sum(dim=2, keepdim=True).clamp(-1, 1).acos()
    share = torch.linspace(0, 1, n)[:, None]
    turned = ((1 - share) * angle).sin() * ways[0] + (share * angle).sin() * ways[1]
    points = turned / angle.sin() * torch.lerp(lengths[0], lengths[1], share)
    straight = torch.lerp(start, end, share)  # where both lie on one line, as single numbers do
    points = torch.where(angle.sin() < 1e-3, straight, points)
    return points.reshape(len(labels), *model.noise_shape)


def reconstruct(
    model: GenerativeModel, labels: Tensor, datamodule: InMemoryDataModule, cfg: DictConfig
) -> Made:
    """Encode and decode the first ``cfg.n`` images of each class in a part of the data.

    Shown are rows of images over rows of what became of them.
    """
    data = datamodule.parts[cfg.reconstruct]
    few = [k for k in labels.unique().tolist() if int((data.labels == k).sum()) < cfg.n]
    if few:
        raise InputError(
            f"n={cfg.n} is more than the images of class {model.class_names[few[0]]} in "
            f"{cfg.reconstruct}: type fewer"
        )
    rows = [(data.labels == label).nonzero().flatten()[: cfg.n] for label in labels[:: cfg.n]]
    chosen = data.take(torch.cat(rows))
    parts = [chosen.take(rows) for rows in torch.arange(len(labels)).split(CHUNK)]
    images = torch.cat([
        model.reconstruct(Labelled(to_float(part.images), part.labels)) for part in parts
    ])  # fmt: skip
    columns = min(cfg.n, 20)
    both = torch.stack([chosen.images, images]).unflatten(1, (-1, cfg.n))[:, :, :columns]
    return Made(chosen._replace(images=images), both.transpose(0, 1).flatten(0, 2), columns)


def write_pictures(folder: Path, data: Labelled, *, names: Sequence[str]) -> None:
    """Write every image into a file of its own, numbered from 1 in a folder per class."""
    homes = folders_of(names)
    numbers: Counter[int] = Counter()
    for image, label in zip(data.images, data.labels.tolist(), strict=True):
        numbers[label] += 1
        path = folder / homes[label] / f"{numbers[label]:04d}.png"
        path.parent.mkdir(exist_ok=True)
        picture(image).save(path)


def ckpt_name(cfg: DictConfig) -> str:
    if cfg.ckpt is None:
        raise InputError(
            f"task={cfg.task} needs trained weights: type ckpt=PATH, ckpt=latest or ckpt=pretrained"
        )
    return cfg.ckpt


def load_trained(cfg: DictConfig) -> Trained:
    """Load what ``cfg.ckpt`` names onto the CPU, in eval mode, to generate as ``cfg`` says."""
    path = find_checkpoint(ckpt_name(cfg), logs=Path(cfg.work_dir) / "logs")
    checkpoint = load_checkpoint(path)
    options = trained_model(cfg, checkpoint["hyper_parameters"]["model"], path=path)
    return Trained(path, checkpoint, options, rebuild(checkpoint, path=path, options=options))


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
    checkpoint = load_checkpoint(path)
    options = checkpoint["hyper_parameters"]["model"]
    require_literal(options, source=f"ckpt={path}")
    check_saved_model(options, trusted=trusted)
    return rebuild(checkpoint, path=path, options=options)


def rebuild(checkpoint: dict[str, Any], *, path: Path, options: dict[str, Any]) -> GenerativeModel:
    """Build the model of a ``checkpoint`` with checked ``options``, in eval mode.

    Errors name its ``path``.
    """
    saved = checkpoint["hyper_parameters"]
    require_literal(saved, source=f"ckpt={path}")
    model = build_model(OmegaConf.create(saved | {"model": options}))
    try:
        if "sampler" in checkpoint:
            model.sampler.load_state_dict(checkpoint["sampler"])
        else:
            model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise InputError(
            f"ckpt={path} does not fit the networks that its own configuration names: "
            "they have changed since; generate with the code version that trained it"
        ) from error
    model.class_names = names_in(checkpoint, n_classes=model.n_classes, path=path)
    return model.eval()


def choose_labels(
    labels: str | int | Sequence[str | int], *, n: int, names: Sequence[str]
) -> Tensor:
    """Class indices int64 (N,): ``n`` of every class that is asked for, class after class.

    Args:
        labels: one class, a list of classes, or "all"; each by its name or its index.
        n: images of each class, at least 1.
        names: of all classes.

    Raises:
        InputError: if a class is not among them, or no image is asked for.
    """
    if labels == "all":
        labels = names
    typed = [labels] if isinstance(labels, str | int) else [*labels]
    classes = {label: find_class(label, names) for label in typed}
    unknown = [label for label, found in classes.items() if found is None]
    example = setting("labels", likely(unknown, names) or names[-1])
    if unknown:
        raise InputError(
            f"labels={unknown} are not among the classes {listed(names)}: type {example}, a list "
            "such as 'labels=[A,B]', or labels=all"
        )
    if n < 1 or not classes:
        raise InputError(f"n={n} labels={labels} asks for no image: type n=16 {example}")
    return torch.tensor([classes[label] for label in typed]).repeat_interleave(n)


def sample(
    model: GenerativeModel, labels: Tensor, *, seed: int, noise: Tensor | None = None
) -> Iterator[Tensor]:
    """Yield chunks of images uint8 (N, C, H, W) for ``labels``; equal seeds give equal bits.

    The noise (N, *noise_shape) is drawn from ``seed`` unless it is given.
    """
    generator = torch.Generator().manual_seed(seed)
    for rows in track(
        torch.arange(len(labels)).split(CHUNK),
        description="generating",
        disable=len(labels) <= CHUNK,
    ):
        drawn = model.draw_noise(len(rows), generator) if noise is None else noise[rows]
        yield model.generate(drawn, labels[rows])


def data_of(cfg: DictConfig, model: GenerativeModel) -> InMemoryDataModule:
    """Ready the data that ``model`` was trained on, from this machine's ``cfg.data_dir``.

    Raises:
        InputError: if another data set was chosen on the command line, or its classes are others.
    """
    group = data_group(cfg, model)
    datamodule = ready_data(OmegaConf.create({"datamodule": group}))
    if "data" in group.get("dataset", {}):
        require_same_classes(datamodule.dataset, model)
    return datamodule


def require_same_classes(dataset: DataSet, model: GenerativeModel) -> None:
    """Refuse data of other classes than those of ``model``."""
    if [*dataset.class_names] != [*model.class_names]:
        raise InputError(
            f"{dataset.name} has the classes {listed(dataset.class_names)}, and the checkpoint "
            f"knows {listed(model.class_names)}: type data=PATH of the same classes"
        )


def data_group(cfg: DictConfig, model: GenerativeModel) -> dict[str, Any]:
    """The ``datamodule`` group that ``model`` was trained with, with this machine's folders.

    Raises:
        InputError: if another data set was chosen on the command line.
    """
    trained_on = model.hparams.get("datamodule", {})
    check_saved_data(trained_on, trusted=[*targets(plain(cfg)["datamodule"])])
    target, typed = (named_by(node) for node in (trained_on, plain(cfg)["datamodule"]))
    chosen = [o for o in options_as_typed() if o.startswith("datamodule=")]
    if chosen and typed != target:
        raise InputError(
            f"ckpt={cfg.ckpt} was trained on {target.rpartition('.')[2]}, not on "
            f"{typed.rpartition('.')[2]}: leave {chosen[0]} out, or name another checkpoint"
        )
    return on_this_machine(trained_on, cfg)


def on_this_machine(datamodule: dict[str, Any], cfg: DictConfig) -> dict[str, Any]:
    """A checkpoint's ``datamodule`` group with the folders that are typed here."""
    dataset = datamodule.get("dataset", {})
    here = {key: cfg[key] for key in ("data", "data_dir") if key in dataset and cfg[key]}
    if "data" in dataset:  # whose sizes are its own
        datamodule = datamodule | {"train_val_test_split": []}
    return datamodule | {"dataset": dataset | here} if here else datamodule


def named_by(datamodule: dict[str, Any]) -> str:
    """The ``_target_`` of the data set in a ``datamodule`` group, or of a module without one."""
    return datamodule.get("dataset", datamodule)["_target_"]
