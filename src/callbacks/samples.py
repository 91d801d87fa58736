"""Pictures of what the generator makes, epoch after epoch."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from typing_extensions import override

from src.class_names import are_numbers
from src.errors import InputError
from src.images import grid
from src.models.generative import GenerativeModel
from src.reports.captions import above_columns

MOST_ROWS = 100


class SampleGrid(Callback):
    """Draws a column for each class and a row for each fixed noise after every epoch.

    Names of classes stand above, where they are more than their numbers. Images of a single class,
    each of its own noise, fill ten columns. Writes ``folder/epoch_0001.png`` and so on, shows the
    grid as ``gen_imgs`` in every logger that takes images, and at the end joins all epochs to
    ``folder/../samples.gif``.
    """

    def __init__(self, folder: str | Path, rows: int = 8) -> None:
        self.folder, self.rows = Path(folder), rows
        if not 1 <= rows <= MOST_ROWS:
            raise InputError(
                f"callbacks.sample_grid.rows={rows} is not allowed: type a number from 1 to "
                f"{MOST_ROWS}, or ~callbacks.sample_grid for no pictures"
            )

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, GenerativeModel)
        picture = self.draw(pl_module)
        self.folder.mkdir(parents=True, exist_ok=True)
        picture.save(self.folder / f"epoch_{trainer.current_epoch + 1:04d}.png")
        for logger in trainer.loggers:
            show(picture, logger, step=trainer.global_step)

    def draw(self, model: GenerativeModel) -> Image.Image:
        n_classes = model.n_classes
        n_noises = self.rows if n_classes > 1 else 10 * self.rows
        noise = model.draw_noise(n_noises, torch.Generator().manual_seed(0))
        labels = torch.arange(n_classes).repeat(n_noises)
        images = model.generate(noise.repeat_interleave(n_classes, dim=0), labels)
        tiles = grid(images, columns=n_classes if n_classes > 1 else 10)
        if n_classes == 1 or are_numbers(model.class_names):
            return tiles
        return above_columns(tiles, model.class_names)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Join the pictures, also those from before a resume."""
        if trainer.is_global_zero:
            write_film(self.folder)

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.on_fit_end(trainer, pl_module)


def show(picture: Image.Image, logger: Logger, *, step: int) -> None:
    if isinstance(logger, WandbLogger):
        logger.log_image(key="gen_imgs", images=[picture], step=step)
    elif isinstance(logger, TensorBoardLogger):
        pixels = np.asarray(picture)
        logger.experiment.add_image("gen_imgs", pixels, step, dataformats="HWC")


def write_film(folder: Path, *, seconds: float = 10.0) -> None:
    """Join the grids in ``folder`` to ``samples.gif`` beside it, the last one shown longer."""
    paths = sorted(folder.glob("epoch_*.png"))
    if not paths:
        return
    frames = [Image.open(path).quantize() for path in paths]
    duration = [max(50, round(1000 * seconds / len(frames)))] * len(frames)
    duration[-1] += 1500
    frames[0].save(
        folder.parent / "samples.gif", save_all=True, append_images=frames[1:], duration=duration,
        loop=0,
    )  # fmt: skip
