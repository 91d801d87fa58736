"""What SLURM says of a process: its folder, and whether the job was started before."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from src.configuration.prepare import compose_raw
from src.configuration.resolvers import (
    folder_of_run,
    n_devices,
    n_gpus_per_node,
    n_nodes,
    of_sweep,
)
from tests.toys import Compose


@pytest.fixture
def in_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The environment of one task that srun has started."""
    threads = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))  # so that the end of a test restores it
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    for key, value in {"JOB_ID": "42", "STEP_ID": "0", "NTASKS": "1", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    yield monkeypatch
    torch.set_num_threads(threads)


def test_all_tasks_of_one_srun_have_one_folder_whatever_the_clock_says(
    in_slurm: pytest.MonkeyPatch,
) -> None:
    in_slurm.setenv("SLURM_NTASKS", "2")
    assert {folder_of_run("logs/runs", second) for second in ("1", "2")} == {"logs/runs/slurm/42"}
    in_slurm.setenv("SLURM_STEP_ID", "1")
    assert folder_of_run("logs/runs", "1") == "logs/runs/slurm/42-1"


def test_a_second_command_in_one_job_has_a_folder_of_its_own_unless_it_is_the_first_again(
    in_slurm: pytest.MonkeyPatch,
) -> None:
    folders = [folder_of_run("logs/runs", "1") for _ in range(2)]
    assert folders == ["logs/runs/slurm/42", "logs/runs/slurm/42-2"]
    in_slurm.setenv("SLURM_RESTART_COUNT", "1")
    assert folder_of_run("logs/runs", "1") == "logs/runs/slurm/42"


def test_a_shell_within_a_job_is_no_task(in_slurm: pytest.MonkeyPatch) -> None:
    in_slurm.delenv("SLURM_STEP_ID")
    assert folder_of_run("logs/runs", "1") == "logs/runs/1"


@pytest.fixture
def begun(tmp_path: Path) -> list[str]:
    """What a run in the folder of ``typed`` was started with."""
    options = ["model=small_gan", "datamodule=synthetic"]
    (tmp_path / ".hydra").mkdir()
    record = ["print_config=false", "ignore_warnings=false", *options, "threads=3", "ckpt='/a b'"]
    (tmp_path / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(record))
    return options


def test_a_job_that_starts_again_goes_on_with_what_was_fixed_at_its_beginning(
    in_slurm: pytest.MonkeyPatch, typed: Compose, tmp_path: Path, begun: list[str]
) -> None:
    in_slurm.setenv("SLURM_RESTART_COUNT", "1")
    cfg = typed(*begun)
    assert (cfg.resume, cfg.threads, cfg.ckpt) == (str(tmp_path), 3, "/a b")


@pytest.mark.parametrize(("restarts", "more"), [("0", []), ("1", ["seed=7"])])
def test_another_run_in_the_folder_is_not_taken_for_the_job_s_own(
    in_slurm: pytest.MonkeyPatch, typed: Compose, begun: list[str], restarts: str, more: list[str]
) -> None:
    in_slurm.setenv("SLURM_RESTART_COUNT", restarts)
    assert typed(*begun, *more).resume is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (1, 1, None)),
        (["trainer.gpus=1"], (1, 1, 1)),
        (["trainer=ddp", "trainer.num_nodes=2"], (2, 4, 4)),
        (["trainer.gpus=[0,1]"], (1, 2, 2)),
        (["trainer.accelerator=cpu", "trainer.devices=2", "trainer.num_nodes=3"], (3, 2, None)),
    ],
)
def test_nodes_tasks_and_gpus_of_a_job_follow_the_trainer(
    tmp_path: Path, arguments: list[str], expected: tuple[int, int, int | None]
) -> None:
    cfg = compose_raw(tmp_path, *arguments)
    assert (n_nodes(_root_=cfg), n_devices(_root_=cfg), n_gpus_per_node(_root_=cfg)) == expected


def test_a_job_of_a_sweep_names_its_wandb_run(
    typed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = typed("logger=wandb").logger.wandb
    assert (alone.group, alone.name, alone.job_type) == (None, None, "train")
    job = OmegaConf.create({"sweep": {"dir": "logs/multiruns/today"}, "job": {"num": 3}})
    job.mode = RunMode.MULTIRUN
    monkeypatch.setattr(HydraConfig, "get", lambda: job)
    assert [of_sweep(key) for key in ("name", "number")] == ["today", "3"]
