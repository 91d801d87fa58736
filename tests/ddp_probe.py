"""A callback for real ranks: writes down what each of them saw, drew and averaged."""

from pathlib import Path
from types import MethodType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor


class Probe(pl.Callback):
    """Compares every gradient after backward with the mean of all ranks' own gradients."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.seen: list[Tensor] = []
        self.streams: list[Tensor] = []  # of random numbers, where a step leaves them
        self.errors: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        backward, probe = pl_module.manual_backward, self

        def checked(gan: pl.LightningModule, loss: Tensor, **options: Any) -> None:
            weights = [weight for weight in gan.parameters() if weight.requires_grad]
            slopes = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
            backward(loss, **options)
            for weight, slope in zip(weights, slopes, strict=True):
                if slope is not None:
                    dist.all_reduce(slope)
                    mean = slope / trainer.world_size
                    error = (weight.grad - mean).abs().max() / mean.abs().max().clamp_min(1e-12)
                    probe.errors.append(float(error))

        pl_module.manual_backward = MethodType(checked, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, gan: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.seen.append(batch[0].clone())
        self.streams.append(torch.get_rng_state())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.save(
            {
                "seen": torch.cat(self.seen),
                "streams": torch.stack(self.streams),
                "errors": torch.tensor(self.errors),
                "weights": dict(pl_module.state_dict()),
            },
            self.folder / f"rank_{trainer.global_rank}.pt",
        )
