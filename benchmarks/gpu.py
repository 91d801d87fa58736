"""Training speed on one CUDA GPU: eager, compiled and as a CUDA graph.

    python benchmarks/gpu.py [--steps 300] [--rounds 3] [OVERRIDE ...]

Each arm is ``Trainer.fit`` of a newly built GAN on synthetic images, in float32 and with bfloat16,
with weights channels-last or not; the first steps, in which it compiles or captures, are not timed.
The arms take turns, and medians over rounds are reported. Without OVERRIDE, the residual pair with
R1 + R2 is trained in batches of 512.

- eager: as without any option
- compiled: the generator's forward pass; penalties differentiate the discriminator's twice, which
  torch.compile cannot
- graphed: each step as one CUDA graph

The share of the chip's peak is that of the FLOPs of matrix products and convolutions which torch
counts in one eager step; with bfloat16, penalties still compute in float32.
"""

import argparse
import logging
import statistics
import sys
import tempfile
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.configuration.build import build_datamodule, build_model
from src.configuration.prepare import compose_in
from src.models.generative import GenerativeModel

SKIPPED = 50  # steps
EAGER, GRAPHED = "src.models.gan.model.ConditionalGAN", "src.models.gan.graph.GraphedGAN"
PRECISIONS = "32-true", "bf16-mixed"
PEAK_TFLOPS = 67.0, 989.0  # of H100 and H200 SXM in these precisions, dense (data sheets)
USUAL = [
    "model/generator=resnet", "model/discriminator=resnet", "model/loss=relativistic",
    "model/penalties=r1_r2", "model.ema_halflife_images=50_000", "datamodule.batch_size=512",
]  # fmt: skip


class Stopwatch(pl.Callback):
    """Seconds for the steps after the first ``SKIPPED``, until the GPU has finished them."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == SKIPPED:
            torch.cuda.synchronize()
            self.started_at = perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.cuda.synchronize()
        self.elapsed_s = perf_counter() - self.started_at


class FlopCount(pl.Callback):
    """FLOPs of the steps, backward passes too."""

    def on_train_batch_start(self, *_: Any) -> None:
        self.counter = FlopCounterMode(display=False)
        self.counter.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        self.counter.__exit__(None, None, None)
        self.flops = self.counter.get_total_flops()


def fit(gan: GenerativeModel, data: Any, callback: pl.Callback, **trainer: Any) -> None:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False}
    quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
    options = quiet | {"max_epochs": -1, "limit_val_batches": 0, "devices": 1} | trainer
    pl.Trainer(callbacks=[callback], **options).fit(gan, data)


def count_flops(gan: GenerativeModel, data: Any, *, accelerator: str = "gpu") -> int:
    """Of one step of both players, by a batch of ``data``."""
    count = FlopCount()
    fit(gan, data, count, max_steps=1, accelerator=accelerator)
    return count.flops


def time_step(cfg: Any, steps: int, way: str, precision: str, *, channels_last: bool) -> float:
    """Seconds."""
    cfg.model._target_ = GRAPHED if way == "graphed" else EAGER
    gan, watch = build_model(cfg), Stopwatch()
    if channels_last:
        gan.to(memory_format=torch.channels_last)
    if way == "compiled":
        gan.generator.compile()
    options = {"max_steps": SKIPPED + steps, "precision": precision, "accelerator": "gpu"}
    fit(gan, build_datamodule(cfg), watch, **options)
    return watch.elapsed_s / steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peaks", type=float, nargs=2, default=PEAK_TFLOPS, metavar="TFLOPS",
                        help="of this GPU, in float32 and with bfloat16")  # fmt: skip
    options, overrides = parser.parse_known_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a CUDA GPU, and this machine has none")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        data = "datamodule=synthetic", "datamodule.train_val_test_split=[51200,1000,1000]"
        cfg = compose_in(Path(folder), *data, "ignore_warnings=true", *(overrides or USUAL))
        flops = count_flops(build_model(cfg), build_datamodule(cfg))
        arms = list(product(("eager", "compiled", "graphed"), PRECISIONS, (False, True)))
        seconds: dict[Any, list[float]] = {arm: [] for arm in arms}
        for _, arm in product(range(options.rounds), arms):
            way, precision, channels_last = arm
            seconds[arm].append(
                time_step(cfg, options.steps, way, precision, channels_last=channels_last)
            )
    peaks = dict(zip(PRECISIONS, options.peaks, strict=True))
    batch = cfg.datamodule.batch_size
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, batches of {batch}, "
        f"{flops / 1e9:.2f} GFLOP per step, {options.rounds} rounds of {options.steps} steps"
    )
    print("way       precision   channels-last  ms/step (range)          images/s  share of peak")
    for (way, precision, channels_last), each in seconds.items():
        step_s = statistics.median(each)
        print(
            f"{way:9} {precision:11} {'yes' if channels_last else 'no':13} {1e3 * step_s:8.3f} "
            f"({1e3 * min(each):.3f} to {1e3 * max(each):.3f}) {batch / step_s:11,.0f} "
            f"{flops / step_s / peaks[precision] / 1e12:10.1%}"
        )


if __name__ == "__main__":
    main()
