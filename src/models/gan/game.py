"""The adversarial game: what the discriminator and the generator minimize on one batch."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from src.images import Labelled
from src.models.gan.losses import AdversarialLoss, Logits
from src.models.gan.penalties import Penalty
from src.models.gan.scores import Scored, score, score_together
from src.models.gan.terms import Term

Augmentation = Callable[[Tensor], Tensor]  # images (N, C, H, W) to as many


class Objective(NamedTuple):
    """What a player minimizes, and the adversarial part of it, which is logged; both scalars."""

    total: Tensor
    adversarial: Tensor


class Game:
    """The rules: a loss, penalties of the discriminator, terms of both players, augmentations.

    In both objectives the discriminator sees every image through the augmentations, one after the
    other, and through each with probability ``augment_p``; None is certain. ``scores_together``
    says that it may be asked about real and fake images in one call, as is right unless a logit
    depends on the rest of the batch.
    """

    def __init__(
        self,
        loss: AdversarialLoss,
        *,
        penalties: Mapping[str, Penalty] | None = None,
        terms: Mapping[str, Term] | None = None,
        augmentations: Mapping[str, Augmentation] | None = None,
        scores_together: bool = True,
    ) -> None:
        self.loss = loss
        self.penalties = [*(penalties or {}).values()]
        self.terms = [*(terms or {}).values()]
        self.augmentations = [*(augmentations or {}).values()]
        self.scores_together = scores_together
        reads = {penalty.reads for penalty in self.penalties}
        self.reads_slopes = "slopes" in reads
        self.reads_logits = self.reads_slopes or "logits" in reads
        self.classifies = any(term.needs == "classify" for term in self.terms)

    @property
    def is_paired(self) -> bool:
        """Whether real and fake images are compared in pairs, which then share their labels."""
        parts: list[Any] = [self.loss, *self.penalties, *self.terms]
        return any(part.paired for part in parts)

    def discriminator_objective(
        self,
        discriminator: nn.Module,
        real: Labelled,
        fake: Labelled,
        *,
        gamma: float | Tensor,
        augment_p: float | Tensor | None = None,
    ) -> Objective:
        """What the discriminator minimizes: its loss, penalties times ``gamma``, and terms.

        No gradient goes back to the generator of the fake images.
        """
        real, fake = (self.prepared(batch, augment_p=augment_p) for batch in (real, fake))
        with self.float32_if_read(real.images.device):
            real_scored, fake_scored = self.score_both(discriminator, real, fake)
        logits = Logits(real_scored.logits, fake_scored.logits)
        loss = self.loss.discriminator(logits).mean()
        penalty = gamma * self.penalize(discriminator, real_scored, fake_scored)
        terms = [
            term.discriminator(discriminator, real=real_scored, fake=fake_scored).mean()
            for term in self.terms
        ]
        return Objective(sum(terms, start=loss + penalty), loss.detach())

    def generator_objective(
        self,
        discriminator: nn.Module,
        real: Labelled,
        fake: Labelled,
        *,
        augment_p: float | Tensor | None = None,
    ) -> Objective:
        """What the generator minimizes: its loss and terms, with gradients through fake images."""
        real, fake = (self.augmented(batch, augment_p=augment_p) for batch in (real, fake))
        fake_scored = score(discriminator, fake, classifies=self.classifies)
        logits = Logits(self.real_logits(discriminator, real), fake_scored.logits)
        loss = self.loss.generator(logits).mean()
        terms = [
            term.generator(discriminator, real=real, fake=fake_scored).mean() for term in self.terms
        ]
        return Objective(sum(terms, start=loss), loss.detach())

    def adversarial_losses(
        self, discriminator: nn.Module, real: Labelled, fake: Labelled
    ) -> tuple[Tensor, Tensor]:
        """The generator's and the discriminator's adversarial loss, without augmentations."""
        logits = Logits(*(scored.logits for scored in self.score_both(discriminator, real, fake)))
        return self.loss.generator(logits).mean(), self.loss.discriminator(logits).mean()

    def augmented(self, batch: Labelled, *, augment_p: float | Tensor | None) -> Labelled:
        """The batch as the discriminator is to see it: its images through the augmentations."""
        images = batch.images
        for augmentation in self.augmentations:
            changed = augmentation(images)
            if augment_p is not None:
                is_changed = torch.rand_like(images[:, :1, :1, :1]) < augment_p
                changed = torch.where(is_changed, changed, images)
            images = changed
        return Labelled(images, batch.labels)

    def prepared(self, batch: Labelled, *, augment_p: float | Tensor | None) -> Labelled:
        """The augmented batch, detached; its images require gradients if a penalty reads slopes."""
        detached = Labelled(batch.images.detach(), batch.labels)
        images, labels = self.augmented(detached, augment_p=augment_p)
        return Labelled(images.requires_grad_(self.reads_slopes), labels)

    def float32_if_read(self, device: torch.device) -> AbstractContextManager[Any]:
        """A context without autocast where penalties read the logits, which then need float32."""
        return torch.autocast(device.type, enabled=False) if self.reads_logits else nullcontext()

    def score_both(
        self, discriminator: nn.Module, real: Labelled, fake: Labelled
    ) -> tuple[Scored, Scored]:
        """Ask the discriminator about both batches, in one call if it ``scores_together``."""
        if self.scores_together:
            return score_together(discriminator, real, fake, classifies=self.classifies)
        of_real = score(discriminator, real, classifies=self.classifies)
        return of_real, score(discriminator, fake, classifies=self.classifies)

    def real_logits(self, discriminator: nn.Module, real: Labelled) -> Tensor:
        """Logits (N,) of real images for the generator's loss; NaN unless it compares pairs."""
        if not self.loss.paired:
            return torch.full(real.labels.shape, torch.nan, device=real.images.device)
        with torch.no_grad():
            return score(discriminator, real, classifies=self.classifies).logits

    def penalize(self, discriminator: nn.Module, real: Scored, fake: Scored) -> Tensor:
        """Sum of the penalties' means, in float32 whatever the precision of the rest."""
        device = real.logits.device
        total = torch.zeros((), device=device)
        with torch.autocast(device.type, enabled=False):
            for penalty in self.penalties:
                total = total + penalty(discriminator, real=real, fake=fake).mean()
        return total
