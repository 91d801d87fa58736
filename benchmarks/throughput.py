"""Training speed of an experiment, beside a bare loop and beside what people usually write.

    python benchmarks/throughput.py [--steps 200] [--rounds 7] [OVERRIDE ...]

Four arms train the same networks and objective on MNIST for ``steps`` batches, one after the other
in every round, so that a noisy machine disturbs all alike; medians over rounds are reported.

- fit: ``Trainer.fit`` as ``python run.py logger=csv`` uses it, from an epoch's first batch to its
  last, with the losses' way to metrics.csv; validation, pictures and checkpoints are not timed
- bare: the same step written out in plain torch over the same uint8 tensors (the limit)
- loader: that bare step, fed by torchvision's MNIST with ToTensor and Normalize in a DataLoader
- script: as most public GAN scripts do: that loader, real and fake apart, the discriminator's
  weight gradients kept in the generator's step, unfused Adam, ``.item()`` and a print per step

The first three share the discriminator of ``src/networks/mlp.py``, whose dropout and first layer
are cheaper forms of the same mathematics; the last has the scripts' own.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, open_dict
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.build import build_datamodule, build_model, build_trainer
from src.images import to_float
from src.models.gan import ConditionalGAN, frozen
from tests.conftest import compose_in

Batches = Iterable[tuple[Tensor, Tensor]]
Step = Callable[[Tensor, Tensor], None]


class Stopwatch(pl.Callback):
    """Seconds between the first batch and the end of the epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started_at = perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.elapsed_s = perf_counter() - self.started_at


def time_fit(cfg: DictConfig, steps: int) -> float:
    with open_dict(cfg.trainer):
        cfg.trainer.update(max_epochs=1, limit_train_batches=steps, limit_val_batches=0)
    trainer, watch = build_trainer(cfg), Stopwatch()
    trainer.callbacks.insert(0, watch)  # before the pictures of the epoch's end
    trainer.fit(build_model(cfg), build_datamodule(cfg))
    return watch.elapsed_s


def time_loop(batches: Batches, step: Step) -> float:
    started_at = perf_counter()
    for images, labels in batches:
        step(images, labels)
    return perf_counter() - started_at


def in_memory(images: Tensor, labels: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for rows in torch.randperm(len(labels)).split(batch_size):
        yield to_float(images[rows]), labels[rows]


def bare_step(gan: ConditionalGAN) -> Step:
    """The adversarial step of ``ConditionalGAN`` without Lightning, for least squares."""
    generator_adam, discriminator_adam = gan.configure_optimizers()
    weights = list(gan.discriminator.parameters())
    gan.train()

    def step(real: Tensor, labels: Tensor) -> None:
        fake_labels = torch.randint_like(labels, gan.n_classes)
        fake = gan.generator(torch.randn(len(labels), gan.latent_dim), fake_labels)
        both = torch.cat([real, fake.detach()]), torch.cat([labels, fake_labels])
        real_logits, fake_logits = gan.discriminator(*both).chunk(2)
        discriminator_adam.zero_grad()
        (((real_logits - 1).square() + fake_logits.square()) / 2).mean().backward()
        discriminator_adam.step()
        generator_adam.zero_grad()
        with frozen(weights):
            (gan.discriminator(fake, fake_labels) - 1).square().mean().backward()
        generator_adam.step()

    return step


class ScriptDiscriminator(nn.Module):
    """The historical one in the words of the scripts: a concatenation, torch's dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.label_embedding = nn.Embedding(10, 10)
        hidden = [nn.Linear(512, 512), nn.Dropout(0.4), nn.LeakyReLU(0.2, inplace=True)]
        self.model = nn.Sequential(
            nn.Linear(794, 512), nn.LeakyReLU(0.2, inplace=True), *hidden,
            nn.Linear(512, 512), *hidden[1:], nn.Linear(512, 1),
        )  # fmt: skip

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        both = torch.cat([images.flatten(1), self.label_embedding(labels)], dim=1)
        return self.model(both).squeeze(1)


def script_step(gan: ConditionalGAN) -> Step:
    gan.discriminator = ScriptDiscriminator()
    adams = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
        for network in (gan.generator, gan.discriminator)
    ]
    generator_adam, discriminator_adam = adams
    loss = nn.MSELoss()
    gan.train()

    def step(real: Tensor, labels: Tensor) -> None:
        valid, invalid = torch.ones(len(labels)), torch.zeros(len(labels))
        fake_labels = torch.randint(0, gan.n_classes, (len(labels),))
        generator_adam.zero_grad()
        fake = gan.generator(torch.randn(len(labels), gan.latent_dim), fake_labels)
        g_loss = loss(gan.discriminator(fake, fake_labels), valid)
        g_loss.backward()
        generator_adam.step()
        discriminator_adam.zero_grad()
        real_loss = loss(gan.discriminator(real, labels), valid)
        fake_loss = loss(gan.discriminator(fake.detach(), fake_labels), invalid)
        d_loss = (real_loss + fake_loss) / 2
        d_loss.backward()
        discriminator_adam.step()
        print(f"[D loss: {d_loss.item():f}] [G loss: {g_loss.item():f}]")

    return step


def arms(cfg: DictConfig, steps: int) -> dict[str, Callable[[], float]]:
    datamodule: Any = build_datamodule(cfg)
    datamodule.prepare_data()
    datamodule.setup("fit")
    train, size = datamodule.train_set, cfg.datamodule.batch_size
    usual = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    mnist = MNIST(cfg.data_dir, train=True, transform=usual)
    loader = DataLoader(mnist, batch_size=size, shuffle=True, drop_last=True)
    bare, usual_step, script = (
        make(build_model(cfg)) for make in (bare_step, bare_step, script_step)
    )

    return {
        "fit": lambda: time_fit(cfg, steps),
        "bare": lambda: time_loop(islice(in_memory(train.images, train.labels, size), steps), bare),
        "loader": lambda: time_loop(islice(loader, steps), usual_step),
        "script": lambda: time_loop(islice(loader, steps), script),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    options, overrides = parser.parse_known_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        cfg = compose_in(
            Path(folder), "experiment=train_mnist_gan.yaml", "logger=csv", "callbacks=none",
            "ignore_warnings=true", f"data_dir={Path.cwd() / 'data'}", *overrides,
        )  # fmt: skip
        race = arms(cfg, options.steps)
        seconds: dict[str, list[float]] = {name: [] for name in race}
        for number in range(-1, options.rounds):  # the first round warms up
            for name, run in race.items():
                with redirect_stdout(Path(os.devnull).open("w")):
                    elapsed_s = run()
                if number >= 0:
                    seconds[name].append(elapsed_s / options.steps)
    batch = cfg.datamodule.batch_size
    batches_per_epoch = cfg.datamodule.train_val_test_split[0] // batch
    print(f"{options.steps} steps of {batch}, {options.rounds} rounds, "
          f"{torch.get_num_threads()} threads, torch {torch.__version__}")  # fmt: skip
    print("arm      ms/step  images/s  s/epoch  fit is .. times as fast (median of rounds, range)")
    for name, each in seconds.items():
        step_s = statistics.median(each)
        ratios = [other / fit for other, fit in zip(each, seconds["fit"], strict=True)]
        print(
            f"{name:7} {1e3 * step_s:8.2f} {batch / step_s:9,.0f} {batches_per_epoch * step_s:8.1f}"
            f"  {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
