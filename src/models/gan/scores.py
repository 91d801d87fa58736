"""What a discriminator says of labelled images."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from src.images import Labelled


class Scored(NamedTuple):
    """A batch of N images with the discriminator's logits (N,) for it.

    Logits are in float32 throughout where a penalty reads them, and images require gradients where
    one reads slopes. Logits (N, K) of the classes are there where a term asks for them.
    """

    batch: Labelled
    logits: Tensor
    class_logits: Tensor | None = None


def score(discriminator: Any, batch: Labelled, *, classifies: bool) -> Scored:
    """Ask the discriminator about a batch; with ``classifies`` about the classes too."""
    if not classifies:
        return Scored(batch, discriminator(*batch).float())
    logits, class_logits = discriminator.classify(*batch)
    return Scored(batch, logits.float(), class_logits.float())


def score_together(
    discriminator: Any, real: Labelled, fake: Labelled, *, classifies: bool
) -> tuple[Scored, Scored]:
    """Ask about two batches of one size in a single call, which is faster than two."""
    images = torch.cat([real.images, fake.images])
    labels = torch.cat([real.labels, fake.labels])
    _, logits, class_logits = score(discriminator, Labelled(images, labels), classifies=classifies)
    of_real, of_fake = logits.chunk(2)
    if class_logits is None:
        return Scored(real, of_real), Scored(fake, of_fake)
    classes_of_real, classes_of_fake = class_logits.chunk(2)
    return Scored(real, of_real, classes_of_real), Scored(fake, of_fake, classes_of_fake)
