"""Jobs on a real SLURM of two nodes: one folder, and the same bits whatever interrupts them.

Skipped where there is none: apt-get install slurm-wlm munge.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from src.compare import expanded
from tests.pages import ROOT
from tests.slurm import asked, is_there, show, slurm, start_again, wait_for
from tests.toys import SMALL, assert_same_bits, finish, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_there(), reason="there is no slurmctld, or no root to start it"),
]

RUN = [
    *SMALL, "+callbacks.pause._target_=tests.pause.Pause", "callbacks.pause.folder=${run_dir}",
    "callbacks.pause.end=20",
]  # fmt: skip
# By MASTER_ADDR=127.0.0.1, for nodes of one machine have no names.
TWO_NODES = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=2"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.partition=low", "hydra.launcher.cpus_per_task=1"]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    pytest.importorskip("submitit")
    with slurm(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep whose job 1 is told to save, queued again and started again."""
    home = tmp_path_factory.mktemp("sweep")
    with start(["-m", *RUN, "callbacks.pause.at=-1,8", "logger=wandb", *SLURM], home) as process:
        try:
            wait_for(lambda: bool([*home.glob("logs/multiruns/*/1/paused")]))
            job = max(asked("squeue", "--noheader", "--array", "--format=%i").split())
            asked("scancel", "--signal=USR2", job)  # as SLURM does before a job's time is over
            start_again(job)
            finish(process)
        finally:
            process.kill()
    (folder,) = (home / "logs" / "multiruns").iterdir()
    return folder


def test_an_array_of_two_has_a_folder_and_a_wandb_run_for_each_job(sweep: Path) -> None:
    assert expanded([str(sweep)]) == [str(sweep / "0"), str(sweep / "1")]
    for job in ("0", "1"):
        wandb = yaml.safe_load((sweep / job / "config.yaml").read_text())["logger"]["wandb"]
        assert (wandb["group"], wandb["name"], wandb["job_type"]) == (sweep.name, job, "train")
    assert len([*(sweep / "0").glob("wandb/offline-run-*")]) == 1
    ids = {path.name.rpartition("-")[2] for path in (sweep / "1").glob("wandb/offline-run-*")}
    assert len(ids) == 1  # of both starts


def test_a_job_that_is_queued_again_ends_with_the_bits_of_its_twin(sweep: Path) -> None:
    assert "saved at step 8, training goes on" in (sweep / "1" / "run.log").read_text()
    assert_same_bits(sweep / "0", sweep / "1", n_steps=32)


def test_a_launched_job_of_two_nodes_ends_with_the_bits_of_one(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    finish(start(["-m", *SMALL, *TWO_NODES, *SLURM], tmp_path))
    (sweep,) = (tmp_path / "logs" / "multiruns").iterdir()
    assert expanded([str(sweep)]) == [str(sweep / "0")]
    assert_same_bits(pair, sweep / "0", n_steps=16)


def test_two_nodes_agree_when_they_save_and_end_with_the_bits_of_one(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    pauses = ["callbacks.pause.at=4", "callbacks.pause.end=10"]
    job = submit([*RUN, *TWO_NODES, *pauses], tmp_path, "--nodes=2")
    run = tmp_path / "logs" / "runs" / "slurm" / job
    wait_for((run / "paused").exists)
    asked("scancel", "--signal=USR1", job)
    start_again(job)
    wait_for(lambda: "JobState=COMPLETED" in show(job))
    assert "saved at step 6, training goes on" in (run / "run.log").read_text()
    assert [path.name for path in run.parent.iterdir()] == [job]
    assert not [*run.glob("hpc_ckpt_*")]
    assert_same_bits(pair, run, n_steps=16)


def test_a_job_that_is_preempted_starts_again_and_ends_with_the_same_bits(
    sweep: Path, tmp_path: Path
) -> None:
    job = submit([*RUN, "callbacks.pause.at=8"], tmp_path)
    run = tmp_path / "logs" / "runs" / "slurm" / job
    wait_for((run / "paused").exists)
    asked("sbatch", "-p", "high", "--nodes=2", "--exclusive", "--output=none", "--wrap=true")
    start_again(job)
    wait_for(lambda: "JobState=COMPLETED" in show(job))
    said = (tmp_path / f"slurm-{job}.out").read_text()
    assert "Restarts=1" in show(job)
    assert "saved at step 8, training goes on" in said
    assert f"SLURM has started this job again: going on in {run}" in said
    assert [path.name for path in run.parent.iterdir()] == [job]
    assert_same_bits(sweep / "0", run, n_steps=32)


def submit(options: list[str], folder: Path, *flags: str) -> str:
    """Submit the sbatch file of docs/clusters.md from ``folder``; returns the job's number."""
    page = (ROOT / "docs" / "clusters.md").read_text()
    (script,) = re.findall(r"```bash\n(#!/bin/bash.*?)```", page, re.S)
    script = script.replace("python run.py", f"{sys.executable} {ROOT / 'run.py'}")
    (folder / "job.sh").write_text(script)
    line = ["sbatch", "--parsable", "--partition=low", "--cpus-per-task=1", *flags, "job.sh"]
    return subprocess.check_output([*line, *options], cwd=folder, text=True).strip()


def test_a_partition_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    said = finish(start(["-m", *SMALL, *SLURM, "hydra.launcher.partition=x"], tmp_path), code=1)
    assert "error: SLURM refuses the jobs (sbatch: error: invalid partition" in said
    assert "Traceback" not in said
