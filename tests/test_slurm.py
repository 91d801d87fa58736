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
from tests.toys import finish, last_checkpoint, same, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_there(), reason="there is no slurmctld, or no root to start it"),
]

RUN = [
    "datamodule=synthetic", "model=small_gan", "print_config=false", "trainer.max_epochs=2",
    "test_after_training=false", "trainer.log_every_n_steps=3", "~callbacks.sample_grid",
    "+callbacks.pause._target_=tests.pause.Pause", "callbacks.pause.folder=${run_dir}",
    "callbacks.pause.end=20", "threads=1",
]  # fmt: skip
LAUNCHER = [
    "hydra/launcher=slurm",
    "hydra.launcher.partition=low",
    "hydra.launcher.cpus_per_task=1",
]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    pytest.importorskip("submitit")
    with slurm(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep whose job 1 is told to save, queued again and started again."""
    home = tmp_path_factory.mktemp("sweep")
    line = ["-m", *RUN, "callbacks.pause.at=-1,8", "logger=wandb", *LAUNCHER]
    process = start(line, home)
    wait_for(lambda: bool([*home.glob("logs/multiruns/*/1/paused_at_8")]))
    job = next(
        name for name in asked("squeue", "-h", "--array", "-o", "%i").split() if "_1" in name
    )
    asked("scancel", "--signal=USR2", job)
    start_again(job)
    finish(process)
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
    assert_same_bits(sweep / "0", sweep / "1")


def assert_same_bits(run: Path, other: Path) -> None:
    whole, pieces = last_checkpoint(run), last_checkpoint(other)
    assert pieces["global_step"] == whole["global_step"] == 32
    assert same(pieces["state_dict"], whole["state_dict"])
    assert same(pieces["optimizer_states"], whole["optimizer_states"])


def test_a_job_that_is_preempted_starts_again_and_ends_with_the_same_bits(
    sweep: Path, tmp_path: Path
) -> None:
    job = submit([*RUN, "callbacks.pause.at=8", "logger=csv"], tmp_path)
    run = tmp_path / "logs" / "runs" / "slurm" / job
    wait_for((run / "paused_at_8").exists)
    asked(
        "sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=none", "--wrap=sleep 1"
    )
    start_again(job)
    wait_for(lambda: "JobState=COMPLETED" in show(job))
    assert "Restarts=1" in show(job)
    said = (tmp_path / f"slurm-{job}.out").read_text()
    assert (run / "paused_at_20").exists(), said  # it trained on until it was killed
    assert f"SLURM has started this job again: going on in {run}" in said
    assert [path.name for path in run.parent.iterdir()] == [job]
    assert_same_bits(sweep / "0", run)


def submit(options: list[str], folder: Path) -> str:
    """Submit the sbatch file of docs/clusters.md from ``folder``; returns the job's number."""
    (script,) = re.findall(
        r"```bash\n(#!/bin/bash.*?)```", (ROOT / "docs/clusters.md").read_text(), re.S
    )
    script = script.replace("python run.py", f"{sys.executable} {ROOT / 'run.py'}")
    (folder / "job.sh").write_text(script)
    line = ["sbatch", "--parsable", "--partition=low", "--cpus-per-task=1", "job.sh", *options]
    return subprocess.run(
        line, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()
