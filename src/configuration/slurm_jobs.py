"""How a sweep learns of its jobs on SLURM that end without a word, and goes on with the others.

Submitit asks the accounting, which many clusters have not, and raises at the first such job.
"""

import shutil
import subprocess
import time
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from submitit.core.utils import FailedJobError, UncompletedJobError
from submitit.slurm import slurm
from typing_extensions import override

from src.configuration.command_line import JobError
from src.errors import InputError
from src.reports.terminal import command
from src.runs.folders import RECORD

ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "TIMEOUT", "FORGOTTEN",
)  # fmt: skip


class LostJobs(Callback):
    """Has submitit ask the queue of SLURM, and wait for all jobs, whatever becomes of one."""

    @override
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if shutil.which("sbatch") is None:
            raise InputError(
                "hydra/launcher=slurm finds no sbatch here: type it on a host of the cluster, or "
                "hydra/launcher=parallel for this machine"
            )
        slurm.SlurmJob = slurm.SlurmExecutor.job_class = QueuedJob  # type: ignore[misc]


class QueueWatcher(slurm.SlurmInfoWatcher):
    """Reads states from squeue; a job that it no longer lists has ended some time ago."""

    @override
    def update(self) -> None:
        waited = self._registered - self._finished
        numbers = sorted({job.partition("_")[0] for job in waited})
        self._last_status_check = time.time()
        states = states_of(numbers) if numbers else None
        if states is None:
            return
        self._info_dict |= {job: {"State": states.get(job, "FORGOTTEN")} for job in waited}
        self._finished |= {job for job in waited if self.is_done(job, mode="cache")}

    @override
    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        return self.get_state(job_id, mode=mode) in ENDED


def states_of(numbers: list[str]) -> dict[str, str] | None:
    """The states of all jobs with these numbers that squeue lists; None if it does not answer."""
    asked = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T"]
    answer = subprocess.run(
        [*asked, f"--jobs={','.join(numbers)}"], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
        return None
    return dict(line.split(maxsplit=1) for line in answer.stdout.splitlines())


class QueuedJob(slurm.SlurmJob[Any]):
    """A job whose end without a result is a result: that it failed."""

    watcher = QueueWatcher(delay_s=30)

    @override
    def results(self) -> list[Any]:
        try:
            return super().results()
        except (UncompletedJobError, FailedJobError):
            lost = JobReturn(status=JobStatus.FAILED)
            lost.return_value = JobError(self.loss())
            return [lost]

    def loss(self) -> str:
        """Say how the job ended, where its log is, and what to type."""
        number = self.submission().args[2]  # in the sweep
        run = self.paths.folder.parents[1] / str(number)
        return (
            f"job {number}: SLURM's job {self.job_id} has left no result ({self.state}): see "
            f"{self.paths.stderr}"
            + (f", and go on with {command(resume=run)}" if (run / RECORD).is_file() else "")
        )
