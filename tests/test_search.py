"""A search ends when it should, goes on where it was stopped, and says what it found."""

import math
import shlex
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from omegaconf import DictConfig
from optuna.trial import TrialState
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

import src.search
from src.callbacks.losses import DivergenceError
from src.compare import experiment_of, read_curve
from src.configuration.prepare import compose_in
from src.errors import InputError
from src.runs.folders import RECORD
from src.runs.studies import hand_over, open_storage
from src.search import search
from tests.pages import ROOT
from tests.toys import assert_says, finish, start

LR = "model.lr:{_target_:optuna.distributions.FloatDistribution,low:0.001,high:0.01,log:true}"
CHOICES = "choices:[relativistic,hinge]"
LOSS = f"model/loss:{{_target_:optuna.distributions.CategoricalDistribution,{CHOICES}}}"
TINY = [
    "task=search", "search.study=tiny", f"search.space={{{LR},{LOSS}}}", "search.n_trials=2",
    "search.winners=1", "search.seeds=[1,2]", "optimized_metric=val/fid_cnn",
    "search.sampler={_target_: optuna.samplers.RandomSampler, seed: 0}",
    "datamodule=synthetic", "datamodule.train_val_test_split=[1500,700,700]",
    "callbacks.quality.n=200", "callbacks.quality.every_n_epochs=1", "ignore_warnings=true",
]  # fmt: skip
SHORT = ["search.pruner.min_resource=1", "trainer.max_epochs=2", "trainer.limit_train_batches=2"]
Search = Callable[..., float]


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """What ``python run.py TINY ...`` finds in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    return lambda *more: search(compose_in(tmp_path, *TINY, *more))


class Runs:
    """Stands in for training: the value is ten times the learning rate, whatever the seed."""

    def __init__(self) -> None:
        self.begun: list[DictConfig] = []
        self.fate: dict[int, BaseException] = {}  # of runs by their number

    def __call__(self, cfg: DictConfig) -> float:
        self.begun.append(cfg)
        if error := self.fate.get(len(self.begun)):
            raise error
        return 10 * cfg.model.lr


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(src.search, "train", stand_in := Runs())
    return stand_in


def trials(folder: Path, name: str = "tiny") -> list[optuna.trial.FrozenTrial]:
    storage = open_storage(f"sqlite:///{folder / 'logs/searches/tiny/study.db'}")
    return optuna.load_study(study_name=name, storage=storage).trials


def states(folder: Path) -> Counter[str]:
    return Counter(trial.state.name for trial in trials(folder))


def test_each_trial_runs_once_and_the_same_line_again_runs_none(
    found: Search, runs: Runs, tmp_path: Path, capsys: Any
) -> None:
    three = "search.n_trials=3", "search.sampler.seed=1"  # which finds what beats the experiment
    value = found(*three)
    lowest = min(trials(tmp_path), key=lambda trial: trial.value)
    assert value == pytest.approx(10 * lowest.params["model.lr"])
    tried, judged = runs.begun[:3], runs.begun[3:]
    own = tried[0].model.lr
    assert own == compose_in(tmp_path).model.lr
    rivals = dict.fromkeys([lowest.params["model.lr"], own])
    assert len(rivals) == 2
    assert {cfg.run_dir for cfg in tried} == {
        str(tmp_path / "logs/searches/tiny" / name) for name in ("0000", "0001", "0002")
    }
    assert [(cfg.model.lr, cfg.seed) for cfg in judged] == [
        (lr, n) for lr in rivals for n in (1, 2)
    ]
    assert {cfg.test_after_training for cfg in runs.begun} == {False}
    assert f"{lowest.number:04d}" in capsys.readouterr().out
    assert (tmp_path / "logs/searches/tiny/search.png").is_file()
    assert found(*three, "search.seeds=[1,2,3]") == value
    assert [cfg.seed for cfg in runs.begun[3 + len(judged) :]] == [3] * len(rivals)
    n = len(runs.begun)
    assert found(*three) == value
    assert len(runs.begun) == n


def test_the_command_of_the_best_is_its_run(
    found: Search, runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        found("search.winners=0")
    (line,) = (record.message for record in caplog.records if "best, of trial" in record.message)
    best = min(runs.begun, key=lambda cfg: cfg.model.lr)
    again = compose_in(tmp_path, *shlex.split(line.partition("run.py ")[2]))
    assert (again.task, again.model) == ("train", best.model)
    assert Path(best.run_dir).name in line


def test_wandb_shows_the_trials_of_a_study_as_a_group(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = "search.n_trials=1", "search.winners=1", "search.seeds=[5]"
    search(compose_in(tmp_path, "experiment=train_mnist_gan", "hparams_search=mnist_tpe", *one))
    shown = [cfg.logger.wandb for cfg in runs.begun]
    assert [(each.group, each.job_type) for each in shown] == [("mnist_tpe", "search")] * 2
    assert [each.name for each in shown] == ["0000", "winners/0000-seed5"]


def test_nothing_is_a_choice_too(found: Search, runs: Runs, tmp_path: Path) -> None:
    average = "model.ema_halflife_images:{_target_:optuna.distributions.CategoricalDistribution,"
    space = f"search.space={{{average}choices:[null,100]}}}}"
    found("model=small_gan", space, "search.n_trials=4", "search.winners=0")
    assert {cfg.model.ema_halflife_images for cfg in runs.begun} == {None, 100}
    assert (tmp_path / "logs/searches/tiny/search.png").is_file()


def test_an_experiment_outside_its_space_is_not_tried(found: Search, runs: Runs) -> None:
    lower = LR.replace("high:0.01", "high:0.002")
    found("~search.space", f"search.space={{{lower}}}", "search.winners=1", "search.seeds=[1]")
    assert len(runs.begun) == 2 + 1
    assert all(0.001 <= cfg.model.lr <= 0.002 for cfg in runs.begun)


def test_a_folder_of_trials_that_the_study_does_not_know_is_refused(
    found: Search, runs: Runs, tmp_path: Path
) -> None:
    record = tmp_path / "logs/searches/tiny/0000" / RECORD
    record.parent.mkdir(parents=True)
    record.touch()
    with pytest.raises(InputError, match=r"search.study=tiny knows none: type search.study=NAME"):
        found()
    assert not runs.begun


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")
def test_a_trial_may_be_stopped_as_often_as_you_like(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.create_study(storage=storage)
    study.enqueue_trial({"lr": 0.5})
    for _ in range(13):
        hand_over(study, study.ask().number)
    assert src.search.first_number(study.ask()) == 0


def test_what_is_stopped_waits_in_its_folder_and_goes_on(
    found: Search, runs: Runs, tmp_path: Path
) -> None:
    runs.fate = {1: SystemExit(143), 2: KeyboardInterrupt()}
    for code in (143, 130):
        with pytest.raises(SystemExit, match=f"{code}"):
            found("search.winners=0")
    found("search.winners=0")
    folders = [Path(cfg.run_dir).name for cfg in runs.begun]
    assert folders == ["0000", "0000", "0000", "0003"]
    assert states(tmp_path) == {"FAIL": 2, "COMPLETE": 2}
    assert len({cfg.model.lr for cfg in runs.begun}) == 2


def test_a_full_disk_stops_the_search_and_loses_no_trial(
    found: Search, runs: Runs, tmp_path: Path
) -> None:
    full = InputError("free some space")
    full.__cause__ = OSError()
    runs.fate = {1: full}
    with pytest.raises(InputError, match="free some space"):
        found("search.winners=0")
    found("search.winners=0")
    assert [Path(cfg.run_dir).name for cfg in runs.begun] == ["0000", "0000", "0002"]


def test_a_diverged_trial_counts_as_infinity(found: Search, runs: Runs, tmp_path: Path) -> None:
    runs.fate = dict.fromkeys([1, 4], DivergenceError("g_loss is not finite"))
    value = found("search.winners=2", "search.seeds=[7,8]")
    assert [trial.value for trial in trials(tmp_path)] == [math.inf, 10 * runs.begun[1].model.lr]
    assert len(runs.begun) == 2 + 2  # what diverged wins nothing
    assert value == math.inf  # nor does a winner that diverges with another seed


def test_the_highest_may_be_the_best(found: Search, runs: Runs, tmp_path: Path) -> None:
    runs.fate = {1: DivergenceError("g_loss is not finite")}
    metric = ["optimized_metric=val/coverage", "search.direction=maximize"]
    value = found(*metric, "search.winners=0")
    assert value == max(10 * cfg.model.lr for cfg in runs.begun[1:])
    assert trials(tmp_path)[0].value == -math.inf


def test_trials_of_another_experiment_are_refused_with_both_named(
    found: Search, runs: Runs
) -> None:
    found("search.winners=0", "search.n_trials=1")
    more = "search.winners=0", "search.n_trials=2", "seed=8", "search.pruner=null"
    found(*more)  # none of which makes it another one
    with pytest.raises(InputError) as caught:
        found(*more, "model.b1=0.5")
    assert_says(
        caught.value, "search.study=tiny", "model.b1=0.0", "model.b1=0.5", "search.study=NAME"
    )
    with pytest.raises(InputError, match=r"search.space.model.lr.high=0.01.*=0.1"):
        found("search.space={model.lr:{high:0.1}}")
    assert len(runs.begun) == 2


@pytest.mark.parametrize("storage", ["journal", "sqlite:////{}/own.db"])
def test_a_search_is_kept_where_it_is_told(
    found: Search, runs: Runs, tmp_path: Path, storage: str
) -> None:
    where = f"search.storage={storage.format(tmp_path)}"
    runs.fate = {2: SystemExit(143)}
    with pytest.raises(SystemExit):
        found(where, "search.winners=0")
    found(where)
    assert [Path(cfg.run_dir).name for cfg in runs.begun[:3]] == ["0000", "0001", "0001"]
    assert len(runs.begun) == 3 + 2
    assert not (tmp_path / "logs/searches/tiny/study.db").exists()


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")
@pytest.mark.parametrize("kind", ["study.journal", "study.db"])
def test_the_trial_of_a_dead_worker_is_taken_over(tmp_path: Path, kind: str) -> None:
    place = str(tmp_path / kind) if "journal" in kind else f"sqlite:///{tmp_path / kind}"
    storage = open_storage(place, heartbeat_s=1, grace_s=2)
    study = optuna.create_study(storage=storage, study_name="tiny")
    dead = study.ask()
    dead.suggest_float("lr", 0, 1)
    dead.report(3.0, step=1)
    storage.record_heartbeat(dead._trial_id)
    living = study.ask()
    deadline = time.monotonic() + 30
    while study.trials[0].state == TrialState.RUNNING and time.monotonic() < deadline:
        storage.record_heartbeat(living._trial_id)
        src.search.take_over(study)
        time.sleep(0.2)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "RUNNING", "WAITING"]
    heir = study.ask()
    assert src.search.first_number(heir) == 0
    assert heir.suggest_float("lr", 0, 1) == dead.params["lr"]
    assert study.trials[heir.number].intermediate_values == {1: 3.0}
    hand_over(study, heir.number)
    assert src.search.first_number(study.trials[-1]) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["~search.space", "search.space={}"], ["search.space", "hparams_search=mnist_tpe"]),
        (["search.space={model.lrr:{_target_:optuna.distributions.FloatDistribution,low:0,high:1}}"],
         ["model.lrr", "did you mean model.lr"]),
        (["search.space={model.lr:{high:1.0e-4}}"], ["search.space.model.lr", "low"]),
        (["search.space={model.lr:{hihg:1}}"], ["search.space.model.lr.hihg", "high"]),
        (["search.space={model.lr:{_target_:optuna.distributions.Float}}"],
         ["search.space.model.lr._target_", "cannot be imported"]),
        (["search.pruner={_target_:optuna.pruners.Nop}"], ["search.pruner._target_", "imported"]),
        (["search.space={model/loss:{choices:[hinge,relativistc]}}"],
         ["model/loss=relativistc", "relativistic"]),
        (["search.pruner={_target_:optuna.samplers.RandomSampler}"], ["search.pruner"]),
        (["search.storage=postgres"], ["search.storage", "journal"]),
        (["search.storage=sqlite:////no/where/study.db"], ["search.storage", "leave it out"]),
        (["optimized_metric=val/fid_cn"], ["val/fid_cn ", "val/fid_cnn"]),
        (["optimized_metric=fid_cnn"], ["optimized_metric=fid_cnn is", "val/fid_cnn"]),
        (["optimized_metric=test/fid_cnn"], ["test/fid_cnn is", "val/fid_cnn"]),
        (["optimized_metric=val/fid"], ["val/fid is", "val/fid_cnn"]),
        (["search.seeds=[1,-1]"], ["seed=-1"]),
        (["optimized_metric=null"], ["optimized_metric=val/fid_cnn"]),
        (["optimized_metric=val/g_loss"], ["val/g_loss", "search.pruner=null"]),
        (["optimized_metric=val/coverage"], ["search.direction=maximize"]),
        (["debug=true"], ["debug=true"]),
        (["search.n_trials=0"], ["search.n_trials=1 or more"]),
        (["search.n_trails=3"], ["search.n_trails", "search.n_trials"]),
        (["search.epoch=first"], ["search.epoch=first", "last or best"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)  # fmt: skip
def test_a_mistake_is_one_sentence_before_the_first_trial(
    found: Search, runs: Runs, tmp_path: Path, more: list[str], said: list[str]
) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - Hydra's are made sentences by run.py
        found(*more)
    assert_says(src.configuration.command_line.sentence(caught.value), *said)
    assert not runs.begun


@pytest.mark.slow
def test_trials_that_are_worse_than_their_like_end_early(
    found: Search, judged_data: Path, tmp_path: Path
) -> None:
    found(*SHORT, f"data_dir={judged_data}", "search.n_trials=4", "search.seeds=[1]")
    ended = states(tmp_path)
    assert sum(ended.values()) == 4
    assert 1 <= ended["PRUNED"] <= 3
    home = tmp_path / "logs/searches/tiny"
    for trial in trials(tmp_path):
        run = home / f"{trial.number:04d}"
        curve = read_curve(run / "quality.csv")
        assert len(curve) == (1 if trial.state == TrialState.PRUNED else 2)
        assert trial.value == pytest.approx(curve[-1]["fid_cnn"])
        assert "test/" not in (run / "metrics.csv").read_text()
    done = [trial for trial in trials(tmp_path) if trial.state == TrialState.COMPLETE]
    best = min(done, key=lambda trial: trial.value)
    judged = [*(home / "winners").iterdir()]
    assert {each.name for each in judged} == {f"{n:04d}-seed1" for n in (0, best.number)}
    for winner in judged:
        tried = home / winner.name.partition("-")[0]
        assert experiment_of(winner) == experiment_of(tried)  # so that task=compare sees two seeds
    src.search.train(compose_in(tried, f"resume={tried}", "trainer.max_epochs=3"))
    assert len(read_curve(tried / "quality.csv")) == 3  # without its search, and unpruned


LONG = [
    *TINY, "search.heartbeat_s=1", "search.grace_s=10", "search.winners=0", "search.pruner=null",
    "trainer.max_epochs=4", "trainer.limit_train_batches=2", "search.n_trials=2",
]  # fmt: skip


@pytest.mark.slow
def test_the_trial_of_a_killed_worker_goes_on_from_its_checkpoint(
    judged_data: Path, tmp_path: Path
) -> None:
    arguments = [*LONG, f"data_dir={judged_data}", "print_config=false"]
    killed = start([*arguments, "search.worker=0"], tmp_path)
    run = tmp_path / "logs/searches/tiny/0000"
    await_file(run / "checkpoints" / "last.ckpt", killed)
    other = start([*arguments, "search.worker=1"], tmp_path)
    killed.send_signal(signal.SIGKILL)
    finish(killed, code=-signal.SIGKILL)
    before = read_curve(run / "quality.csv")
    assert len(before) < 4, "killed too late to show anything"
    finish(other)
    ended = trials(tmp_path)
    assert Counter(trial.state.name for trial in ended) == {"COMPLETE": 2, "FAIL": 1}
    assert ended[0].state == TrialState.FAIL
    heir = next(trial for trial in ended[1:] if src.search.first_number(trial) == 0)
    assert heir.params == ended[0].params
    assert [*heir.intermediate_values] == [1, 2, 3, 4]
    curve = read_curve(run / "quality.csv")
    assert [row["epoch"] for row in curve] == [1, 2, 3, 4]
    assert curve[0] == before[0]  # with its seconds, so that it was not trained again
    assert len([*(tmp_path / "logs/searches/tiny").glob("0*")]) == 2


def await_file(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not path.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.is_file(), process.communicate()[0]


def test_an_agent_of_wandb_types_what_the_project_takes(tmp_path: Path) -> None:
    sweep = yaml.safe_load((ROOT / "configs" / "wandb_sweep.yaml").read_text())
    drawn = {"model.lr": {"value": 0.00123}, "model/loss": {"value": "hinge"}}
    assert {*drawn} == {*sweep["parameters"]}
    macros = create_sweep_command_args({"args": drawn})
    macros |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    words: list[str] = []
    for chunk in create_sweep_command(sweep["command"]):
        words += macros[chunk[2:-1]] if chunk.startswith("${") else [chunk]
    assert words[:3] == ["/usr/bin/env", "python", "run.py"]
    cfg = compose_in(tmp_path, *words[3:])
    assert (cfg.model.lr, cfg.model.loss._target_.rpartition(".")[2]) == (0.00123, "Hinge")
    assert sweep["metric"]["name"] == "val/fid_cnn"
