"""Additional terms against closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import InputError
from src.images import Labelled
from src.models.gan.scores import Scored
from src.models.gan.terms import AuxiliaryClassifier, FeatureMatching, require_methods
from tests.toys import assert_says

N, CLASSES = 6, 4


class Head(nn.Module):
    """Features are images times the weight of their class."""

    def __init__(self) -> None:
        super().__init__()
        self.by_class = nn.Parameter(torch.arange(1.0, CLASSES + 1))

    def features(self, images: Tensor, labels: Tensor) -> Tensor:
        return images * self.by_class[labels].view(-1, 1, 1, 1)

    def classify(self) -> None: ...


def batch(seed: int) -> Scored:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(N, 1, 3, 3, generator=draw).requires_grad_()
    labels = torch.randint(CLASSES, (N,), generator=draw)
    class_logits = torch.randn(N, CLASSES, generator=draw)
    return Scored(Labelled(images, labels), torch.zeros(N), class_logits)


def test_feature_matching_is_the_squared_distance_of_the_mean_features() -> None:
    head, real, fake = Head(), batch(0), batch(1)
    value = FeatureMatching(weight=0.5).generator(head, real=real.batch, fake=fake)
    means = [head.features(*each.batch).mean(dim=0) for each in (real, fake)]
    torch.testing.assert_close(value, 0.5 * (means[0] - means[1]).square().sum())
    (slope,) = torch.autograd.grad(value, fake.batch.images)
    share = head.by_class[fake.batch.labels].view(-1, 1, 1, 1) / N
    torch.testing.assert_close(slope, (means[1] - means[0]) * share)


def test_feature_matching_teaches_the_generator_alone_and_leaves_real_images_alone() -> None:
    head, real, fake = Head(), batch(0), batch(1)
    assert FeatureMatching().discriminator(head, real=real, fake=fake) == 0
    FeatureMatching().generator(head, real=real.batch, fake=fake).backward()
    assert real.batch.images.grad is None
    assert FeatureMatching().generator(head, real=real.batch, fake=real) == 0
    assert FeatureMatching().paired


def test_the_auxiliary_classifier_s_losses_are_cross_entropies() -> None:
    head, real, fake, term = Head(), batch(0), batch(1), AuxiliaryClassifier(weight=3.0)
    of_real, of_fake = (
        3 * F.cross_entropy(each.class_logits, each.batch.labels, reduction="none")
        for each in (real, fake)
    )
    torch.testing.assert_close(term.discriminator(head, real=real, fake=fake), of_real + of_fake)
    torch.testing.assert_close(term.generator(head, real=real.batch, fake=fake), of_fake)
    term = AuxiliaryClassifier(weight=3.0, fakes=False)
    torch.testing.assert_close(term.discriminator(head, real=real, fake=fake), of_real)
    torch.testing.assert_close(term.generator(head, real=real.batch, fake=fake), of_fake)


def test_a_classifier_that_knows_nothing_costs_log_k() -> None:
    blank = batch(0)._replace(class_logits=torch.zeros(N, CLASSES))
    losses = AuxiliaryClassifier().generator(Head(), real=blank.batch, fake=blank)
    torch.testing.assert_close(losses, torch.full((N,), math.log(CLASSES)))


@pytest.mark.parametrize(
    ("term", "method"), [(FeatureMatching(), "features"), (AuxiliaryClassifier(), "classify")]
)
def test_a_discriminator_without_the_method_is_refused(term, method: str) -> None:
    require_methods(Head(), {"extra": term})
    with pytest.raises(InputError) as caught:
        require_methods(nn.Linear(1, 1), {"extra": term})
    assert_says(caught.value, "model.terms.extra", f"method {method}", "Linear")
    assert_says(caught.value, "model/discriminator=NAME", "~model.terms.extra")
