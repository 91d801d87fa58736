"""What choices cost on a CPU: one at a time is changed in an experiment's step, and timed.

    python benchmarks/variants.py [--experiment train_mnist_gan] [--steps 5] [--rounds 5]
        [OVERRIDE ...]

The step is the ``bare`` one of throughput.py. All variants take turns in every round, so that a
noisy machine disturbs all alike, and are fed as many images; each time is divided by that of the
unchanged step in the same round. The first round, in which one of them compiles, is not counted;
``before`` says what it took in addition. At the end, images are generated in torch's inference
mode, as in the project, and with ``no_grad`` instead.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.throughput import bare_step, in_memory, time_loop, torchs_layers
from src.configuration.build import build_datamodule, build_model
from src.configuration.prepare import compose_in
from src.datamodules.batches import InMemoryDataset
from src.models.gan.model import ConditionalGAN

UNCHANGED = "unchanged"
N_GENERATED = 2_000
Timer = Callable[[], float]  # seconds


class Variant(NamedTuple):
    overrides: Sequence[str] = ()
    change: Callable[[ConditionalGAN], Any] = bool  # which changes nothing
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def apart(gan: ConditionalGAN) -> None:
    gan.game.scores_together = False


# The same mathematics, up to rounding.
EQUAL = {
    "one thread": Variant(around=one_thread),
    "Adam not fused": Variant(
        ["model.generator_optimizer.fused=false", "model.discriminator_optimizer.fused=false"]
    ),
    "real and fake in two calls": Variant(change=apart),
    "R1 and R2 in passes of their own": Variant(["model/penalties=[r1,r2]"]),
    "torch's own layers": Variant(around=torchs_layers),
    "weights channels-last": Variant(
        change=lambda gan: gan.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ),
    "generator compiled": Variant(change=lambda gan: gan.generator.compile()),
}
OTHER = {
    "bfloat16, penalties in float32": Variant(
        around=partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    ),
    "finite differences": Variant(["model/penalties=[fd_r1,fd_r2]"]),
    "no penalties": Variant(["model/penalties=none"]),
    "no label matching": Variant(["model/terms=none"]),
    "no hidden layer in the generator": Variant(["model.generator.hidden=0"]),
    "no hidden layer in the discriminator": Variant(["model.discriminator.hidden=0"]),
    **{f"batches of {n}": Variant([f"datamodule.batch_size={n}"]) for n in (32, 128, 256)},
}


def timer(cfg: DictConfig, variant: Variant, data: InMemoryDataset, *, n_images: int) -> Timer:
    gan, batch_size = build_model(cfg), cfg.datamodule.batch_size
    variant.change(gan)
    step = bare_step(gan)

    def run() -> float:
        batches = in_memory(data.images, data.labels, batch_size)
        with variant.around():
            return time_loop(islice(batches, n_images // batch_size), step)

    return run


def generation(gan: ConditionalGAN) -> dict[str, Timer]:
    inputs = torch.randn(N_GENERATED, *gan.noise_shape), torch.arange(N_GENERATED) % gan.n_classes

    def run() -> float:
        return time_loop([inputs], gan.generate)

    def without_gradients() -> float:
        with patch.object(torch, "inference_mode", torch.no_grad):
            return run()

    return {"inference mode": run, "no_grad": without_gradients}


def race(timers: Mapping[str, Timer], *, rounds: int) -> str:
    """A table of times over those of the first; its own are in seconds."""
    first_round, *counted = [
        {name: run() for name, run in timers.items()} for _ in range(rounds + 1)
    ]
    unchanged = next(iter(timers))
    lines = [f"{'':38}times as long (range)     before, s"]
    for name in timers:
        ratios = [each[name] / each[unchanged] for each in counted]
        usual_s = statistics.median(each[name] for each in counted)
        lines.append(
            f"{name:38}{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            f"{max(first_round[name] - usual_s, 0):16.1f}"
        )
    unchanged_s = statistics.median(each[unchanged] for each in counted)
    return "\n".join([*lines, f"{unchanged}: {unchanged_s:.3f} s"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--experiment", default="train_mnist_gan")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    options, overrides = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        compose = partial(
            compose_in, Path(folder), f"experiment={options.experiment}", "ignore_warnings=true",
            f"data_dir={Path.cwd() / 'data'}", *overrides,
        )  # fmt: skip
        cfg = compose()
        datamodule: Any = build_datamodule(cfg)
        datamodule.prepare_data()
        datamodule.setup("fit")
        n_images = options.steps * max(256, cfg.datamodule.batch_size)
        variants = {UNCHANGED: Variant()} | EQUAL | OTHER
        timers = {
            name: timer(
                compose(*variant.overrides), variant, datamodule.train_set, n_images=n_images
            )
            for name, variant in variants.items()
        }
    print(
        f"{options.experiment}, {n_images:,} images in batches of {cfg.datamodule.batch_size}, "
        f"{options.rounds} rounds, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(race(timers, rounds=options.rounds))
    print(f"\n{N_GENERATED:,} images generated")
    print(race(generation(build_model(cfg)), rounds=options.rounds))


if __name__ == "__main__":
    main()
