"""What players may minimize besides the adversarial loss: real and fake images to values.

``needs`` names the method that a term needs of the discriminator: ``features``, which it calls, or
``classify``, whose answers ``Scored`` holds beside the loss's logits. A ``paired`` term compares
real and fake images of the same labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import InputError
from src.images import Labelled
from src.models.gan.scores import Scored


class Term(Protocol):
    """Both methods return values, per sample (N,) or one, whose mean is added to the loss."""

    paired: ClassVar[bool]
    needs: ClassVar[str]

    def discriminator(self, network: Any, *, real: Scored, fake: Scored) -> Tensor: ...
    def generator(self, network: Any, *, real: Labelled, fake: Scored) -> Tensor: ...


@dataclass(frozen=True)
class FeatureMatching:
    """For the generator: ||mean f(real) - mean f(fake)||^2 (arXiv:1606.03498, section 3.1).

    The discriminator needs ``features(images, labels)`` of shape (N, ...).
    """

    weight: float = 1.0
    paired: ClassVar[bool] = True
    needs: ClassVar[str] = "features"

    def discriminator(self, network: Any, *, real: Scored, fake: Scored) -> Tensor:
        return torch.zeros((), device=real.logits.device)

    def generator(self, network: Any, *, real: Labelled, fake: Scored) -> Tensor:
        with torch.no_grad():
            target = network.features(*real).float().mean(dim=0)
        gap = network.features(*fake.batch).float().mean(dim=0) - target
        return self.weight * gap.square().sum()


@dataclass(frozen=True)
class AuxiliaryClassifier:
    """For both players: the cross-entropy L_C of the labels (AC-GAN, arXiv:1610.09585, section 3).

    Without ``fakes`` the discriminator learns to classify from real images alone. A projection
    classifies with the embedding that also enters its logits; arXiv:2108.09016 calls these two uses
    data matching and label matching, and has an embedding for each.

    The discriminator needs ``classify(images, labels)``, which returns the logits (N,) and logits
    (N, K) of the classes.
    """

    weight: float = 1.0
    fakes: bool = True
    paired: ClassVar[bool] = False
    needs: ClassVar[str] = "classify"

    def discriminator(self, network: Any, *, real: Scored, fake: Scored) -> Tensor:
        return self.misread(real) + self.misread(fake) if self.fakes else self.misread(real)

    def generator(self, network: Any, *, real: Labelled, fake: Scored) -> Tensor:
        return self.misread(fake)

    def misread(self, scored: Scored) -> Tensor:
        """Weighted cross-entropy (N,) of the labels of a batch that was scored with classes."""
        assert scored.class_logits is not None
        labels = scored.batch.labels
        return self.weight * F.cross_entropy(scored.class_logits, labels, reduction="none")


def require_methods(discriminator: nn.Module, terms: Mapping[str, Term]) -> None:
    """Refuse a discriminator without the methods that the terms need.

    Raises:
        InputError: naming the term and the missing method.
    """
    for name, term in terms.items():
        if not callable(getattr(discriminator, term.needs, None)):
            raise InputError(
                f"model.terms.{name} needs a discriminator with a method {term.needs}, which "
                f"{type(discriminator).__name__} is without: choose another with "
                f"model/discriminator=NAME, or type ~model.terms.{name}"
            )
