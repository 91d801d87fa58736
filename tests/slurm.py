"""A real SLURM of two nodes on this machine, with daemons, keys and ports of its own."""

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = "slurmctld", "slurmd", "munged", "setpriv", "sbatch"
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd_%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
FirstJobId={first_job}
KillWait=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=2
PartitionName=low Nodes=n[1-2] Default=YES State=UP PriorityTier=1 GraceTime=5 PreemptMode=REQUEUE
PartitionName=high Nodes=n[1-2] State=UP PriorityTier=10 PreemptMode=OFF
"""


def is_there() -> bool:
    return os.geteuid() == 0 and all(map(shutil.which, PROGRAMS))


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """Start it, with what ``folder`` then holds, and end it with all of its jobs."""
    ports = free_ports(3)
    for name in ("state", "spool_n1", "spool_n2"):
        (folder / name).mkdir()
    host, first_job = socket.gethostname().partition(".")[0], random.randrange(1, 50_000)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, ports=ports, folder=folder, first_job=first_job))
    key = folder / "munge.key"
    key.write_bytes(random.randbytes(128))
    key.chmod(0o400)
    os.environ["SLURM_CONF"] = str(conf)
    munged = [
        "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
        *(f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")),
    ]  # fmt: skip
    try:
        with ExitStack() as daemons:
            daemons.enter_context(daemon(munged))
            wait_for((folder / "munge.socket").exists)
            daemons.enter_context(daemon(["slurmctld", "-D", "-i"]))
            for node in ("n1", "n2"):
                daemons.enter_context(daemon(["slurmd", "-D", "-N", node]))
            wait_for(lambda: asked("sinfo", "-h", "-p", "low", "-o", "%D %t") == "2 idle")
            daemons.callback(end_jobs)
            yield
    finally:
        del os.environ["SLURM_CONF"]


@contextmanager
def daemon(line: list[str]) -> Iterator[int]:
    """The number of a process that dies with this one, and after the block at the latest."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *line], stdout=quiet, stderr=quiet, stdin=quiet
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_jobs() -> None:
    for job in asked("squeue", "-h", "-o", "%A").split():
        asked("scancel", job)
        asked("scancel", "--signal=KILL", "--full", job)
    wait_for(lambda: not asked("squeue", "-h"))


def free_ports(n: int) -> list[int]:
    """So many ports in a row that nobody has."""
    while True:
        first = random.randrange(20_000, 30_000)
        try:
            for port in range(first, first + n):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return [*range(first, first + n)]


def asked(*line: str) -> str:
    """What a command of SLURM answers; an empty text where it fails."""
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()


def wait_for(is_so: Callable[[], bool], *, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, (asked("squeue", "--array"), asked("sinfo"))
        time.sleep(0.1)


def start_again(job: str) -> None:
    """Wait until a job is queued again, then spare it the two minutes that SLURM lets pass."""
    wait_for(lambda: "Restarts=1" in (said := show(job)) and "JobState=PENDING" in said)
    asked("scontrol", "update", f"JobId={job}", "StartTime=now")


def show(job: str) -> str:
    return asked("scontrol", "show", "job", job)
