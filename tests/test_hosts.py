"""One run over two hosts by torchrun, told their ranks or by c10d: it equals one host's run.

Skipped without the rights to make hosts: root, and iproute2.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.runs.folders import RECORD
from tests.hosts import Host, are_there, two_hosts
from tests.slurm import wait_for
from tests.toys import SMALL, assert_same_bits, finish

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not are_there(), reason="this user cannot make hosts of namespaces"),
]
OVER_TWO = [
    *SMALL, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=2",
]  # fmt: skip
BOUND_S = 400  # torch itself waits for half an hour


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Anew for each test, for they end with all that was started there."""
    with two_hosts() as hosts:
        yield hosts


def test_two_hosts_equal_one_to_the_bit_and_leave_one_folder(
    hosts: tuple[Host, Host], pair: Path, tmp_path: Path
) -> None:
    processes = [host.torchrun(OVER_TWO, tmp_path) for host in hosts]
    for process in processes:
        finish(process)
    (run,) = tmp_path.glob("logs/runs/*/*")
    assert_same_bits(pair, run, n_steps=16)


def test_a_host_that_dies_ends_the_other_with_what_to_type(
    hosts: tuple[Host, Host], pair: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pause = ["+callbacks.pause._target_=tests.pause.Pause", "callbacks.pause.folder=${run_dir}"]
    options = [*OVER_TWO, *pause, "callbacks.pause.at=12", "callbacks.pause.end=-1"]
    first, second = (host.torchrun([*options, f"hydra.run.dir={run}"], tmp_path) for host in hosts)
    wait_for((run / "paused").exists)
    second.kill()
    second.communicate()
    died = time.monotonic()
    (run / "go_on").touch()
    said = finish(first, code=1)
    assert time.monotonic() - died < BOUND_S
    assert "another process of this run has ended, or its host cannot be reached" in said
    assert f"start all again with resume={run}" in said
    for process in [host.c10d([f"resume={run}", f"+{pause[0]}"], tmp_path) for host in hosts]:
        finish(process)
    assert_same_bits(pair, run, n_steps=16)


def test_a_run_that_one_host_lacks_is_one_sentence_on_both(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    homes = [tmp_path / "0", tmp_path / "1"]
    homes[1].mkdir()
    (homes[0] / RECORD).parent.mkdir(parents=True)
    (homes[0] / RECORD).write_text("- seed=3\n")
    began = time.monotonic()
    processes = [hosts[i].torchrun(["resume=."], homes[i]) for i in (0, 1)]
    for process in processes:
        said = finish(process, code=1)
        assert "error: resume=. is not the same run on h1 as on h0: let all hosts share" in said
    assert time.monotonic() - began < BOUND_S
