"""Folders that no other process has or will get."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from src.configuration.guesses import CONFIGS
from src.configuration.resolvers import part_of_run, unused


def test_a_folder_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    wanted = str(tmp_path / "logs" / "12-00-00")
    assert [unused(wanted) for _ in range(3)] == [wanted, f"{wanted}-2", f"{wanted}-3"]
    assert len(list((tmp_path / "logs").iterdir())) == 3


def test_starts_at_the_same_moment_never_share_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(unused, [str(tmp_path / "logs" / "12-00-00")] * 40))
    assert len(set(folders)) == 40


@pytest.mark.parametrize("in_the_way", ["file", "dangling link"])
def test_what_cannot_be_made_is_left_for_hydra_to_report(tmp_path: Path, in_the_way: str) -> None:
    logs = tmp_path / "logs"
    logs.touch() if in_the_way == "file" else logs.symlink_to(tmp_path / "unmounted")
    assert unused(f"{logs}/runs/12-00-00") == f"{logs}/runs/12-00-00"


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("config", overrides=[*overrides], return_hydra_config=True)


@pytest.mark.parametrize(
    "task", ["train", "generate", "evaluate", "compare", "train_judge", "export"]
)
def test_two_commands_in_one_second_have_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hydra.core.utils.datetime", FixedTime)
    commands = [composed(f"task={task}") for _ in range(2)]
    for kind in ("run", "sweep"):
        first, second = (command.hydra[kind] for command in commands)
        taken = first.dir
        assert second.dir == f"{taken}-2"
        assert (first.dir, second.dir) == (taken, f"{taken}-2")  # however often it is read
        assert Path(first.dir).is_dir()


@pytest.mark.parametrize(
    "typed", ["task=train", "task=generate", "hparams_search=mnist_grid", "hydra.run.dir=here"]
)
def test_a_folder_is_made_only_when_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    composed(typed)
    assert not list(tmp_path.iterdir())


class FixedTime:
    @staticmethod
    def now() -> "FixedTime":
        return FixedTime()

    def strftime(self, pattern: str) -> str:
        return pattern.replace("%", "")


def test_a_part_of_a_short_run_has_one_image_at_least() -> None:
    trainer = {"max_steps": 1, "gpus": 0}
    data = {"batch_size": 4, "train_val_test_split": [64, 4, 4]}
    cfg = OmegaConf.create({"trainer": trainer, "datamodule": data, "model": {}})
    assert [part_of_run(share, _root_=cfg) for share in (0.0, 0.08, 0.5, 1.0)] == [0, 1, 2, 4]
