"""Small models, data and helpers that several test files share."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader

from src.configuration.build import build_datamodule
from src.configuration.prepare import compose_in
from src.datamodules.data_set import DataSet
from src.datamodules.in_memory import InMemoryDataModule
from src.datamodules.sources import SourceError
from src.datamodules.synthetic import Synthetic
from src.generate import load_model
from src.images import Labelled
from src.metrics.footing import rows_like
from src.metrics.judges import load_judges
from src.metrics.panel import quick
from src.models.gan.losses import LeastSquares
from src.models.gan.model import ConditionalGAN
from src.runs.checkpoints import load_checkpoint
from src.runs.folders import LAST
from tests.pages import ROOT

# --- what is typed --------------------------------------------------------------------------------

Compose = Callable[..., DictConfig]

# Enough of each class for every metric.
BARS = [
    "model=mnist_gan_model",
    "datamodule=synthetic",
    "datamodule.train_val_test_split=[1500,700,700]",
]

# 32 steps, or 16 of two processes.
SMALL = [
    "datamodule=synthetic", "model=small_gan", "print_config=false", "trainer.max_epochs=2",
    "test_after_training=false", "trainer.log_every_n_steps=3", "~callbacks.sample_grid",
    "threads=1", "logger=csv",
]  # fmt: skip
TWO_RANKS = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]

N_STACKED = 70  # validation triples, and test triples
STACKED = [
    "experiment=stacked_mnist", f"datamodule.train_val_test_split=[256,{N_STACKED},{N_STACKED}]",
    f"callbacks.quality.n={N_STACKED}", "logger=csv", "ignore_warnings=true",
]  # fmt: skip


# --- processes ------------------------------------------------------------------------------------

RUN = [sys.executable, str(ROOT / "run.py")]


def start(
    arguments: list[str], folder: Path, launcher: list[str] = RUN, *, threads: str = "1"
) -> subprocess.Popen[str]:
    """Run in ``folder``, which may hold modules, blind to any key of the machine's owner."""
    environment = {key: value for key, value in os.environ.items() if "WANDB" not in key}
    environment |= {
        "OMP_NUM_THREADS": threads,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "HOME": str(folder),
    }
    return subprocess.Popen(
        [*launcher, *arguments],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], *, code: int = 0) -> str:
    output, _ = process.communicate(timeout=600)  # two threads on one free core crawl
    assert process.returncode == code, output
    return output


# --- what a run leaves ----------------------------------------------------------------------------


def last_checkpoint(run: Path) -> dict[str, Any]:
    return load_checkpoint(run / LAST)


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, at any depth."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def assert_same_bits(run: Path, other: Path, *, n_steps: int) -> None:
    """Both have trained to the end, to the same weights and the same state of optimizers."""
    first, second = last_checkpoint(run), last_checkpoint(other)
    assert first["global_step"] == second["global_step"] == n_steps
    assert same(first["state_dict"], second["state_dict"])
    assert same(first["optimizer_states"], second["optimizer_states"])


# --- a pair of two layers each --------------------------------------------------------------------

BATCH, LATENT, CLASSES = 6, 3, 4


class Painter(nn.Module):
    """A generator of 2x2 images small enough for golden values."""

    def __init__(self) -> None:
        super().__init__()
        self.label_emb = nn.Embedding(CLASSES, 2)
        self.model = nn.Sequential(nn.Linear(LATENT + 2, 4), nn.BatchNorm1d(4), nn.Tanh())

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return self.model(torch.cat([self.label_emb(labels), latents], 1)).view(-1, 1, 2, 2)


