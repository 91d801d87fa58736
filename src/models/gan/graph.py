"""The GAN's step as one CUDA graph: captured once, then replayed without Python."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from src.errors import InputError
from src.images import Labelled
from src.models.gan.model import ConditionalGAN
from src.models.generative import Losses

Outputs = dict[str, Tensor]
WARM_UP = 3  # calls: torch's advice, so that libraries have chosen their kernels


class Graphed:
    """Calls ``function`` as it is, on a side stream, before it captures and replays it.

    A capture executes nothing, so that every call has the function's effects once. Inputs are
    copied into memory that the graph reads. A graph freezes all else that Python computes: where
    shapes or ``frozen``, which the caller names, differ from the last call's, all starts over.
    What the function draws from the device's default generator follows the seed at each replay.
    """

    def __init__(self, function: Callable[..., Outputs]) -> None:
        self.function = function
        self.stream = torch.cuda.Stream()
        self.key: Any = None
        self.calls = 0
        self.inputs: list[Tensor] = []
        self.outputs: Outputs = {}
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor, frozen: Any = None) -> Outputs:
        key = [value.shape for value in inputs], frozen
        if key != self.key:
            self.key, self.calls, self.graph = key, 0, None
            self.inputs = [torch.empty_like(value, device=inputs[0].device) for value in inputs]
        for own, new in zip(self.inputs, inputs, strict=True):
            own.copy_(new, non_blocking=True)
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.warm_up()
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.outputs = self.run()
        self.graph.replay()
        return {name: value.clone() for name, value in self.outputs.items()}  # of this call

    def warm_up(self) -> Outputs:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            outputs = self.run()
        torch.cuda.current_stream().wait_stream(self.stream)
        return outputs

    def run(self) -> Outputs:
        device = self.inputs[0].device.type
        autocast = torch.is_autocast_enabled(device)
        # A weight's low-precision copy in autocast's cache would be frozen with its first value.
        with torch.autocast(device, enabled=autocast, cache_enabled=False):
            return self.function(*self.inputs)


@contextmanager
def reading_rates(optimizers: Sequence[Optimizer], rates: Sequence[Tensor]) -> Iterator[None]:
    """Let each optimizer read its learning rate from a tensor, and start without gradients."""
    groups = [optimizer.param_groups[0] for optimizer in optimizers]
    usual = [{key: group[key] for key in ("lr", "capturable")} for group in groups]
    for optimizer in optimizers:
        optimizer.zero_grad()  # backward then makes gradients in the graph's own memory
    for group, rate in zip(groups, rates, strict=True):
        group.update(lr=rate, capturable=True)
    try:
        yield
    finally:
        for group, before in zip(groups, usual, strict=True):
            group.update(before)


class GraphedGAN(ConditionalGAN):
    """A conditional GAN on one GPU, each of whose steps is one CUDA graph.

    Learning rates, gamma, the generator's share in its average and the probability of augmentations
    become float32 on the device.
    While ``beta2`` changes, steps run as without a graph.
    """

    @override
    def on_fit_start(self) -> None:
        require_graph_support(
            self.device,
            n_devices=self.trainer.world_size,
            discriminator_steps=self.batches_per_step,
            optimizers=self.trainer.optimizers,
        )
        self.graphed = Graphed(self.play_from_memory)

    @override
    def play(
        self,
        real: Labelled,
        latents: Tensor,
        labels: Tensor,
        *,
        gamma: float | Tensor,
        ema_share: float | Tensor,
        augment_p: float | Tensor | None,
        trains_generator: bool,
    ) -> Losses:
        groups = [optimizer.param_groups[0] for optimizer in self.trainer.optimizers]
        rates = [group["lr"] for group in groups]
        numbers = torch.tensor([*rates, gamma, ema_share, 1.0 if augment_p is None else augment_p])
        steps, betas = self.trainer.global_step, [group["betas"] for group in groups]
        losses = self.graphed(*real, latents, labels, numbers, frozen=betas)
        if self.trainer.global_step == steps:  # Lightning counts what Python runs
            self.counted_optimizer._on_before_step()
            self.counted_optimizer._on_after_step()
        return losses

    def play_from_memory(self, *tensors: Tensor) -> Losses:
        """Take the steps of ``play`` with all that changes in tensors that can be refilled."""
        images, real_labels, latents, labels, numbers = tensors
        *rates, gamma, ema_share, augment_p = numbers.unbind()
        with reading_rates(self.trainer.optimizers, rates):
            return super().play(
                Labelled(images, real_labels),
                latents,
                labels,
                gamma=gamma,
                ema_share=ema_share,
                augment_p=augment_p if self.augments_by_chance else None,
                trains_generator=True,
            )


def require_graph_support(
    device: torch.device,
    *,
    n_devices: int,
    discriminator_steps: int,
    optimizers: Sequence[Optimizer],
) -> None:
    """Refuse settings whose steps cannot become one CUDA graph.

    Raises:
        InputError: naming the first need that is not met.
    """
    groups = [optimizer.param_groups[0] for optimizer in optimizers]
    fused = all(group.get("fused") and "betas" in group for group in groups)
    needs = {
        "a CUDA GPU: type trainer.gpus=1": device.type == "cuda",
        "a single device: type trainer.gpus=1": n_devices == 1,
        "model.discriminator_steps=1: type that": discriminator_steps == 1,
        "Adams with fused=true: type that": fused,
    }
    for need, is_met in needs.items():
        if not is_met:
            raise InputError(
                f"a GAN as a CUDA graph needs {need}, or "
                "model._target_=src.models.gan.model.ConditionalGAN"
            )
