"""The conditional GAN: two networks that learn from each other, step by step."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from src.errors import InputError
from src.images import Labelled
from src.models.ema import EMA
from src.models.gan.game import Augmentation, Game
from src.models.gan.losses import AdversarialLoss
from src.models.gan.penalties import Penalty, require_repeatable
from src.models.gan.terms import Term, require_methods
from src.models.generative import GenerativeModel, Losses, MakeOptimizer
from src.models.schedules import Rates, Schedule
from src.networks.facts import frozen, mixes_samples


class Schedules(Rates, total=False):
    """What may change in training.

    Beside rates, factors of what is configured: ``gamma`` (of all penalties), ``ema_halflife`` and
    ``augment`` (of ``augment_p``).
    """

    gamma: Schedule
    ema_halflife: Schedule
    augment: Schedule


class ConditionalGAN(GenerativeModel):
    """A generator and a discriminator trained against each other.

    Generators map latents (N, Z) and class indices (N,) to images (N, C, H, W), -1 being black
    and 1 white; discriminators map images and class indices to logits (N,). The discriminator
    learns from every batch, the generator from every ``discriminator_steps``-th; Lightning counts
    the generator's steps alone.

    ``terms`` join the adversarial loss of each player, and in both steps the discriminator sees
    every image through ``augment``, one after the other, each with probability ``augment_p``.

    Raises:
        InputError: if the discriminator lacks what a term or a penalty needs of it.
    """

    loss_names: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"g_loss": "generator", "d_loss": "discriminator"}
    )
    optimizer_names: ClassVar[tuple[str, ...]] = ("generator", "discriminator")

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        penalties: Mapping[str, Penalty],
        generator_optimizer: MakeOptimizer,
        discriminator_optimizer: MakeOptimizer,
        n_classes: int,
        latent_dim: int,
        discriminator_steps: int = 1,
        ema_halflife_images: float | None = None,
        schedules: Schedules | None = None,
        terms: Mapping[str, Term] | None = None,
        augment: Mapping[str, Augmentation] | None = None,
        augment_p: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            n_classes=n_classes,
            noise_shape=(latent_dim,),
            batches_per_step=discriminator_steps,
            schedules=schedules,  # type: ignore[arg-type]
            seed=seed,
        )
        require_methods(discriminator, terms or {})
        require_repeatable(discriminator, penalties.values())
        self.generator, self.discriminator = generator, discriminator
        self.game = Game(
            loss,
            penalties=penalties,
            terms=terms,
            augmentations=augment,
            scores_together=not mixes_samples(discriminator),
        )
        self.augment_p = augment_p
        self.make_optimizers = generator_optimizer, discriminator_optimizer
        self.ema = (
            EMA(generator, halflife_images=ema_halflife_images) if ema_halflife_images else None
        )
        # Kept, so that no step has to walk through the networks.
        self.generator_weights = trained(generator)
        self.discriminator_weights = trained(discriminator)

    @override
    def configure_optimizers(self) -> list[Optimizer]:
        make_generator_optimizer, make_discriminator_optimizer = self.make_optimizers
        return [
            make_generator_optimizer(self.generator.parameters()),
            make_discriminator_optimizer(self.discriminator.parameters()),
        ]

    @property
    def counted_optimizer(self) -> Any:
        """The generator's optimizer, wrapped by Lightning, which counts its steps."""
        return self.optimizers()[0]  # type: ignore[index]

    @property
    def discriminator_optimizer(self) -> Optimizer:
        """The discriminator's optimizer without Lightning's wrapper: nobody counts its steps."""
        return self.optimizers(use_pl_optimizer=False)[1]  # type: ignore[index]

    @override
    def on_train_start(self) -> None:
        n_batches, fast = self.trainer.num_training_batches, self.trainer.fast_dev_run  # type: ignore[attr-defined]
        if n_batches < self.batches_per_step and not fast:
            raise InputError(
                f"model.discriminator_steps={self.batches_per_step} is more than the {n_batches}"
                " batches of an epoch, so that the generator would never learn: type "
                f"model.discriminator_steps={n_batches} or less"
            )

    @override
    def learn(self, real: Labelled, *, completes_step: bool) -> Losses:
        gamma = self.scheduled.get("gamma", 1.0)
        ema_share = self.ema_share(self.images_per_step(len(real.labels)))
        augment_p = self.augment_p * self.scheduled.get("augment", 1.0)
        inputs = self.draw_inputs(real.labels)
        return self.play(
            real,
            *inputs,
            gamma=gamma,
            ema_share=ema_share,
            augment_p=augment_p if self.augments_by_chance else None,
            trains_generator=completes_step,
        )

    @property
    def augments_by_chance(self) -> bool:
        """Whether an image may miss an augmentation, now or at another time of the training."""
        return self.augment_p < 1 or "augment" in self.schedules

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
        """Take the discriminator's step and, if it ``trains_generator``, then the generator's.

        Both see the same images; the adversarial losses are returned.
        """
        with torch.set_grad_enabled(trains_generator):
            fake = self.make_fake(latents, labels)
        losses = {"d_loss": self.step_discriminator(real, fake, gamma=gamma, augment_p=augment_p)}
        if trains_generator:
            losses["g_loss"] = self.step_generator(real, fake, augment_p=augment_p)
            if self.ema is not None:
                self.ema.move(self.generator, ema_share)
        return losses

    def step_discriminator(
        self,
        real: Labelled,
        fake: Labelled,
        *,
        gamma: float | Tensor,
        augment_p: float | Tensor | None,
    ) -> Tensor:
        optimizer = self.discriminator_optimizer
        optimizer.zero_grad()
        objective = self.game.discriminator_objective(
            self.discriminator, real, fake, gamma=gamma, augment_p=augment_p
        )
        self.manual_backward(objective.total, inputs=self.discriminator_weights)
        optimizer.step()
        return objective.adversarial

    def step_generator(
        self, real: Labelled, fake: Labelled, *, augment_p: float | Tensor | None
    ) -> Tensor:
        optimizer = self.counted_optimizer
        optimizer.zero_grad()
        with frozen(self.discriminator_weights):  # DDP waits for all weights that are in the graph
            objective = self.game.generator_objective(
                self.discriminator, real, fake, augment_p=augment_p
            )
        self.manual_backward(objective.total, inputs=self.generator_weights)
        optimizer.step()
        return objective.adversarial

    def ema_share(self, n_images: int) -> float:
        """Weight of the generator in its average, if any, after ``n_images`` more images."""
        if self.ema is None:
            return 0.0
        ramp = self.scheduled.get("ema_halflife", 1.0)
        return self.ema.share(seen=self.images_seen or 0, n_images=n_images, ramp=ramp)

    def draw_inputs(self, real_labels: Tensor) -> tuple[Tensor, Tensor]:
        """Draw latents (N, Z) and class indices (N,), the real ones if pairs are compared."""
        is_paired = self.game.is_paired
        labels = real_labels if is_paired else torch.randint_like(real_labels, self.n_classes)
        return torch.randn(len(labels), *self.noise_shape, device=labels.device), labels

    def make_fake(self, latents: Tensor, labels: Tensor) -> Labelled:
        return Labelled(self.generator(latents, labels).float(), labels)

    @override
    def evaluate(self, real: Labelled) -> Losses:
        """Return both adversarial losses, without penalties, terms and augmentations."""
        fake = self.make_fake(*self.draw_inputs(real.labels))
        losses = self.game.adversarial_losses(self.discriminator, real, fake)
        return dict(zip(self.loss_names, losses, strict=True))

    @property
    @override
    def sampler(self) -> nn.Module:
        """The averaged generator where an average is kept, otherwise the generator itself."""
        return self.generator if self.ema is None else self.ema


def trained(network: nn.Module) -> list[nn.Parameter]:
    """The weights of ``network`` that an optimizer moves: those that require gradients."""
    return [weight for weight in network.parameters() if weight.requires_grad]
