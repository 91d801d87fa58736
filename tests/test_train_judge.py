"""Judges are kept only where what they say would mean something."""

import pytest
import torch

from src.errors import InputError
from src.train_judge import require_skill, train_judge
from tests.toys import Compose

HALVES = torch.arange(1_000) % 2
UNEVEN = (torch.arange(1_000) < 900).long()


@pytest.mark.parametrize(
    ("labels", "accuracy", "is_useful"),
    [(HALVES, 0.76, True), (HALVES, 0.74, False), (UNEVEN, 0.96, True), (UNEVEN, 0.94, False)],
)
def test_a_judge_is_half_way_from_a_guess_to_all_right(
    labels: torch.Tensor, accuracy: float, is_useful: bool
) -> None:
    if is_useful:
        require_skill("pets", accuracy, labels, n_images=2_062)
    else:
        guess = (
            f"{accuracy:.0%} of unseen ones right, and a guess {labels.bincount().max() / 10:.0f}%"
        )
        with pytest.raises(InputError, match=f"judge of pets.*2,062 images reads {guess}"):
            require_skill("pets", accuracy, labels, n_images=2_062)


def test_one_class_cannot_be_judged(typed: Compose) -> None:
    with pytest.raises(
        InputError, match="judges learn to tell classes apart, and synthetic has one"
    ):
        train_judge(
            typed("task=train_judge", "datamodule=synthetic", "datamodule.dataset.n_classes=1")
        )


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ("700,64,100", "64 validation images are too few.*at least 65"),
        ("700,100,64", "64 test images are too few.*at least 65"),
        ("400,100,100", "the training part has .. images of class .*at least 65 of each class"),
    ],
)
def test_judges_that_no_report_would_ask_are_not_trained(
    typed: Compose, sizes: str, words: str
) -> None:
    split = f"datamodule.train_val_test_split=[{sizes}]"
    with pytest.raises(InputError, match=words):
        train_judge(typed("task=train_judge", "datamodule=synthetic", split))
