"""What the service of an exported folder bears: throughput, overload, memory, a stop, bad requests.

    python benchmarks/serving.py FOLDER [--seconds 4] [--rounds 3] [--litserve PYTHON] [--st ST]

It needs wrk, which loads the service from the same machine. ``--litserve`` names a Python with
litserve and what requirements-serve.txt lists: LitServe then answers the same requests with the
same model and pictures, service after service in every round, and medians are reported. ``--st``
names the command of schemathesis, which then makes up requests from the service's own description.
"""

import argparse
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60
SIZES = 1, 16, 1_024  # images of a request
LITSERVE = """
import sys
from pathlib import Path
import litserve, numpy as np
from fastapi import Response
from src.serving.bundle import Bundle
from src.serving.pictures import ENCODERS

class Sheets(litserve.LitAPI):
    def setup(self, device):
        self.bundle = Bundle(Path(sys.argv[1]))

    def decode_request(self, request):
        return np.full(request["n"], request["labels"]), request["seed"]

    def predict(self, asked):
        return ENCODERS["image/png"](self.bundle, self.bundle.of_seed(*asked), asked[0])

    def encode_response(self, content):
        return Response(content, media_type="image/png")

if __name__ == "__main__":
    litserve.LitServer(Sheets(api_path="/v1/images")).run(
        port=int(sys.argv[2]), generate_client_file=False
    )
"""
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{{"labels": 5, "n": {n}, "seed": 7}}'
"""


@contextmanager
def started(command: Sequence[str], *, port: int, ready: str) -> Iterator[tuple[int, float]]:
    """Start a service; yield its process id and the seconds until it was ready."""
    env = os.environ | {"IMAGES_PER_MINUTE": str(10**9), "PYTHONPATH": str(ROOT)}
    started_at, silent = time.perf_counter(), subprocess.DEVNULL
    process = subprocess.Popen(
        command, env=env, stdout=silent, stderr=silent, start_new_session=True
    )
    try:
        while status(f"http://127.0.0.1:{port}{ready}") != 200:
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} has ended with {process.returncode}")
            if time.perf_counter() - started_at > PATIENCE_S:
                raise SystemExit(f"{' '.join(command)} is not ready after {PATIENCE_S} s")
            time.sleep(0.01)
        yield process.pid, time.perf_counter() - started_at
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children too
        process.wait()


def status(url: str, body: bytes | None = None) -> int:
    """The status of an answer, or 0 if there is none."""
    try:
        with urlopen(
            Request(url, body, {"Content-Type": "application/json"}), timeout=60
        ) as answer:
            answer.read()
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except (URLError, ConnectionError):
        return 0


def load(port: int, *, n: int, connections: int, seconds: float) -> tuple[float, int]:
    """Answers a second for ``n`` images each, and how many answers were refusals."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.format(n=n))
        script.flush()
        options = "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=60s", "-s", script.name
        said = subprocess.run(
            ["wrk", *options, f"http://127.0.0.1:{port}/v1/images"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    rate = re.search(r"Requests/sec: +([\d.]+)", said)
    assert rate is not None, said
    return float(rate[1]), int(refused[1]) if refused else 0


def throughput(
    services: dict[str, tuple[Sequence[str], str]], *, port: int, rounds: int, seconds: float
) -> dict[tuple[str, int], list[float]]:
    """Answers a second of each service and size of request, round after round."""
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for name, (command, ready) in services.items():
            with started(command, port=port, ready=ready):
                for n in SIZES:
                    time.sleep(1)  # until what the last load has left is answered
                    rate, refused = load(port, n=n, connections=8, seconds=seconds)
                    assert not refused, f"{name} refuses {refused} requests of {n} images"
                    rates.setdefault((name, n), []).append(rate)
    return rates


def overload(pid: int, port: int, *, seconds: float) -> str:
    """Memory before and after 64 connections of 1,024 images, and how slow /healthz was."""
    before = memory(pid)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, port, n=1_024, connections=64, seconds=seconds)
        slowest, asked = 0.0, 0
        while not loading.done():
            asked_at = time.perf_counter()
            assert status(f"http://127.0.0.1:{port}/healthz") == 200
            slowest, asked = max(slowest, time.perf_counter() - asked_at), asked + 1
            time.sleep(0.05)
        rate, refused = loading.result()
    return (
        f"64 connections of 1,024 images: {rate:.0f} answers a second, {refused} of them refusals; "
        f"memory {before} to {memory(pid)} MB, at most {memory(pid, 'VmHWM')}; "
        f"slowest of {asked} /healthz {slowest:.3f} s"
    )


def memory(pid: int, name: str = "VmRSS") -> int:
    """Megabytes of a process."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return round(int(found[1]) * 1_024 / 1e6)


def stop(pid: int, port: int) -> str:
    """What becomes of five requests of 1,024 images when the service is told to stop."""
    body = b'{"labels": 5, "n": 1024, "seed": 7}'
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(status, f"http://127.0.0.1:{port}/v1/images", body) for _ in "12345"]
        time.sleep(0.05)
        asked_at = time.perf_counter()
        os.kill(pid, signal.SIGTERM)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        gone = time.perf_counter() - asked_at
        table = subprocess.run(
            ["ps", "-s", str(pid), "-o", "stat="], capture_output=True, text=True, check=False
        ).stdout
        alive = [state for state in table.split() if "Z" not in state]
        return (
            f"SIGTERM with five requests of 1,024: {[answer.result() for answer in answers]}, "
            f"gone after {gone:.2f} s, {len(alive)} processes left"
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what python run.py task=export has written")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--litserve", metavar="PYTHON")
    parser.add_argument("--st", metavar="ST")
    options = parser.parse_args()
    folder, port = str(options.folder.absolute()), free_port()
    ours = [sys.executable, "-m", "src.serving", folder, "--port", str(port)]
    services: dict[str, tuple[Sequence[str], str]] = {"src.serving": (ours, "/readyz")}
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(LITSERVE)
        script.flush()
        if options.litserve:
            theirs = [options.litserve, script.name, folder, str(port)]
            services["LitServe"] = theirs, "/health"
        rates = throughput(services, port=port, rounds=options.rounds, seconds=options.seconds)
    for (name, n), found in rates.items():
        rate, spread = statistics.median(found), f"{min(found):.0f} to {max(found):.0f}"
        print(f"{name}, {n:,} images: {rate:.0f} answers/s ({spread}), {rate * n:,.0f} images/s")
    with started(ours, port=port, ready="/readyz") as (pid, seconds):
        print(f"ready after {seconds:.2f} s")
        print(overload(pid, port, seconds=options.seconds))
        if options.st:
            print(f"schemathesis ends with {invent_requests(options.st, port)}; {memory(pid)} MB")
        print(stop(pid, port))


def invent_requests(st: str, port: int) -> int:
    """The exit status of schemathesis, which shows what it has found.

    Without its check that all is accepted which the description allows, for no JSON Schema says
    that noise has a row for each image, or that labels and n together are not too many.
    """
    url = f"http://127.0.0.1:{port}/openapi.json"
    told = "--checks=all", "--exclude-checks=positive_data_acceptance", "--max-examples=100"
    command = [st, "run", url, *told, "--seed=1"]
    with tempfile.TemporaryDirectory() as folder:  # for what it remembers
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    main()
