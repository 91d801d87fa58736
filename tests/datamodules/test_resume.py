"""A run that is stopped and resumed trains on the batches that an uninterrupted run would."""

from pathlib import Path

import pytest
import torch

from tests.toys import NUMBERS_BATCHES, Numbers, SaveAt, fit_numbers

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),  # Lightning's own use
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),  # 3.12
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hook", "epoch", "batch", "workers"),
    [
        ("on_train_batch_end", 0, 0, 0),
        ("on_train_batch_end", 1, 2, 0),
        ("on_train_batch_end", 1, 2, 1),  # a worker fetches ahead, so it is the harder case
        ("on_train_batch_end", 1, NUMBERS_BATCHES - 1, 0),
        ("on_validation_end", 1, NUMBERS_BATCHES - 1, 0),
        ("on_train_epoch_end", 1, NUMBERS_BATCHES - 1, 0),
        ("on_train_epoch_end", 1, NUMBERS_BATCHES - 1, 1),
    ],
)
def test_a_resumed_run_sees_the_same_batches(
    tmp_path: Path, hook: str, epoch: int, batch: int, workers: int
) -> None:
    path = tmp_path / "saved.ckpt"
    whole = fit_numbers(SaveAt(path, hook, epoch, batch), workers=workers)
    assert len(whole) == 3 * NUMBERS_BATCHES
    assert fit_numbers(ckpt=path, workers=workers) == whole[epoch * NUMBERS_BATCHES + batch + 1 :]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_sees_the_same_mirror_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    # A picture of one pixel is its own mirror image: here the mirror image is its negative.
    monkeypatch.setattr(Numbers, "flip", True)
    monkeypatch.setattr(torch.Tensor, "flip", lambda images, _: 255 - images)
    path = tmp_path / "saved.ckpt"
    whole = fit_numbers(SaveAt(path, "on_train_batch_end", 1, 2), workers=workers)
    assert fit_numbers(ckpt=path, workers=workers) == whole[NUMBERS_BATCHES + 3 :]
    pixels = [pixel for _, _, batch in whole for pixel in batch]
    assert 0.3 < sum(pixel > 0 for pixel in pixels) / len(pixels) < 0.7


@pytest.mark.parametrize("batch", [0, 2, NUMBERS_BATCHES - 1])
def test_an_interrupted_step_is_repeated(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "saved.ckpt"
    before = fit_numbers(SaveAt(path, "", 0, 0), fail_at=(1, batch))
    assert before + fit_numbers(ckpt=path) == fit_numbers()


def test_resuming_respects_a_limited_epoch(tmp_path: Path) -> None:
    path = tmp_path / "saved.ckpt"
    whole = fit_numbers(SaveAt(path, "on_train_batch_end", 1, 1), limit_train_batches=3)
    assert len(whole) == 9
    assert fit_numbers(ckpt=path, limit_train_batches=3) == whole[5:]


def test_resuming_draws_nothing_from_the_global_random_stream(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    fit_numbers(SaveAt(tmp_path / "saved.ckpt", "on_train_batch_end", 1, 2))
    fit_numbers(ckpt=tmp_path / "saved.ckpt")
    assert torch.equal(torch.get_rng_state(), state)
