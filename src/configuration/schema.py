"""What a composed configuration may hold: every key is a parameter of the thing it configures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Call = Mapping[str, Any]  # a node with _target_, whose signature says what else it holds


@dataclass
class Shared:
    """Keys of the ``model`` group that its parts refer to, and that its class need not take."""

    lr: float
    b1: float
    b2: float
    lr_g: float
    lr_d: float
    channels: int
    img_size: int
    n_classes: int
    latent_dim: int


@dataclass
class Search:
    """Keys of the ``search`` group, which ``task=search`` brings."""

    study: str
    folder: str
    storage: str | None
    space: dict[str, Call]
    n_trials: int
    direction: Literal["minimize", "maximize"]
    epoch: Literal["last", "best"]
    winners: int
    seeds: list[int]
    worker: int
    heartbeat_s: int
    grace_s: int
    sampler: Call | None
    pruner: Call | None


@dataclass
class Config:
    """The keys at the root of the configuration, and their types."""

    task: Literal["train", "generate", "evaluate", "compare", "train_judge", "export", "search"]
    seed: int
    threads: int | None
    model: Any  # checked against the class that it names
    datamodule: Call
    data: str | None
    trainer: Any  # checked against Lightning's Trainer
    callbacks: dict[str, Call]
    logger: dict[str, Call]
    ckpt: str | None
    resume: str | None
    labels: str | int | list[str | int]
    n: int
    format: Literal["npz", "png"]
    interpolate: bool
    reconstruct: Literal["train", "val", "test"] | None
    samples: str | None
    cas_seeds: int
    runs: str | list[str]
    search: Any  # checked where task=search
    debug: bool
    print_config: bool
    ignore_warnings: bool
    test_after_training: bool
    optimized_metric: str | None
    work_dir: str
    data_dir: str
    run_dir: str


LEAST = {
    "seed": 0,
    "search.n_trials": 1,
    "search.winners": 0,
    "search.worker": 0,
    "search.heartbeat_s": 1,
    "search.grace_s": 2,
    "threads": 1,
    "n": 1,
    "cas_seeds": 0,
    "model.lr": 0,
    "model.lr_g": 0,
    "model.lr_d": 0,
    "model.b1": 0,
    "model.b2": 0,
    "model.n_classes": 1,
    "model.latent_dim": 1,
    "model.channels": 1,
    "model.img_size": 1,
    "model.discriminator_steps": 1,
    "model.ema_halflife_images": 1,
    "model.augment_p": 0,
    "trainer.num_nodes": 1,
}
MOST = {
    "seed": 2**32 - 1,  # the largest that numpy takes
    "threads": 1_000,  # more than any machine has, and fewer than torch takes
    "n": 1_000_000,
    "model.b1": 0.9999,
    "model.b2": 0.999999,
    "model.augment_p": 1,
}
INSTEAD = {
    "trainer.weights_summary": "trainer.enable_model_summary",
    "trainer.progress_bar_refresh_rate": "trainer.enable_progress_bar",
    "trainer.resume_from_checkpoint": "ckpt=PATH",
    "trainer.terminate_on_nan": "nothing: a loss that is not finite always stops the run",
    "model.loss_type": "model/loss=NAME",
    "name": "logger=wandb logger.wandb.name=NAME, or hydra.run.dir=PATH for the run folder",
}
