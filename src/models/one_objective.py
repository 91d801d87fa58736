"""Models of one network that one optimizer trains on one objective, such as flows and VAEs."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from src.images import Labelled
from src.models.ema import EMA
from src.models.generative import GenerativeModel, Losses, MakeOptimizer
from src.models.schedules import Schedule


class OneObjective(GenerativeModel):
    """A network, its average, and an objective that the network minimizes.

    The average of the weights, which is what generates, halves a weight's share every
    ``ema_halflife_images``; validation evaluates it too.
    """

    optimizer_names: ClassVar[tuple[str, ...]] = ("network",)

    def __init__(
        self,
        network: nn.Module,
        *,
        optimizer: MakeOptimizer,
        ema_halflife_images: float,
        n_classes: int,
        noise_shape: tuple[int, ...],
        schedules: Mapping[str, Schedule] | None,
        seed: int,
    ) -> None:
        super().__init__(
            n_classes=n_classes,
            noise_shape=noise_shape,
            schedules=schedules,
            seed=seed,
        )
        self.network, self.make_optimizer = network, optimizer
        self.average = EMA(network, halflife_images=ema_halflife_images)

    @abstractmethod
    def objective(self, network: nn.Module, real: Labelled) -> tuple[Tensor, Losses]:
        """Return what ``network`` is to minimize on a batch, and its losses."""

    @override
    def configure_optimizers(self) -> Optimizer:
        return self.make_optimizer(self.network.parameters())

    @override
    def learn(self, real: Labelled, *, completes_step: bool) -> Losses:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        objective, losses = self.objective(self.network, real)
        self.manual_backward(objective)
        optimizer.step()
        n_images = self.images_per_step(len(real.labels))
        share = self.average.share(seen=self.images_seen or 0, n_images=n_images)
        self.average.move(self.network, share)
        return {name: loss.detach() for name, loss in losses.items()}

    @override
    def evaluate(self, real: Labelled) -> Losses:
        return self.objective(self.average, real)[1]