class Critic(nn.Module):
    """A discriminator with dropout, as the baseline's has; it remembers what it was asked."""

    def __init__(self, *, normalized: bool = False, dropout: float = 0.4) -> None:
        super().__init__()
        self.label_embedding = nn.Embedding(CLASSES, 2)
        norm = nn.BatchNorm1d(5) if normalized else nn.Identity()
        self.model = nn.Sequential(
            nn.Linear(6, 5), norm, nn.Dropout(dropout), nn.Tanh(), nn.Linear(5, 1)
        )
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        self.asked.append((images.detach(), labels))
        return self.model(torch.cat([images.flatten(1), self.label_embedding(labels)], 1)).squeeze(
            1
        )


class Lipschitz(Critic):
    """Spectrally normalized throughout."""

    def __init__(self) -> None:
        torch.manual_seed(4)
        super().__init__(dropout=0.0)
        for layer in self.model:
            if isinstance(layer, nn.Linear):
                spectral_norm(layer)


def make_gan(
    *,
    lr_g: float = 0.05,
    lr_d: float = 0.05,
    critic: nn.Module | None = None,
    normalized: bool = False,
    optimizer: Any = torch.optim.SGD,
    family: type[ConditionalGAN] = ConditionalGAN,
    **changes: Any,
) -> ConditionalGAN:
    torch.manual_seed(0)
    parts: dict[str, Any] = {"loss": LeastSquares(), "penalties": {}, "seed": 5}
    parts |= {"n_classes": CLASSES, "latent_dim": LATENT} | changes
    return family(
        generator=Painter(),
        discriminator=critic or Critic(normalized=normalized),
        generator_optimizer=partial(optimizer, lr=lr_g),
        discriminator_optimizer=partial(optimizer, lr=lr_d),
        **parts,
    )


def batches(count: int, size: int = BATCH) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [
        (
            torch.rand(size, 1, 2, 2, generator=draw) * 2 - 1,
            torch.randint(CLASSES, (size,), generator=draw),
        )
        for _ in range(count)
    ]


def fit(
    gan: ConditionalGAN,
    count: int = 1,
    *callbacks: pl.Callback,
    batch_size: int = BATCH,
    ckpt: Path | None = None,
    **trainer: Any,
) -> pl.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "enable_checkpointing": bool(callbacks)}
    lightning = pl.Trainer(
        accelerator="cpu", callbacks=[*callbacks], **{"max_epochs": 1} | quiet | trainer
    )
    batch_loader = DataLoader(batches(count, batch_size), batch_size=None)
    lightning.fit(gan, batch_loader, ckpt_path=ckpt, weights_only=True)
    return lightning


def weights(network: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in network.parameters()]


def moved(before: list[Tensor], network: nn.Module) -> list[bool]:
    return [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]


def assert_same(a: nn.Module, b: nn.Module) -> None:
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


# --- files to fetch -------------------------------------------------------------------------------


class Shelf:
    """A source with some files, which counts what is asked of it."""

    def __init__(self, title: str, files: dict[str, bytes]) -> None:
        self.title, self.files = title, files
        self.asked: list[str] = []

    def __str__(self) -> str:
        return self.title

    def __call__(self, name: str) -> bytes:
        self.asked.append(name)
        if name not in self.files:
            raise SourceError("sold out")
        return self.files[name]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- numbered pictures, to see which batches a run had --------------------------------------------

N_NUMBERS, NUMBERS_BATCH = 42, 8
NUMBERS_BATCHES = N_NUMBERS // NUMBERS_BATCH  # 5 per epoch, two images left over


class Numbers(DataSet):
    """Pictures of one pixel whose value is their number."""

    name, channels, n_classes, size = "numbers", 1, 1, 1

    def load(self) -> tuple[Labelled, Labelled]:
        images = torch.arange(N_NUMBERS + 8, dtype=torch.uint8).view(-1, 1, 1, 1)
        labels = torch.zeros(N_NUMBERS + 8, dtype=torch.int64)
        return Labelled(images, labels), Labelled(images[:8], labels[:8])


