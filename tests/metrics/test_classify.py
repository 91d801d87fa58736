"""Training the small classifier: repeatable, shifted as said, and a fair score."""

import pytest
import torch

from src.images import Labelled
from src.metrics.classify import (
    accuracy,
    classification_accuracy_score,
    flipped,
    predict,
    shifted,
    train_classifier,
)
from src.networks.classifier import Classifier
from tests.toys import bars


def halves(n: int) -> Labelled:
    """Bright at the top or at the bottom."""
    labels, random = torch.arange(n) % 2, torch.Generator().manual_seed(n)
    images = torch.randint(60, (n, 1, 28, 28), dtype=torch.uint8, generator=random)
    images[labels == 0, :, :14] += 150
    images[labels == 1, :, 14:] += 150
    return Labelled(images, labels)


@pytest.mark.slow
def test_equal_seeds_give_equal_weights_and_leave_the_random_state() -> None:
    data = halves(256)
    state = torch.get_rng_state()
    first, again, other = (
        train_classifier(data, n_classes=2, epochs=1, seed=seed, shift=1) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.slow
def test_it_learns_what_is_easy_and_is_scored_on_other_images() -> None:
    train, test = halves(768), halves(100)
    assert classification_accuracy_score(train, test, n_classes=2, seed=0) > 0.99
    swapped = train._replace(labels=1 - train.labels)
    assert classification_accuracy_score(swapped, test, n_classes=2, seed=0) < 0.01


@pytest.mark.slow
def test_images_that_carry_no_label_teach_nothing() -> None:
    parts = bars(seed=0).parts
    noise = torch.randint(256, parts["train"].images.shape, dtype=torch.uint8)
    train = parts["train"]._replace(images=noise)
    score = classification_accuracy_score(train, parts["test"], n_classes=10, seed=0)
    assert score < 0.35


def test_probabilities_sum_to_one_and_accuracy_counts_them() -> None:
    network = Classifier(channels=1, n_classes=4).eval()
    images = torch.randint(256, (6, 1, 28, 28), dtype=torch.uint8)
    probabilities = predict(network, images)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(6))
    labels = probabilities.argmax(1)
    labels[:3] = (labels[:3] + 1) % 4
    assert accuracy(network, Labelled(images, labels)) == 0.5


def test_shifts_move_whole_images_by_at_most_what_was_said() -> None:
    torch.manual_seed(0)
    images = torch.zeros(400, 2, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 4], images[:, 1, 4, 3] = 200, 100
    moved = shifted(images, 2)
    _, rows, columns = (moved[:, 0] == 200).nonzero().T
    assert len(rows) == 400
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4, 5, 6}
    assert torch.equal((moved[:, 1] == 100).nonzero()[:, 2], columns - 1)
    assert shifted(images, 0) is images


def test_flips_mirror_whole_images_and_half_of_them() -> None:
    torch.manual_seed(0)
    images = torch.randint(256, (400, 3, 4, 5), dtype=torch.uint8)
    found = flipped(images)
    same, mirrored = ((found == each).flatten(1).all(1) for each in (images, images.flip(3)))
    assert (same ^ mirrored).all()
    assert 150 < int(mirrored.sum()) < 250


def test_what_enters_from_outside_is_black() -> None:
    torch.manual_seed(0)
    moved = shifted(torch.full((50, 1, 5, 5), 255, dtype=torch.uint8), 1)
    assert (moved == 0).flatten(1).any(1).float().mean() > 0.7
    assert set(moved.unique().tolist()) == {0, 255}
