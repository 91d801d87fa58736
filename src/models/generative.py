"""The contract of a model: what callbacks and tasks know of it, whatever its family."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from src.class_names import listed, numbered
from src.errors import InputError
from src.images import Labelled, to_uint8
from src.models.randomness import EVALUATE, TRAIN, random_stream, seed_device
from src.models.schedules import Schedule, set_rates
from src.networks.facts import evaluating

log = logging.getLogger(__name__)
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
Losses = dict[str, Tensor]  # detached scalars, under the names of ``loss_names``


class GenerativeModel(pl.LightningModule):
    """A map from noise and class indices to images, and how it is learned.

    A family says how it learns from a batch (``learn``), what it loses on one (``evaluate``), and
    which network generates (``sampler``): from standard normal noise (N, *noise_shape) and class
    indices (N,) to images (N, C, H, W), -1 being black and 1 white. Its steps are manual, for
    Lightning counts those of the first optimizer that ``self.optimizers()`` wraps:
    ``trainer.global_step``, and with it ``max_steps``, checkpoint intervals and the loggers' axis.

    The randomness of a step is a function of the seed, the rank, the epoch and the batch alone: a
    resumed run repeats it exactly, whatever callbacks draw in between, and every device draws its
    own. ``images_seen`` counts the real images of the counted steps, on all devices. It travels in
    the checkpoint, so that a run may go on with other batches or devices; what a checkpoint has not
    counted is taken for steps like the present ones. ``schedules`` are functions of it: ``lr`` and
    ``beta2`` are set in all optimizers, others are the family's. ``class_names`` travel in the
    checkpoint too, so that generating needs no data; whoever trains sets them.
    """

    loss_names: ClassVar[Mapping[str, str]]  # in logs and in curves; the first is of counted steps
    optimizer_names: ClassVar[tuple[str, ...]]  # learning rates are logged as lr/NAME
    # Options that may change after training; the class of a part may list its own.
    sampling: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        n_classes: int,
        noise_shape: tuple[int, ...],
        batches_per_step: int = 1,
        schedules: Mapping[str, Schedule] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.n_classes, self.noise_shape = n_classes, noise_shape
        self.class_names: Sequence[str] = numbered(n_classes)
        self.batches_per_step = batches_per_step
        self.schedules = dict(schedules or {})
        self.scheduled: dict[str, float] = {}  # their values in this step
        self.seed = seed
        self.images_seen: int | None = 0

    @property
    @abstractmethod
    def sampler(self) -> nn.Module:
        """The network to generate with, such as an average of the trained one."""

    @property
    def n_evaluations(self) -> int:
        """How often a network is called to generate an image."""
        return 1

    @abstractmethod
    def learn(self, real: Labelled, *, completes_step: bool) -> Losses:
        """Take an optimizer's step on a batch and return its losses.

        ``completes_step`` marks the last of ``batches_per_step``, which ends a counted step.
        """

    @abstractmethod
    def evaluate(self, real: Labelled) -> Losses:
        """Return all losses on a batch, and learn nothing from it."""

    def generate(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Map noise (N, *noise_shape) and class indices (N,) to uint8 images (N, C, H, W).

        Noise is drawn on the CPU, where the images are too, so that equal noise gives equal images
        whatever the device draws.
        """
        sampler = self.sampler
        with evaluating(sampler):
            return to_uint8(sampler(noise.to(self.device), labels.to(self.device))).cpu()

    def reconstruct(self, real: Labelled) -> Tensor:
        """Encode images in [-1, 1] and decode them again, to uint8 images of the same shape.

        Raises:
            InputError: if the family has no encoder.
        """
        raise InputError(
            f"reconstruct needs an encoder, and {type(self).__name__} has none: use a checkpoint "
            "of model=vae, or leave reconstruct out"
        )

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise (n, *noise_shape) on the CPU."""
        return torch.randn(n, *self.noise_shape, generator=generator)

    @classmethod
    def load_from_checkpoint(cls, *_: Any, **__: Any) -> NoReturn:
        """Lightning's way, which cannot build the parts of a model from their options.

        Raises:
            InputError: always, with what to call instead.
        """
        raise InputError(
            "a model is built from the options in its checkpoint: call load_model(PATH) of "
            "src.generate, with a checkpoint or a run folder"
        )

    @override
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Losses:
        when = self.current_epoch, batch_idx
        seed_device(self.device, random_stream(self.seed, TRAIN, self.global_rank, *when))
        n_images = self.images_per_step(len(batch[1]))
        if self.images_seen is None:
            self.images_seen = self.trainer.global_step * n_images
        self.follow_schedules(self.images_seen)
        completes_step = (batch_idx + 1) % self.batches_per_step == 0
        losses = self.learn(Labelled(*batch), completes_step=completes_step)
        self.images_seen += n_images if completes_step else 0
        return losses

    @override
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Losses:
        """Return all losses on a batch, with the same random numbers in every epoch."""
        seed_device(self.device, random_stream(self.seed, EVALUATE, self.global_rank, batch_idx))
        return self.evaluate(Labelled(*batch))

    @override
    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Losses:
        return self.validation_step(batch, batch_idx)

    def images_per_step(self, batch_size: int) -> int:
        """Number of real images that all devices together take for one counted step."""
        return batch_size * self.batches_per_step * self.trainer.world_size

    def follow_schedules(self, n_images: int) -> None:
        """Set what the schedules change once ``n_images`` real images have been seen."""
        if not self.schedules:
            return
        self.scheduled = {name: schedule(n_images) for name, schedule in self.schedules.items()}
        for optimizer in self.trainer.optimizers:
            set_rates(optimizer, self.scheduled)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["images_seen"] = self.images_seen
        checkpoint["class_names"] = [*self.class_names]

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.images_seen = checkpoint.get("images_seen")
        if (names := checkpoint.get("class_names", self.class_names)) != [*self.class_names]:
            said = "the checkpoint was trained on the classes %s: they go on as %s"
            log.warning(said, listed(names), listed(self.class_names))