class Recorder(pl.LightningModule):
    """Writes down the batches that it has finished; optimizes by hand, as a GAN does."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, int, list[float]]] = []
        self.fail_at: tuple[int, int] | None = None

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        if self.fail_at == (self.current_epoch, batch_idx):
            raise KeyError("stop here")
        self.optimizers().step()
        self.seen.append((self.current_epoch, batch_idx, batch[0].flatten().tolist()))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Lightning validates only where this exists."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(pl.Callback):
    """Saves inside ``hook`` of the given epoch and batch."""

    def __init__(self, path: Path, hook: str, epoch: int, batch: int) -> None:
        self.path, self.moment = path, (hook, epoch, batch)

    def save_at(self, trainer: pl.Trainer, hook: str) -> None:
        batch = trainer.fit_loop.epoch_loop.batch_idx
        if self.moment == (hook, trainer.current_epoch, batch) and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.save_at(trainer, "on_train_batch_end")

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.save_at(trainer, "on_validation_end")

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.save_at(trainer, "on_train_epoch_end")

    def on_exception(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


def fit_numbers(
    *callbacks: pl.Callback,
    ckpt: Path | None = None,
    workers: int = 0,
    fail_at: tuple[int, int] | None = None,
    **options: Any,
) -> list[tuple[int, int, list[float]]]:
    module = Recorder()
    module.fail_at = fail_at
    data = InMemoryDataModule(
        dataset=Numbers(),
        batch_size=NUMBERS_BATCH,
        train_val_test_split=[N_NUMBERS, 8, 8],
        img_size=1,
        seed=3,
        num_workers=workers,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **{"max_epochs": 3} | options,
    )
    try:
        trainer.fit(module, data, ckpt_path=ckpt, weights_only=True)
    except KeyError:
        assert fail_at
    return module.seen


# --- features, bars and their judges --------------------------------------------------------------


def normal(n: int, dim: int, *, seed: int) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


class AsTheyAre(nn.Module):
    """Features that are their own extractor."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, features: Tensor) -> Tensor:
        return features


N_BARS = 700


def bars(*, seed: int) -> InMemoryDataModule:
    split = [1_500, N_BARS, N_BARS]
    datamodule = InMemoryDataModule(
        dataset=Synthetic(split=split, seed=seed),
        train_val_test_split=split, img_size=28, seed=0, split_seed=seed,
    )  # fmt: skip
    datamodule.setup("test")
    return datamodule


def measure_again(run: Path, data_dir: Path, *, n: int) -> dict[str, float]:
    """From the last checkpoint, in this process, without the callback."""
    gan = load_model(run / "checkpoints" / "last.ckpt")
    latents = gan.draw_noise(n, torch.Generator().manual_seed(0))
    labels = torch.arange(n) % 10
    judges = load_judges("synthetic", n_classes=10, channels=1, data_dir=data_dir)
    datamodule = build_datamodule(compose_in(run, *BARS))
    assert isinstance(datamodule, InMemoryDataModule)
    datamodule.setup("fit")
    fake = Labelled(gan.generate(latents, labels), labels)
    counts = torch.full((10,), n // 10)
    size = len(rows_like(datamodule.parts["train"].labels, counts))
    return quick(judges.read(fake), judges.read(datamodule.parts["val"]), size=size)


# --- sentences ---------------------------------------------------------------------------------


def own_pictures(folder: Path) -> list[str]:
    """The options by which three pictures of one class in ``folder`` are the data."""
    (folder / "own").mkdir()
    for i in range(3):
        Image.new("L", (4, 4), i).save(folder / "own" / f"{i}.png")
    return [f"data={folder / 'own'}", f"data_dir={folder}", "datamodule.batch_size=1"]


def assert_says(sentence: object, *parts: str) -> None:
    """Each part stands in the sentence: what was given, what is allowed, what to type."""
    missing = [part for part in parts if part not in str(sentence)]
    assert not missing, f"{missing} are not said by: {sentence}"


# --- files ----------------------------------------------------------------------------------------


class Danger:
    """Unpickling this creates a file: code has run."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)
