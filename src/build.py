"""From the configuration to objects: the only caller of Hydra's ``instantiate``."""

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from src.callbacks.losses import LossRecord
from src.callbacks.progress import make_progress
from src.callbacks.stop import StopOnSignal
from src.checkpoints import AtomicCheckpointIO
from src.config import plain
from src.devices import choose_devices
from src.errors import InputError
from src.models.gan import ConditionalGAN

PARTS = (
    "generator",
    "discriminator",
    "loss",
    "penalties",
    "generator_optimizer",
    "discriminator_optimizer",
    "n_classes",
    "latent_dim",
    "discriminator_steps",
    "ema_halflife_images",
)


def build_model(cfg: DictConfig) -> ConditionalGAN:
    """The GAN, with the whole configuration as its hyper-parameters."""
    model = instantiate(cfg.model, _convert_="all")
    gan = ConditionalGAN(**{part: model[part] for part in PARTS}, seed=cfg.seed)
    gan.save_hyperparameters(plain(cfg))
    return gan


def build_datamodule(cfg: DictConfig) -> pl.LightningDataModule:
    return instantiate(cfg.datamodule, _convert_="all")


def build_callbacks(cfg: DictConfig) -> list[Callback]:
    """Those that every run has, then those of the ``callbacks`` group."""
    run_dir = Path(cfg.run_dir)
    record = LossRecord(run_dir)
    always = [record, make_progress(record), StopOnSignal(run_dir)]
    return [*always, *(instantiate(node, _convert_="all") for node in cfg.callbacks.values())]


def build_loggers(cfg: DictConfig) -> list[Logger]:
    return [instantiate(node, _convert_="all") for node in cfg.logger.values()]


def build_trainer(cfg: DictConfig) -> pl.Trainer:
    """Lightning's Trainer; ``gpus`` becomes accelerator, devices and strategy."""
    arguments = plain(cfg.trainer)
    refuse_what_cannot_work(arguments)
    names = "accelerator", "devices", "strategy"
    explicit = {name: arguments.pop(name, None) for name in names}
    devices = choose_devices(arguments.pop("gpus"), available=n_gpus(), **explicit)
    if devices["strategy"] != "auto" and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError("-m runs one device per job: type trainer.gpus=1, or a run without -m")
    defaults: dict[str, Any] = {
        "enable_progress_bar": sys.stdout.isatty(),
        "plugins": [AtomicCheckpointIO()],
    }
    return pl.Trainer(
        **defaults | arguments | devices,
        callbacks=build_callbacks(cfg),
        logger=build_loggers(cfg),
    )


def refuse_what_cannot_work(arguments: dict[str, Any]) -> None:
    if str(arguments.get("precision")) in ("16", "16-mixed"):
        raise InputError("trainer.precision=16-mixed overflows in a GAN: type bf16-mixed or 32")


def n_gpus() -> int:
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())
