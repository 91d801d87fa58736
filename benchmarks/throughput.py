"""Training speed of experiments, beside a bare loop and beside the first version that was correct.

    python benchmarks/throughput.py [--experiments NAME ...] [--steps 40] [--rounds 7] [--profile]
        [OVERRIDE ...]

Four arms train the same networks and objective on the experiment's data for ``steps`` batches, one
after the other in every round, so that a noisy machine disturbs all alike; medians over rounds are
reported, and the peak memory of the process that trains all four.

- fit: ``Trainer.fit`` as ``python run.py logger=csv`` uses it, from an epoch's first batch to its
  last, with the losses' way to metrics.csv; validation, pictures and checkpoints are not timed
- bare: the same step without Lightning, over the same uint8 tensors (the limit)
- loader: that bare step, fed by torchvision's dataset with ToTensor and Normalize in a DataLoader;
  stacked and synthetic images have none
- first: the bare loop's mathematics as one writes it first: torch's own layers and unfused Adam,
  real and fake images apart, each penalty and term with forward passes of its own, the
  discriminator's weight gradients kept in the generator's step, ``.item()`` after every step

``--profile`` lists instead where the bare and the first step's time goes, by operation.
"""

import argparse
import logging
import math
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from omegaconf import DictConfig, open_dict
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.configuration.build import build_datamodule, build_model, build_trainer
from src.configuration.prepare import compose_in
from src.images import Labelled, to_float
from src.models.gan.losses import Logits
from src.models.gan.model import ConditionalGAN
from src.models.gan.penalties import ZeroCentered, ZeroCenteredPair
from src.models.gan.scores import Scored, score
from src.networks import conditioning, layers
from src.networks.facts import frozen

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
    """The model's own game and networks in a loop of two optimizers, without Lightning."""
    generator_optimizer, discriminator_optimizer = gan.configure_optimizers()
    gan.train()
    game, discriminator, n_batches = gan.game, gan.discriminator, 0

    def step(images: Tensor, labels: Tensor) -> None:
        nonlocal n_batches
        n_batches += 1
        trains_generator = n_batches % gan.batches_per_step == 0
        real, inputs = Labelled(images, labels), gan.draw_inputs(labels)
        with torch.set_grad_enabled(trains_generator):
            fake = gan.make_fake(*inputs)
        discriminator_optimizer.zero_grad()
        objective = game.discriminator_objective(discriminator, real, fake, gamma=1.0)
        objective.total.backward(inputs=gan.discriminator_weights)
        discriminator_optimizer.step()
        if not trains_generator:
            return
        generator_optimizer.zero_grad()
        with frozen(gan.discriminator_weights):
            objective = game.generator_objective(discriminator, real, fake)
        objective.total.backward(inputs=gan.generator_weights)
        generator_optimizer.step()
        average(gan, len(labels))

    return step


def average(gan: ConditionalGAN, batch_size: int) -> None:
    if gan.ema is not None:
        gan.ema.move(gan.generator, gan.ema_share(batch_size * gan.batches_per_step))


def first_step(gan: ConditionalGAN) -> Step:
    generator_optimizer, discriminator_optimizer = map(unfused, gan.configure_optimizers())
    gan.train()
    game, critic, n_batches = gan.game, gan.discriminator, 0
    penalties = [each for penalty in game.penalties for each in apart(penalty)]

    def step(images: Tensor, labels: Tensor) -> None:
        nonlocal n_batches
        n_batches += 1
        real, fake = Labelled(images, labels), gan.make_fake(*gan.draw_inputs(labels))
        cut = Labelled(fake.images.detach(), fake.labels)
        loss = game.loss.discriminator(Logits(critic(*real), critic(*cut)))
        more = [each(critic, **asked(gan, each, real=real, fake=cut)) for each in penalties]
        more += [
            each.discriminator(critic, **asked(gan, each, real=real, fake=cut))
            for each in game.terms
        ]
        learn(discriminator_optimizer, loss, more)
        if n_batches % gan.batches_per_step:
            return
        logits = Logits(game.real_logits(critic, real), critic(*fake))
        more = [
            each.generator(critic, real=real, fake=score(critic, fake, classifies=game.classifies))
            for each in game.terms
        ]
        learn(generator_optimizer, game.loss.generator(logits), more)
        average(gan, len(labels))

    return step


def unfused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    settings = {key: value for key, value in optimizer.defaults.items() if key != "fused"}
    return type(optimizer)(optimizer.param_groups[0]["params"], **settings)


def asked(gan: ConditionalGAN, part: Any, **batches: Labelled) -> dict[str, Scored]:
    """The batches, with the discriminator's answers only where ``part`` reads them."""
    reads = {
        "real": getattr(part, "needs", "") == "classify" or getattr(part, "reads", "") == "logits",
        "fake": getattr(part, "fakes", False) or getattr(part, "reads", "") == "logits",
    }
    return {
        name: score(gan.discriminator, batch, classifies=gan.game.classifies)
        if reads[name]
        else Scored(batch, torch.zeros(len(batch.labels)))
        for name, batch in batches.items()
    }


def learn(optimizer: torch.optim.Optimizer, loss: Tensor, more: list[Tensor]) -> None:
    total = sum((each.mean() for each in more), start=loss.mean())
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    print(total.item())


def apart(penalty: Any) -> list[Any]:
    if not isinstance(penalty, ZeroCenteredPair):
        return [penalty]
    return [ZeroCentered(penalty.weight, at="real"), ZeroCentered(penalty.weight, at="fake")]


