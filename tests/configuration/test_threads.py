"""Threads: as many as asked for, written down, and few enough for the cores that are free."""

import os
from collections.abc import Iterator

import pytest
import torch

from src.configuration import threads
from src.configuration.threads import doubt
from src.errors import InputError
from tests.toys import Compose, assert_says


@pytest.fixture(autouse=True)
def _own_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch's own choice is four threads, and no variable of the environment has made it."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # so that the end of a test restores it
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "task", ["train", "generate", "evaluate", "compare", "train_judge", "export"]
)
def test_every_task_computes_with_the_threads_that_are_typed(typed: Compose, task: str) -> None:
    assert typed(f"task={task}", "threads=3").threads == torch.get_num_threads() == 3


def test_without_a_number_torch_s_own_is_kept_and_written_down(typed: Compose) -> None:
    assert typed().threads == torch.get_num_threads() == 4
    assert "OMP_NUM_THREADS" not in os.environ


def test_numbers_that_make_processors_slow_are_taken_for_zero(typed: Compose) -> None:
    torch.set_flush_denormal(False)
    tiny = torch.full((64,), 1e-37)
    assert (tiny * 1e-3).max() > 0
    typed()
    assert (tiny * 1e-3).max() == 0


DDP = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


@pytest.mark.parametrize(
    ("arguments", "given", "each"),
    [
        (DDP, None, 2),
        ([*DDP, "trainer.num_nodes=2"], None, 2),
        (DDP, "4", 4),
        ([*DDP, "threads=3"], None, 3),
        ([*DDP, "threads=3"], "4", 3),
        ([*DDP[:2], "trainer.devices=9"], None, 1),
    ],
)
def test_processes_of_one_run_share_the_cores_and_their_children_hear_of_it(
    typed: Compose, monkeypatch: pytest.MonkeyPatch, arguments: list[str], given: str | None,
    each: int,
) -> None:  # fmt: skip
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert typed(*arguments).threads == torch.get_num_threads() == each
    assert os.environ["OMP_NUM_THREADS"] == str(each)


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "all", "true", "1001"])
def test_what_is_no_number_of_threads_is_one_sentence(typed: Compose, number: str) -> None:
    with pytest.raises(InputError, match=rf"(?i)threads={number} is not allowed: type threads="):
        typed(f"threads={number}")


@pytest.mark.parametrize(
    ("arguments", "load", "advice"),
    [
        ([], 0.4, None),
        ([], 0.6, "1 of 4 cores were busy in the last minute: while they are, 4 threads"),
        ([], 0.6, "type threads=3"),
        ([], 57.2, "4 of 4 cores"),
        ([], 57.2, "type threads=1"),
        (["threads=3"], 1.2, None),
        (["threads=3"], 2.2, "type threads=2"),
        (["threads=1"], 57.2, None),
        (DDP, 0.2, None),
        ([*DDP], 1.8, "2 threads wait for each other"),
        ([*DDP], 1.8, "type threads=1"),
        (["threads=8"], 0.2, None),
    ],
)
def test_threads_that_find_too_few_free_cores_are_doubted(
    typed: Compose,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    load: float,
    advice: str | None,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(threads, "process_time", lambda: 0.0)
    said = doubt(typed(*arguments))
    if advice is None:
        assert said is None
    else:
        assert_says(said, advice)


def test_what_this_process_has_done_itself_is_no_reason_for_doubt(
    typed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (4.0, 0.0, 0.0))
    monkeypatch.setattr(threads, "process_time", lambda: 240.0)
    assert doubt(typed()) is None
