"""What only real processes show: being killed, several ranks, a sweep, and exit codes."""

import csv
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pages import ROOT
from tests.toys import (
    BARS,
    RUN,
    assert_same_bits,
    finish,
    last_checkpoint,
    measure_again,
    same,
    start,
)

BASE = [
    "model=mnist_gan_model",
    "datamodule=synthetic",
    "print_config=false",
    "logger=csv",
    "trainer.log_every_n_steps=3",
]


def await_step(run: Path, step: int, process: subprocess.Popen[str], before: str) -> None:
    """Wait until metrics.csv has news, and speaks of ``step``: the middle of training."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        rows = metrics(run)
        if rows != before and re.search(r"^(\d+),", rows, re.M) and last_step(rows) >= step:
            return
        time.sleep(0.005)
    raise AssertionError(f"step {step} was not reached: {process.communicate()[0]}")


def metrics(run: Path) -> str:
    path = run / "metrics.csv"
    return path.read_text() if path.is_file() else ""


def last_step(rows: str) -> int:
    return max(int(step) for step in re.findall(r"^(\d+),", rows, re.M))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    finish(start([*LONG, f"hydra.run.dir={run}"], run.parent, threads="2"))
    return run


LONG = [  # 128 steps
    *BASE, "model=small_gan", "trainer.max_epochs=8",
    "model.ema_halflife_images=500", "model/augment=translation",
    "model/schedules=[burn_in,decay]", "model.schedules.gamma.over_images=5_000",
    "model.schedules.lr.points=[[4000,1],[9000,0]]",
]  # fmt: skip


@pytest.mark.slow
def test_a_run_that_is_killed_and_stopped_ends_with_the_same_bits(
    uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments, threads = [*LONG, f"hydra.run.dir={run}"], "2"
    seed = random.randrange(10_000)  # another one each time: put the printed one here
    draw = random.Random(seed)
    kills = sorted(draw.sample(range(17, 80), 4))
    print(f"{seed=}: stopped at steps {kills}")
    for step, number, code in [
        (kills[0], signal.SIGKILL, -signal.SIGKILL),
        (kills[1], signal.SIGTERM, 128 + signal.SIGTERM),
        (kills[2], signal.SIGKILL, -signal.SIGKILL),
        (kills[3], signal.SIGINT, 128 + signal.SIGINT),
    ]:
        before = metrics(run)
        process = start(arguments, tmp_path, threads=threads)
        await_step(run, step, process, before)
        time.sleep(draw.uniform(0, 0.05))
        process.send_signal(number)
        output = finish(process, code=code)
        if number != signal.SIGKILL:
            assert f"python run.py resume={run}" in output
        arguments, threads = [f"resume={run}"], "1"  # two are on record
    finish(start(arguments, tmp_path, threads=threads))
    assert_same_bits(run, uninterrupted, n_steps=128)
    assert losses(run) == losses(uninterrupted)
    assert (run / "samples" / "epoch_0008.png").read_bytes() == (
        uninterrupted / "samples" / "epoch_0008.png"
    ).read_bytes()


FLOW = ["model=flow", "model.network.widths=[8,8]", "model.n_steps=3"]
VAE = ["model=vae", "model.encoder.widths=[8,8]", "model.encoder.hidden=16"]


@pytest.mark.slow
@pytest.mark.parametrize("family", [FLOW, VAE], ids=["flow", "vae"])
def test_other_families_that_are_killed_end_with_the_same_bits(
    tmp_path: Path, family: list[str]
) -> None:
    whole, run, step = tmp_path / "whole", tmp_path / "run", random.randrange(17, 50)
    print(f"killed at step {step}")
    arguments = [*BASE, *family, "trainer.max_epochs=4", "model.ema_halflife_images=500"]
    finish(start([*arguments, f"hydra.run.dir={whole}"], tmp_path))
    process = start([*arguments, f"hydra.run.dir={run}"], tmp_path)
    await_step(run, step, process, before="")
    process.kill()
    finish(process, code=-signal.SIGKILL)
    finish(start([f"resume={run}"], tmp_path))
    assert_same_bits(run, whole, n_steps=64)


def losses(run: Path) -> list[tuple[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [
            (row["step"], row["val/g_loss"]) for row in csv.DictReader(file) if row["val/g_loss"]
        ]


def ranks(run: Path) -> list[dict[str, Any]]:
    return [torch.load(run / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1)]


TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=1"]
TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
    str(ROOT / "run.py"),
]  # fmt: skip


PROBED = [*TWO, "+callbacks.probe={_target_: tests.ddp_probe.Probe, folder: '${run_dir}'}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "objective"),
    [
        (RUN, ["model/loss=relativistic", "model/penalties=[r1,r2]"]),
        (TORCHRUN, ["model/loss=relativistic", "model/penalties=r1_r2", "model/schedules=burn_in"]),
        (RUN, FLOW),
        (RUN, VAE),
    ],
    ids=["lightning", "torchrun", "flow", "vae"],
)
def test_two_ranks_share_data_gradients_weights_and_one_folder(
    tmp_path: Path, launcher: list[str], objective: list[str]
) -> None:
    average = "model.ema_halflife_images=500"
    finish(start([*BASE, *PROBED, *objective, average, "logger=wandb"], tmp_path, launcher))
    (run,) = (tmp_path / "logs" / "runs").glob("*/*")
    assert_shared(run, n=512)  # of 1,024 images
    assert len(list(run.glob("wandb/*run-*"))) == 1
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"runs"}


def assert_shared(run: Path, *, n: int) -> None:
    """Each rank saw ``n`` images and random numbers of its own; gradients and weights are equal."""
    first, second = ranks(run)
    together = torch.cat([first["seen"], second["seen"]]).flatten(1)
    assert len(first["seen"]) == len(second["seen"]) == n
    assert len(torch.unique(together, dim=0)) == len(together)
    streams = torch.cat([first["streams"], second["streams"]])
    assert len(torch.unique(streams, dim=0)) == len(streams)
    for rank in (first, second):
        assert len(rank["errors"]) > 100
        assert rank["errors"].max() < 1e-4
    weights = [
        {key: value for key, value in rank["weights"].items() if "running" not in key}
        for rank in (first, second)
    ]  # batch norm keeps each rank's own statistics; rank 0's are saved
    assert same(*weights)


@pytest.mark.slow
def test_two_ranks_measure_the_quality_that_one_process_does(
    tmp_path: Path, judged_data: Path
) -> None:
    judged = [*BASE, *BARS, f"data_dir={judged_data}", "callbacks.quality.n=3_000"]
    finish(start([*judged, *PROBED, f"hydra.run.dir={tmp_path}"], tmp_path))
    assert_shared(tmp_path, n=11 * 64)  # of 1,500 images
    with (tmp_path / "quality.csv").open() as file:
        (together,) = csv.DictReader(file)
    for name, value in measure_again(tmp_path, judged_data, n=3_000).items():
        assert float(together[name]) == pytest.approx(value, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "parallel"])
def test_a_sweep_has_a_folder_and_a_wandb_run_per_job_that_is_not_refused(
    tmp_path: Path, launcher: str
) -> None:
    sweep = [*BASE, "-m", "seed=-1,1,2", "trainer.max_epochs=1", "logger=wandb"]
    sweep += [f"hydra/launcher={launcher}"]
    said = finish(start(sweep, tmp_path), code=1)
    (folder,) = (tmp_path / "logs" / "multiruns").iterdir()
    weights = []
    for job in ("1", "2"):
        assert len(list((folder / job).glob("wandb/offline-run-*"))) == 1
        assert (folder / job / "samples" / "epoch_0001.png").is_file()
        weights.append(last_checkpoint(folder / job)["state_dict"])
    assert not same(*weights)
    assert not (folder / "0").exists()
    assert "1 of the sweep's jobs failed, the others are done:\n  job 0 (" in said
    assert said.count("seed=-1 is not allowed: type seed=0 or more") == 2
    assert "Traceback" not in said


@pytest.mark.slow
def test_no_other_command_touches_the_record_of_a_run(uninterrupted: Path) -> None:
    run = uninterrupted
    inside = [*BASE, f"hydra.run.dir={run}"]
    record = {path: path.read_bytes() for path in run.glob(".hydra/*")}
    assert any(b"model=small_gan" in content for content in record.values())
    said = finish(start([*inside, "seed=2"], run.parent), code=1)
    assert f"{run} already holds a run: type resume={run}" in said
    finish(start([*inside, "seed=3", "task=generate", f"ckpt={run}"], run.parent))
    assert {path: path.read_bytes() for path in run.glob(".hydra/*")} == record


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trainer.max_epoch=3"], "there is no key trainer.max_epoch: did you mean"),
        (["hydra.run.dir=/dev/null/x"], "/dev/null/x cannot be used (Not a directory)"),
    ],
)
def test_bad_input_is_one_sentence_and_a_code(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    output = finish(start([*BASE, *arguments], tmp_path), code=1)
    lines = [line for line in output.splitlines() if not line.startswith("[")]  # Hydra's sweeper
    assert len(lines) == 1, output
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]