def project(self: conditioning.Projection, features: Tensor, labels: Tensor) -> Any:
    by_label = (self.embed(labels) * features).sum(dim=1)
    return self.linear(features) + by_label, F.linear(features, self.embed.weight)


def convolve(self: layers.Pointwise, x: Tensor) -> Tensor:
    return F.conv2d(x, self.weight[:, :, None, None], self.bias)


TORCHS_OWN: list[tuple[Any, str, Any]] = [
    (layers.FromImages, "forward", nn.Conv2d.forward),
    (layers.ToImages, "forward", nn.ConvTranspose2d.forward),
    (layers.Pointwise, "forward", convolve),
    (layers.Dropout, "forward", nn.Dropout.forward),
    (conditioning.Projection, "classify", project),
]


@contextmanager
def torchs_layers() -> Iterator[None]:
    with ExitStack() as stack:
        for where, name, replacement in TORCHS_OWN:
            stack.enter_context(patch.object(where, name, replacement))
        yield


def with_torchs_layers(step: Step) -> Step:
    def plain(images: Tensor, labels: Tensor) -> None:
        with torchs_layers():
            step(images, labels)

    return plain


def usual_loader(cfg: DictConfig, datamodule: Any) -> Batches | None:
    size = cfg.model.img_size
    resize = [] if size == datamodule.dataset.size else [transforms.Resize(size)]
    usual = transforms.Compose(
        [*resize, transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]
    )
    dataset = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}.get(
        datamodule.dataset.name
    )
    if dataset is None:
        return None
    images = dataset(cfg.data_dir, train=True, transform=usual)
    return DataLoader(images, batch_size=cfg.datamodule.batch_size, shuffle=True, drop_last=True)


def arms(cfg: DictConfig, steps: int) -> dict[str, Callable[[], float]]:
    datamodule: Any = build_datamodule(cfg)
    datamodule.prepare_data()
    datamodule.setup("fit")
    train, size = datamodule.train_set, cfg.datamodule.batch_size
    usual = usual_loader(cfg, datamodule)
    models = [build_model(cfg) for _ in range(3)]
    bare, bare_usual = map(bare_step, models[:2])
    first = with_torchs_layers(first_step(models[2]))

    def batches() -> Batches:
        return islice(in_memory(train.images, train.labels, size), steps)

    return {
        "fit": lambda: time_fit(cfg, steps),
        "bare": lambda: time_loop(batches(), bare),
        "loader": lambda: time_loop(islice(usual, steps) if usual else batches(), bare_usual),
        "first": lambda: time_loop(batches(), first),
    }


def race(each: dict[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in each}
    for number in range(-1, rounds):  # the first round warms up
        for name, run in each.items():
            with redirect_stdout(Path(os.devnull).open("w")):
                elapsed_s = run()
            if number >= 0:
                seconds[name].append(elapsed_s)
    return seconds


def report(cfg: DictConfig, seconds: dict[str, list[float]], steps: int) -> None:
    batch = cfg.datamodule.batch_size
    print("arm      ms/step  images/s  fit is .. times as fast (median of rounds, range)")
    for name, each in seconds.items():
        step_s = statistics.median(each) / steps
        ratios = [other / fit for other, fit in zip(each, seconds["fit"], strict=True)]
        print(
            f"{name:7} {1e3 * step_s:8.2f} {batch / step_s:9,.0f}"
            f"  {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    ratios = [a / b for a, b in zip(seconds["first"], seconds["bare"], strict=True)]
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"bare is {statistics.median(ratios):.2f} times as fast as first "
          f"({min(ratios):.2f} to {max(ratios):.2f}); {peak_gib:.2f} GiB at most")  # fmt: skip


def profile(each: dict[str, Callable[[], float]]) -> None:
    for name in ("bare", "first"):
        with redirect_stdout(Path(os.devnull).open("w")):
            each[name]()
            with torch.profiler.profile() as profiler:
                each[name]()
        table = profiler.key_averages().table(
            sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40
        )
        print(name, "\n".join(line[:110] for line in table.splitlines()), sep="\n")


def measure(experiment: str, options: argparse.Namespace, overrides: Sequence[str]) -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        cfg = compose_in(
            Path(folder), f"experiment={experiment}", "logger=csv", "callbacks=none",
            "ignore_warnings=true", f"data_dir={Path.cwd() / 'data'}", *overrides,
        )  # fmt: skip
        if "discriminator" not in cfg.model:
            raise SystemExit(f"{experiment} is no GAN, and this compares loops that train GANs")
        period = cfg.model.discriminator_steps
        steps = math.ceil(options.steps / period) * period  # as many of the generator's in each arm
        print(f"\n{experiment}, {steps} batches of {cfg.datamodule.batch_size}")
        each = arms(cfg, steps)
        if options.profile:
            profile(each)
        else:
            report(cfg, race(each, rounds=options.rounds), steps)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--experiments", nargs="+", default=["train_mnist_gan"])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    options, overrides = parser.parse_known_args()
    print(f"{options.rounds} rounds, {torch.get_num_threads()} threads, torch {torch.__version__}")
    sys.stdout.flush()
    for experiment in options.experiments:  # in a process of its own, for its peak memory
        process = get_context("spawn").Process(
            target=measure, args=(experiment, options, overrides)
        )
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)


if __name__ == "__main__":
    main()
