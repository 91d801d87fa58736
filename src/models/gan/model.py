"""The conditional GAN: one adversarial step, and generation."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from src.errors import InputError
from src.images import Labelled, Scored, to_uint8
from src.models.ema import EMA
from src.models.gan.graph import Graphed, reading_rates, require_graph_support
from src.models.gan.losses import AdversarialLoss, Logits
from src.models.gan.penalties import Penalty, require_repeatable
from src.models.gan.terms import Term, require_methods
from src.models.randomness import EVALUATE, TRAIN, random_stream, seed_device
from src.models.schedules import Schedule, set_rates
from src.networks.facts import evaluating, frozen, mixes_samples

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
Augmentation = Callable[[Tensor], Tensor]  # images (N, C, H, W) to as many
Losses = dict[str, Tensor]  # "g_loss", "d_loss": detached scalars


class Pace(NamedTuple):
    """What schedules change, besides the optimizers' numbers."""

    gamma: float | Tensor  # a factor of all penalties
    ema_share: float | Tensor  # of the generator, in its average after a step


class ConditionalGAN(pl.LightningModule):
    """A generator and a discriminator trained against each other.

    Generators map latents (N, Z) and class indices (N,) to images (N, C, H, W), -1 being black
    and 1 white; discriminators map images and class indices to logits (N,).

    ``trainer.global_step`` counts the generator's steps, and so do ``max_steps``, checkpoint
    intervals and the loggers' axis: Lightning counts the optimizer that it wraps, and the
    discriminator's is stepped directly. The randomness of a step is a function of the seed, the
    rank, the epoch and the batch alone: a resumed run repeats it exactly, whatever callbacks draw
    in between, and every device draws its own.

    ``images_seen`` counts the real images of the generator's steps, on all devices. It travels in
    the checkpoint, so that a run may go on with other batches or devices; what a checkpoint has not
    counted is taken for steps like the present ones. ``schedules`` are functions of it: ``lr``,
    ``gamma`` (all penalties) and ``ema_halflife`` multiply what is configured, ``beta2`` replaces
    it.

    ``terms`` join the adversarial loss of each player, and in both steps the discriminator sees
    every image through ``augment``, one after the other.

    With ``cuda_graph`` a whole step is one CUDA graph, for which learning rates, gamma and the
    average's pace become float32 on the device. While ``beta2`` changes, steps run as without.
    """

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
        schedules: Mapping[str, Schedule] | None = None,
        terms: Mapping[str, Term] | None = None,
        augment: Mapping[str, Augmentation] | None = None,
        cuda_graph: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = generator, discriminator
        self.loss, self.penalties = loss, dict(penalties)
        self.make_optimizers = generator_optimizer, discriminator_optimizer
        self.n_classes, self.latent_dim = n_classes, latent_dim
        self.discriminator_steps = discriminator_steps
        self.ema = (
            EMA(generator, halflife_images=ema_halflife_images) if ema_halflife_images else None
        )
        self.schedules = dict(schedules or {})
        self.scheduled: dict[str, float] = {}  # their values in this step
        self.terms, self.augment = dict(terms or {}), dict(augment or {})
        require_methods(discriminator, self.terms)
        require_repeatable(discriminator, self.penalties.values())
        self.cuda_graph = cuda_graph
        self.graphed: Graphed | None = None
        self.seed = seed
        self.images_seen: int | None = 0
        parts: list[Any] = [loss, *self.penalties.values(), *self.terms.values()]
        self.paired = any(part.paired for part in parts)
        self.reads = {penalty.reads for penalty in self.penalties.values()}
        self.classifies = any(term.needs == "classify" for term in self.terms.values())
        self.joint = not mixes_samples(discriminator)
        # Kept, because walking costs 0.1 ms.
        self.discriminator_weights = [w for w in discriminator.parameters() if w.requires_grad]

    @override
    def configure_optimizers(self) -> list[Optimizer]:
        make_generator_optimizer, make_discriminator_optimizer = self.make_optimizers
        return [
            make_generator_optimizer(self.generator.parameters()),
            make_discriminator_optimizer(self.discriminator.parameters()),
        ]

    def players(self, *, use_pl_optimizer: bool = True) -> list[Any]:
        """Optimizers of the generator and the discriminator."""
        return self.optimizers(use_pl_optimizer=use_pl_optimizer)  # type: ignore[return-value]

    @override
    def on_fit_start(self) -> None:
        if self.cuda_graph:
            require_graph_support(
                self.device,
                n_devices=self.trainer.world_size,
                discriminator_steps=self.discriminator_steps,
                optimizers=self.players(use_pl_optimizer=False),
            )
            self.graphed = Graphed(self.adversarial_step_from_memory)

    @override
    def on_train_start(self) -> None:
        n_batches, fast = self.trainer.num_training_batches, self.trainer.fast_dev_run  # type: ignore[attr-defined]
        if n_batches < self.discriminator_steps and not fast:
            raise InputError(
                f"model.discriminator_steps={self.discriminator_steps} is more than the {n_batches}"
                " batches of an epoch, so that the generator would never learn: type "
                f"model.discriminator_steps={n_batches} or less"
            )

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["images_seen"] = self.images_seen

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.images_seen = checkpoint.get("images_seen")

    @override
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Losses:
        when = self.current_epoch, batch_idx
        seed_device(self.device, random_stream(self.seed, TRAIN, self.global_rank, *when))
        images_per_step = self.images_per_step(batch_size=len(batch[1]))
        if self.images_seen is None:
            self.images_seen = self.trainer.global_step * images_per_step
        self.follow_schedules(self.images_seen)
        real, drawn = Labelled(*batch), self.draw_inputs(batch[1])
        pace = self.pace(images_per_step)
        trains_generator = (batch_idx + 1) % self.discriminator_steps == 0
        if self.graphed is not None:
            losses = self.replay(self.graphed, *real, *drawn, pace=pace)
        else:
            losses = self.adversarial_step(
                real, *drawn, pace=pace, trains_generator=trains_generator
            )
        self.images_seen += images_per_step if trains_generator else 0
        return losses

    def adversarial_step(
        self, real: Labelled, latents: Tensor, labels: Tensor, *, pace: Pace, trains_generator: bool
    ) -> Losses:
        """The discriminator's step and, in its turn, the generator's."""
        with torch.set_grad_enabled(trains_generator):
            fake = self.make_fake(latents, labels)
        losses = {"d_loss": self.step_discriminator(real, fake, gamma=pace.gamma)}
        if trains_generator:
            losses["g_loss"] = self.step_generator(real, fake)
            if self.ema is not None:
                self.ema.move(self.generator, pace.ema_share)
        return losses

    def replay(self, graphed: Graphed, *tensors: Tensor, pace: Pace) -> Losses:
        """``adversarial_step`` as a CUDA graph."""
        groups = [each.param_groups[0] for each in self.players(use_pl_optimizer=False)]
        numbers = torch.tensor([*(group["lr"] for group in groups), *pace])
        steps = self.trainer.global_step
        losses = graphed(*tensors, numbers, frozen=[group["betas"] for group in groups])
        if self.trainer.global_step == steps:  # Lightning counts what Python runs
            generator_optimizer = self.players()[0]
            generator_optimizer._on_before_step()
            generator_optimizer._on_after_step()
        return losses

    def adversarial_step_from_memory(self, *tensors: Tensor) -> Losses:
        """``adversarial_step``, with all that changes in memory that can be refilled."""
        images, real_labels, latents, labels, numbers = tensors
        *rates, gamma, ema_share = numbers.unbind()
        real, pace = Labelled(images, real_labels), Pace(gamma, ema_share)
        with reading_rates(self.players(use_pl_optimizer=False), rates):
            return self.adversarial_step(real, latents, labels, pace=pace, trains_generator=True)

    def follow_schedules(self, n_images: int) -> None:
        """Set what changes in training, if anything does."""
        if not self.schedules:
            return
        self.scheduled = {name: schedule(n_images) for name, schedule in self.schedules.items()}
        for optimizer in self.players(use_pl_optimizer=False):
            set_rates(optimizer, self.scheduled)

    def pace(self, images_per_step: int) -> Pace:
        ramp, share = self.scheduled.get("ema_halflife", 1.0), 0.0
        if self.ema is not None:
            share = self.ema.share(n_images=images_per_step, ramp=ramp)
        return Pace(self.scheduled.get("gamma", 1.0), share)

    def images_per_step(self, batch_size: int) -> int:
        """Real images, on all devices, for each step of the generator."""
        return batch_size * self.discriminator_steps * self.trainer.world_size

    def step_discriminator(
        self, real: Labelled, fake: Labelled, *, gamma: float | Tensor
    ) -> Tensor:
        optimizer = self.players(use_pl_optimizer=False)[1]
        real, fake = self.detached(real), self.detached(fake)
        with self.float32_for_penalties():
            scored = self.score_both(real, fake)
        loss = self.loss.discriminator(Logits(*(each.logits for each in scored))).mean()
        optimizer.zero_grad()
        penalty = gamma * self.penalize(*scored)
        terms = [
            each.discriminator(self.discriminator, real=scored[0], fake=scored[1])
            for each in self.terms.values()
        ]
        objective = sum((term.mean() for term in terms), start=loss + penalty)
        # Only the weights': gradients of the images are otherwise computed, and not used.
        self.manual_backward(objective, inputs=self.discriminator_weights)
        optimizer.step()
        return loss.detach()

    def step_generator(self, real: Labelled, fake: Labelled) -> Tensor:
        """Learn from the images that the discriminator has just learned from."""
        optimizer = self.players()[0]
        real, fake = self.augmented(real), self.augmented(fake)
        with frozen(self.discriminator_weights):
            scored = self.score(fake)
            loss = self.loss.generator(self.beside_real(real, scored.logits)).mean()
            terms = [
                each.generator(self.discriminator, real=real, fake=scored)
                for each in self.terms.values()
            ]
            objective = sum((term.mean() for term in terms), start=loss)
            optimizer.zero_grad()
            self.manual_backward(objective)
        optimizer.step()
        return loss.detach()

    def draw_inputs(self, real_labels: Tensor) -> tuple[Tensor, Tensor]:
        """Latents, and labels, which are the real ones only where pairs are compared."""
        labels = real_labels if self.paired else torch.randint_like(real_labels, self.n_classes)
        return torch.randn(len(labels), self.latent_dim, device=labels.device), labels

    def make_fake(self, latents: Tensor, labels: Tensor) -> Labelled:
        return Labelled(self.generator(latents, labels).float(), labels)

    def augmented(self, batch: Labelled) -> Labelled:
        """As the discriminator is to see it."""
        images = batch.images
        for change in self.augment.values():
            images = change(images)
        return Labelled(images, batch.labels)

    def detached(self, batch: Labelled) -> Labelled:
        """Augmented, apart from what made them, with gradients of their own if a penalty wants."""
        images, labels = self.augmented(Labelled(batch.images.detach(), batch.labels))
        return Labelled(images.requires_grad_("slopes" in self.reads), labels)

    def float32_for_penalties(self) -> AbstractContextManager[Any]:
        """Float32 where penalties read the logits: differences and slopes need it."""
        shared = self.reads & {"logits", "slopes"}
        return torch.autocast(self.device.type, enabled=False) if shared else nullcontext()

    def score(self, batch: Labelled) -> Scored:
        discriminator: Any = self.discriminator
        if not self.classifies:
            return Scored(*batch, discriminator(*batch).float())
        return Scored(*batch, *(each.float() for each in discriminator.classify(*batch)))

    def score_both(self, real: Labelled, fake: Labelled) -> tuple[Scored, Scored]:
        """In one call where the discriminator looks at each image alone."""
        if not self.joint:
            return self.score(real), self.score(fake)
        both = self.score(Labelled(*(torch.cat(parts) for parts in zip(real, fake, strict=True))))
        halves = [(None, None) if each is None else each.chunk(2) for each in both[2:]]
        of_real, of_fake = zip(*halves, strict=True)
        return Scored(*real, *of_real), Scored(*fake, *of_fake)

    def beside_real(self, real: Labelled, fake_logits: Tensor) -> Logits:
        """Logits for the generator's step: NaN for the real ones, unless pairs are compared."""
        if not self.loss.paired:
            return Logits(real=torch.full_like(fake_logits, torch.nan), fake=fake_logits)
        with torch.no_grad():
            return Logits(real=self.score(real).logits, fake=fake_logits)

    def penalize(self, real: Scored, fake: Scored) -> Tensor:
        """Sum of the penalties' means, in float32 whatever the precision of the rest."""
        total = torch.zeros((), device=real.images.device)
        with torch.autocast(real.images.device.type, enabled=False):
            for penalty in self.penalties.values():
                total = total + penalty(self.discriminator, real=real, fake=fake).mean()
        return total

    def evaluation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Losses:
        """Both losses without penalties, on the same latents in every epoch."""
        seed_device(self.device, random_stream(self.seed, EVALUATE, self.global_rank, batch_idx))
        real = Labelled(*batch)
        scored = self.score_both(real, self.make_fake(*self.draw_inputs(real.labels)))
        logits = Logits(*(each.logits for each in scored))
        return {
            "g_loss": self.loss.generator(logits).mean(),
            "d_loss": self.loss.discriminator(logits).mean(),
        }

    validation_step = test_step = evaluation_step

    @property
    def sampler(self) -> nn.Module:
        """The network to generate with: the averaged generator where one is kept."""
        return self.generator if self.ema is None else self.ema

    def generate(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Map latents (N, Z) and class indices (N,) to uint8 images (N, C, H, W) on the CPU."""
        with evaluating(self.sampler):
            return to_uint8(self.sampler(latents.to(self.device), labels.to(self.device))).cpu()
