"""Two hosts with a network stack and a name each on this machine; they end with their processes."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.slurm import daemon, wait_for
from tests.toys import RUN, start

ADDRESSES = "10.99.0.1", "10.99.0.2"
TORCHRUN = [RUN[0], "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]


@dataclass(frozen=True)
class Host:
    """One of two hosts, whose namespaces a sleeping process holds."""

    rank: int
    holder: int

    def inside(self, *line: str) -> list[str]:
        return ["nsenter", f"--target={self.holder}", "--net", "--uts", "--", *line]

    def start(self, launcher: list[str], options: list[str], folder: Path) -> subprocess.Popen[str]:
        """Run a command there; what it starts dies with it."""
        # gloo's network, and where Lightning's own launcher looks.
        names = {"GLOO_SOCKET_IFNAME": "veth", "NODE_RANK": str(self.rank)}
        names |= {"MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": "29500"}
        env = ["env", *(f"{name}={value}" for name, value in names.items())]
        alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        line = self.inside(*alone, *env, *launcher)
        return start(options, folder, ["setpriv", "--pdeathsig", "KILL", *line])

    def torchrun(self, options: list[str], folder: Path) -> subprocess.Popen[str]:
        """Each host is told its rank."""
        ranks = [f"--node-rank={self.rank}", f"--master-addr={ADDRESSES[0]}", "--master-port=29400"]
        return self.start([*TORCHRUN, *ranks, RUN[1]], options, folder)

    def c10d(self, options: list[str], folder: Path) -> subprocess.Popen[str]:
        """The hosts agree on their ranks when they meet at the first one, by address."""
        where = [f"--rdzv-endpoint={ADDRESSES[0]}:29400", f"--local-addr={ADDRESSES[self.rank]}"]
        known = f"--rdzv-conf=is_host={self.rank == 0}"  # or each has to know its own name
        meet = ["--rdzv-backend=c10d", "--rdzv-id=run1", *where, known]
        return self.start([*TORCHRUN, *meet, RUN[1]], options, folder)


def are_there() -> bool:
    """Whether this machine and its user can make hosts."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nsenter", "unshare", "setpriv"))):
        return False
    return subprocess.run(["unshare", "--net", "--uts", "true"], check=False).returncode == 0


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    with ExitStack() as holders:
        hosts = [holders.enter_context(namespaces(rank)) for rank in (0, 1)]
        ends = [["name", "veth", "netns", str(host.holder)] for host in hosts]
        call("ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for host in hosts:
            address = f"{ADDRESSES[host.rank]}/24"
            call(*host.inside("ip", "address", "add", address, "dev", "veth"))
            for link in ("lo", "veth"):
                call(*host.inside("ip", "link", "set", link, "up"))
        yield hosts[0], hosts[1]


@contextmanager
def namespaces(rank: int) -> Iterator[Host]:
    named = f"hostname h{rank}; exec sleep 3600"
    with daemon(["unshare", "--net", "--uts", "sh", "-c", named]) as pid:
        wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        host = Host(rank, pid)
        wait_for(lambda: call(*host.inside("hostname")) == f"h{rank}\n")
        yield host


def call(*line: str) -> str:
    return subprocess.check_output(line, text=True)
