"""What SLURM says of this process: which tasks belong together, and whether a job starts again."""

import os


def n_tasks() -> int:
    """The number of processes that srun has started together; 1 where it has not."""
    return int(os.environ["SLURM_NTASKS"]) if "SLURM_STEP_ID" in os.environ else 1


def step_name() -> str:
    """A name for all that one srun starts, which a requeued job finds again; "" without srun."""
    if "SLURM_STEP_ID" not in os.environ:
        return ""
    job, step = os.environ["SLURM_JOB_ID"], os.environ["SLURM_STEP_ID"]
    return job if step == "0" else f"{job}-{step}"


def is_requeued() -> bool:
    """Whether SLURM has started this job before, and stopped it."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
