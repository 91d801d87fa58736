"""Each way for the class to enter, against its formula."""

import pytest
import torch
from torch import Tensor, nn

from src.networks.conditioning import (
    ClassEmbedding,
    Concatenation,
    ConditionalBatchNorm,
    LabelMap,
    Logit,
    Modulation,
    Projection,
    Unconditional,
)

K = 4
LABELS = torch.tensor([3, 0, 3])


def parts(n_classes: int) -> list[tuple[nn.Module, Tensor]]:
    """Each part, its parameters drawn at random, with something to condition."""
    maps, flat = torch.randn(3, 6, 5, 5), torch.randn(3, 6)
    pairs: list[tuple[nn.Module, Tensor]] = [
        (Concatenation(n_classes=n_classes, width=2), flat),
        (LabelMap(n_classes=n_classes, img_size=5), maps),
        (Modulation(6, n_classes=n_classes), maps),
        (ConditionalBatchNorm(6, n_classes=n_classes), maps),
        (Projection(6, n_classes=n_classes), flat),
    ]
    for part, _ in pairs:
        for weight in part.parameters():
            nn.init.normal_(weight)
    return pairs


@pytest.mark.parametrize(("part", "x"), parts(K), ids=lambda part: type(part).__name__)
def test_changing_a_label_changes_that_sample_and_no_other(part: nn.Module, x: Tensor) -> None:
    changed = part(x, LABELS) != part(x, torch.tensor([3, 2, 3]))
    assert changed.view(3, -1).any(dim=1).tolist() == [False, True, False]


@pytest.mark.parametrize(("part", "x"), parts(1), ids=lambda part: type(part).__name__)
def test_with_one_class_labels_are_ignored_whatever_they_are(part: nn.Module, x: Tensor) -> None:
    assert torch.equal(part(x, LABELS), part(x, torch.tensor([0, 999, 1])))


def test_unconditional_is_the_identity_and_a_logit_ignores_labels() -> None:
    x = torch.randn(3, 6)
    assert Unconditional()(x, LABELS) is x
    logit = Logit(6)
    torch.testing.assert_close(logit(x, LABELS), x @ logit.weight[0] + logit.bias)


def test_concatenation_puts_the_embedding_behind_the_latents() -> None:
    part, latents = Concatenation(n_classes=K, width=2), torch.randn(3, 6)
    joined = part(latents, LABELS)
    assert torch.equal(joined[:, :6], latents)
    assert torch.equal(joined[:, 6:], part.embed.weight[LABELS])


def test_a_label_map_is_the_last_channel() -> None:
    part, images = LabelMap(n_classes=K, img_size=5), torch.randn(3, 2, 5, 5)
    joined = part(images, LABELS)
    assert torch.equal(joined[:, :2], images)
    assert torch.equal(joined[:, 2].flatten(1), part.embed.weight[LABELS])


def test_modulation_is_affine_by_class_and_channel_and_at_first_the_identity() -> None:
    part, x = Modulation(2, n_classes=K), torch.randn(3, 2, 4, 4)
    assert torch.equal(part(x, LABELS), x)
    part.gain.weight.data[3] = torch.tensor([2.0, -1.0])
    part.bias.weight.data[3] = torch.tensor([0.5, 0.0])
    y = part(x, LABELS)
    torch.testing.assert_close(y[0, 0], 2 * x[0, 0] + 0.5)
    torch.testing.assert_close(y[2, 1], -x[2, 1])
    assert torch.equal(y[1], x[1])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("n_classes", [1, K])
def test_conditional_norm_with_equal_gains_is_batch_norm(training: bool, n_classes: int) -> None:
    ours, torchs = ConditionalBatchNorm(6, n_classes=n_classes), nn.BatchNorm2d(6)
    for ours_by_class, theirs in ((ours.gain, torchs.weight), (ours.bias, torchs.bias)):
        nn.init.normal_(theirs)
        ours_by_class.weight.data[:] = theirs.data
    x = 3 * torch.randn(3, 6, 5, 5) + 1
    for _ in range(2):
        torch.testing.assert_close(ours(x, LABELS), torchs(x))
    torch.testing.assert_close(
        ours.train(training)(x, LABELS), torchs.train(training)(x), rtol=1e-5, atol=1e-5
    )


def test_projection_by_hand() -> None:
    part = Projection(2, n_classes=3)
    part.linear.weight.data = torch.tensor([[1.0, -1.0]])
    part.linear.bias.data = torch.tensor([0.5])
    part.embed.weight.data = torch.tensor([[0.0, 0.0], [2.0, 1.0], [-1.0, 3.0]])
    features = torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0]])
    logits = part(features, torch.tensor([0, 1, 2]))
    # psi = h_1 - h_2 + 0.5: -0.5, -0.5, -0.5; <v_y, h>: 0, 4, 9
    assert logits.tolist() == [-0.5, 3.5, 8.5]
    assert part.classify(features, torch.tensor([0, 1, 2]))[1].tolist() == [
        [0, 4, 5], [0, 4, 5], [0, 10, 9],
    ]  # fmt: skip


def test_projection_rows_start_at_a_length_of_one() -> None:
    rows = Projection(1000, n_classes=50).embed.weight
    assert rows.norm(dim=1).mean().item() == pytest.approx(1, rel=0.02)


@pytest.mark.usefixtures("two_threads")
def test_gradients_of_embeddings_are_repeatable_sums() -> None:
    part, features = ClassEmbedding(3, 64), torch.randn(5_000, 64)
    labels = torch.randint(3, (5_000,))
    first, *others = (
        torch.autograd.grad((part(labels) * features).sum(), part.weight)[0] for _ in range(10)
    )
    assert all(torch.equal(first, other) for other in others)
    sums = torch.stack([features[labels == label].sum(dim=0) for label in range(3)])
    torch.testing.assert_close(first, sums, rtol=1e-4, atol=1e-3)
