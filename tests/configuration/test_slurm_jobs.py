"""Jobs of a sweep on SLURM that end without a word are waited for no longer than they last."""

from pathlib import Path

import pytest

submitit = pytest.importorskip("submitit")

from src.configuration import command_line, slurm_jobs  # noqa: E402
from src.configuration.command_line import JobError  # noqa: E402
from src.runs.folders import RECORD  # noqa: E402


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the squeue of this test prints, and its exit code on the first line."""
    answer = tmp_path / "answer"
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\ntail -n +2 {answer}\nexit $(head -n 1 {answer})\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return answer


def test_a_job_is_done_once_it_has_ended_or_is_forgotten(queue: Path) -> None:
    watcher = slurm_jobs.QueueWatcher()
    for job in ("7_0", "7_1", "7_2", "8"):
        watcher.register_job(job)
    queue.write_text("0\n7_0 RUNNING\n7_1 COMPLETED\n7_2 OUT_OF_MEMORY\n")
    assert [watcher.is_done(job) for job in ("7_0", "7_1", "7_2", "8")] == [False, True, True, True]


def test_a_queue_that_does_not_answer_says_nothing_of_a_job(queue: Path) -> None:
    queue.write_text("1\n")
    assert slurm_jobs.states_of(["7"]) is None
    assert not slurm_jobs.QueueWatcher().is_done("7")


def test_a_job_without_a_result_is_a_failure_that_says_how_to_go_on(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.write_text("0\n7_1 OUT_OF_MEMORY\n")
    folder = tmp_path / "sweep" / ".submitit" / "7_1"
    folder.mkdir(parents=True)
    monkeypatch.setattr(slurm_jobs.QueuedJob, "_results_timeout_s", 0)
    monkeypatch.setattr(command_line, "failures", [])
    job = slurm_jobs.QueuedJob(folder.parent / "%j", "7_1")
    submitit.core.utils.DelayedSubmission(print, [], "hydra.sweep.dir", 1).dump(
        job.paths.submitted_pickle
    )
    (lost,) = job.results()
    with pytest.raises(JobError, match=r"job 1: .* no result \(OUT_OF_MEMORY\): see \S+_log.err$"):
        _ = lost.return_value
    record = tmp_path / "sweep" / "1" / RECORD
    record.parent.mkdir(parents=True)
    record.touch()
    with pytest.raises(JobError, match=r", and go on with python run.py resume=.*sweep/1$"):
        _ = job.results()[0].return_value


def test_a_machine_without_slurm_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(slurm_jobs.InputError, match=r"finds no sbatch here: .*launcher=parallel"):
        slurm_jobs.LostJobs().on_multirun_start(None)
