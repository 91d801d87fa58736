"""Conditional flow matching: images flow out of noise along velocities that a network learns."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from src.errors import InputError
from src.images import Labelled
from src.models.flow.ode import Guidance, Ode, Solver
from src.models.flow.velocity import Velocity
from src.models.generative import Losses, MakeOptimizer
from src.models.one_objective import OneObjective
from src.models.schedules import Rates


class FlowMatching(OneObjective):
    """Conditional rectified flow (arXiv:2209.03003) with classifier-free guidance.

    On straight ways between data at t = 0 and normal noise at t = 1, a network learns the mean of
    noise - data at each point, from points (N, C, H, W), times (N,) and class indices (N,). Class
    ``n_classes`` stands for any: a share ``label_dropout`` of the training images is called that.
    Times are drawn as in Stable Diffusion 3 (arXiv:2403.03206, eq. 19): sigmoids of normal numbers
    around ``time_mean``, and one for each of N equally probable intervals in a batch of N.

    Generation is deterministic: ``solver`` takes ``n_steps``, denser near the noise for a larger
    ``shift``, with ``guidance`` where t is in ``guidance_interval`` (see ``Guidance``).

    Raises:
        InputError: if a number is out of bounds, or guidance has one class only.
    """

    loss_names: ClassVar[Mapping[str, str]] = MappingProxyType({"loss": "squared velocity error"})
    sampling: ClassVar[tuple[str, ...]] = (
        "solver", "n_steps", "shift", "guidance", "guidance_interval",
    )  # fmt: skip

    def __init__(
        self,
        *,
        network: nn.Module,
        optimizer: MakeOptimizer,
        solver: Solver,
        n_classes: int,
        channels: int,
        img_size: int,
        ema_halflife_images: float,
        n_steps: int,
        label_dropout: float = 0.1,
        time_mean: float = 0.0,
        shift: float = 1.0,
        guidance: float = 1.0,
        guidance_interval: Sequence[float] = (0.0, 1.0),
        schedules: Rates | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            Velocity(network, channels=channels),
            optimizer=optimizer,
            ema_halflife_images=ema_halflife_images,
            n_classes=n_classes,
            noise_shape=(channels, img_size, img_size),
            schedules=schedules,  # type: ignore[arg-type]
            seed=seed,
        )
        bounds = {
            "n_steps": (n_steps, 1, 1_000), "shift": (shift, 0.01, 100),
            "guidance": (guidance, 0, 100), "label_dropout": (label_dropout, 0, 0.9),
        }  # fmt: skip
        for name, (value, least, most) in bounds.items():
            if not least <= value <= most:
                raise InputError(
                    f"model.{name}={value} is not allowed: type a number from {least} to {most}"
                )
        if guidance != 1 and label_dropout == 0 and n_classes > 1:
            raise InputError(
                f"model.guidance={guidance} needs a model that has learned without classes too: "
                "type model.guidance=1, or train with model.label_dropout=0.1"
            )
        if guidance != 1 and n_classes == 1:
            raise InputError(
                f"model.guidance={guidance} leads away from other classes, and there is one: type "
                "model.guidance=1"
            )
        interval = [0, *guidance_interval, 1]
        if len(interval) != 4 or interval != sorted(interval):
            raise InputError(
                f"model.guidance_interval={list(guidance_interval)} is not allowed: type two times "
                "from 0 to 1 in their order, as in 'model.guidance_interval=[0.3,0.9]'"
            )
        self.label_dropout, self.time_mean = label_dropout, time_mean
        self.solver, self.n_steps, self.shift = solver, n_steps, shift
        self.guidance = Guidance(guidance, *guidance_interval)

    @override
    def setup(self, stage: str) -> None:
        """Measure the training images; what a checkpoint has measured is restored later.

        Raises:
            InputError: if the datamodule has no ``parts["train"]`` to measure.
        """
        if stage != "fit":
            return
        parts = getattr(self.trainer.datamodule, "parts", {})  # type: ignore[attr-defined]
        if "train" not in parts:
            raise InputError(
                "a flow measures its training images before it learns: give the Trainer a "
                "datamodule whose parts['train'] has them, as InMemoryDataModule's has"
            )
        for velocity in (self.network, self.average.network):
            velocity.measure(parts["train"].images)  # type: ignore[operator]

    @override
    def objective(self, network: nn.Module, real: Labelled) -> tuple[Tensor, Losses]:
        """Return the mean squared error of the velocities at one random point per image."""
        images, labels = real
        if network.training and self.n_classes > 1:
            is_dropped = torch.rand(labels.shape, device=labels.device) < self.label_dropout
            labels = labels.masked_fill(is_dropped, self.n_classes)
        times = self.draw_times(images)
        noise = torch.randn_like(images)
        points = torch.lerp(images, noise, times[:, None, None, None])
        loss = F.mse_loss(network(points, times, labels), noise - images)
        return loss, {"loss": loss}

    def draw_times(self, images: Tensor) -> Tensor:
        """Draw times (N,) between 0 and 1, spread evenly over their distribution."""
        n, device = len(images), images.device
        even = (torch.randperm(n, device=device) + torch.rand(n, device=device)) / n
        return (torch.special.ndtri(even.clamp(1e-6, 1 - 1e-6)) + self.time_mean).sigmoid()

    @property
    @override
    def sampler(self) -> Ode:
        """The averaged network inside the solver; a new object, for the average is always there."""
        return Ode(
            self.average,
            solver=self.solver,
            n_steps=self.n_steps,
            shift=self.shift,
            guidance=self.guidance,
            any_class=self.n_classes,
        )

    @property
    @override
    def n_evaluations(self) -> int:
        return self.sampler.n_evaluations()
