"""What users type, rewritten for Hydra; what goes wrong, in one sentence."""

import os
import pickle
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from torch.distributed import TCPStore

from src.configuration import command_line
from src.configuration.command_line import (
    JobError,
    errors_as_sentences,
    errors_of_jobs,
    have_hydra_raise,
    sentence,
    translate,
)
from src.configuration.guesses import CONFIGS
from src.errors import InputError, StoppedError
from src.reports.terminal import setting
from tests.toys import assert_says

TABLE = [
    ([], []),
    (["experiment=train_mnist_gan"], ["experiment=train_mnist_gan"]),
    (["experiment=train_mnist_gan.yaml"], ["experiment=train_mnist_gan.yaml"]),
    (["experiment=null"], []),
    (["logger=null"], ["logger=none"]),
    (["logger=None"], ["logger=none"]),
    (["callbacks=null"], ["callbacks=none"]),
    (["model/penalties=null"], ["model/penalties=none"]),
    (["logger=csv"], ["logger=csv"]),
    (["model/loss=hinge"], ["model/loss=hinge"]),
    (["model/penalties=[r1,r2]"], ["model/penalties=[r1,r2]"]),
    (["debug=true"], ["++debug=true"]),
    (["trainer.fast_dev_run=true"], ["++trainer.fast_dev_run=true"]),
    (["model.lr=1e-4"], ["++model.lr=1e-4"]),
    (["++model.lr=1e-4"], ["++model.lr=1e-4"]),
    (["trainer.gpus="], ["++trainer.gpus="]),
    (["ckpt=null"], ["++ckpt=null"]),
    (["ckpt='logs/a=b.ckpt'"], ["++ckpt='logs/a=b.ckpt'"]),
    (["labels=[0,1]"], ["++labels=[0,1]"]),
    (["-m", "seed=1,2,3"], ["-m", "++seed=1,2,3"]),
    (["--multirun", "logger=null,csv"], ["--multirun", "logger=null,csv"]),
    (["seed=1,2", "-m"], ["-m", "++seed=1,2"]),
    (["hydra.run.dir=/tmp/here"], ["hydra.run.dir=/tmp/here"]),
    (["hydra/launcher=basic"], ["hydra/launcher=basic"]),
    (["+x=1"], ["+x=1"]),
    (["~callbacks.sample_grid"], ["~callbacks.sample_grid"]),
    (["--cfg", "job"], ["--cfg", "job"]),
    (["seed=3", "--cfg", "job", "n=2"], ["--cfg", "job", "++seed=3", "++n=2"]),
    (["--info", "seed=3"], ["--info", "++seed=3"]),
    (["ckpt=my (best) run=1"], ["++ckpt='my (best) run=1'"]),
    (["ckpt=it's"], ["++ckpt='it\\'s'"]),
    (["hydra.run.dir=logs/a=b"], ["hydra.run.dir='logs/a=b'"]),
    (["logger=[]"], ["logger=none"]),
    (["--config-name=config"], ["--config-name=config"]),
    (["resume=null"], ["++resume=null"]),
]


@pytest.fixture(autouse=True)
def _outside_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)


def composed(arguments: list[str], **options: Any) -> DictConfig:
    fixed = ["++work_dir=/tmp", "++run_dir=/tmp/run"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("config", overrides=[*arguments, *fixed], **options)


def started(run: Path, overrides: list[str]) -> Path:
    """A run folder as a run claims it: the overrides of the job, without Hydra's own."""
    (run / ".hydra").mkdir(parents=True, exist_ok=True)
    task = [line for line in overrides if not line.startswith("hydra.")]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(task))
    return run


@pytest.mark.parametrize(("typed", "expected"), TABLE, ids=lambda line: " ".join(line) or "nothing")
def test_translation(typed: list[str], expected: list[str]) -> None:
    assert translate(typed) == expected


@pytest.mark.parametrize("typed", [typed for typed, _ in TABLE], ids=" ".join)
def test_a_child_that_translates_again_reads_the_same(typed: list[str]) -> None:
    once = translate(typed)
    assert translate(once) == once


def test_a_path_in_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert translate(["ckpt=~/runs/x"]) == ["++ckpt=/home/me/runs/x"]


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("experiment = train_mnist_gan", "type experiment=train_mnist_gan, in one word"),
        ("experiment =train_mnist_gan", "type experiment=train_mnist_gan, in one word"),
        ("seed=1 trainer.max_epochs= 5", "type trainer.max_epochs=5, in one word"),
        ("labels=[3, 5]", "type 'labels=[3,5]', in quotes"),
        ("labels=[3, 5, 6] seed=3", "type 'labels=[3,5,6]', in quotes"),
        ("generate ckpt=latest", "type task=generate"),
        ("hinge", "type model/loss=hinge"),
        ("debug", "type debug=VALUE"),
        ("xyzzy", "type KEY=VALUE"),
        ("=1", "type the key in front of it"),
        ("experiment", "type experiment=NAME, with one of cifar10, cifar10_dcgan, cifar10_flow"),
        ("experiment=", "names nothing: choose one of cifar10, cifar10_dcgan, cifar10_flow"),
        ("-experiment=train_mnist_gan", "type experiment=train_mnist_gan"),
        ("experiment=[fashion,mnist_best]", "experiment takes one: type experiment=fashion, or -m"),
        ("--experiment=train_mnist_gan", "type experiment=train_mnist_gan"),
        ("--gpus 1", "type gpus=VALUE"),
        ("logger=false", "type logger=null for none of it, or choose one of comet, "),
        ("model=1e9", "choose one of flow, mnist_gan_model, small_gan, vae"),
        ("trainer=[1,2]", "choose one of ddp, "),
        ("task=-1", "choose one of compare, evaluate, "),
    ],
)
def test_what_is_no_assignment_is_refused_with_what_is_meant(typed: str, instead: str) -> None:
    with pytest.raises(InputError) as refusal:
        translate(typed.split())
    assert_says(refusal.value, instead)


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("labels=3,5", "type 'labels=[3,5]' for a list, or -m for a run with each"),
        ("model.lr=0,001", "type model.lr=0.001 for a number, "),
        ("experiment=fashion,mnist_best", "experiment takes one: type -m for a run with each"),
    ],
)
def test_several_values_without_a_sweep_are_refused_with_what_is_meant(
    typed: str, instead: str
) -> None:
    with pytest.raises(HydraException) as caught:
        composed(translate([typed]))
    assert_says(sentence(caught.value), f"{typed} is several values", instead)


def test_a_part_that_another_model_has_names_that_model() -> None:
    with pytest.raises(HydraException) as caught:
        composed(translate(["model/solver=heun"]))
    assert sentence(caught.value) == "this model has no solver: add model=flow"


@pytest.mark.parametrize("name", ["train_mnist_gan", "train_mnist_gan.yaml"])
def test_both_spellings_of_an_experiment_compose_to_the_same(name: str) -> None:
    cfg = composed(translate([f"experiment={name}", "trainer.gpus=1", "datamodule.batch_size=32"]))
    assert (cfg.trainer.gpus, cfg.trainer.max_epochs) == (1, 7)
    assert (cfg.datamodule.batch_size, cfg.seed) == (32, 12345)
    assert [*cfg.logger] == ["wandb"]


def test_the_command_line_wins_over_the_experiment_wherever_it_stands() -> None:
    typed = ["trainer.max_epochs=3", "experiment=train_mnist_gan", "logger=null", "seed=7"]
    cfg = composed(translate(typed))
    assert (cfg.trainer.max_epochs, cfg.seed, [*cfg.logger]) == (3, 7, [])


def test_keys_that_hydra_does_not_know_reach_the_schema() -> None:
    cfg = composed(translate(["trainer.fast_dev_run=true", "trainer.max_epoch=3"]))
    assert (cfg.trainer.fast_dev_run, cfg.trainer.max_epoch) == (True, 3)


@pytest.mark.parametrize("group", ["logger", "callbacks"])
def test_a_deleted_group_is_empty(group: str) -> None:
    assert composed(translate([f"~{group}"])).get(group) == {}


@pytest.mark.parametrize("group", ["model", "model/loss"])
def test_null_for_a_part_that_is_needed_is_refused(group: str) -> None:
    with pytest.raises(InputError, match=f"{group}=null"):
        translate([f"{group}=null"])


# -- resume ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", ["model.lr=1e-4", "++model.lr=1e-4"])
def test_resume_repeats_the_run_s_options_in_its_folder(tmp_path: Path, recorded: str) -> None:
    run = started(tmp_path / "run", ["experiment=train_mnist_gan.yaml", recorded])
    assert translate(["resume=run", "trainer.max_epochs=30"]) == [
        "experiment=train_mnist_gan.yaml",
        "++model.lr=1e-4",
        f"++resume='{run}'",
        "++trainer.max_epochs=30",
        f"hydra.run.dir='{run}'",
        "hydra.mode=RUN",
        "hydra.job.id=resumed",
    ]


@pytest.mark.parametrize("name", ["it's", "'", "'it's", "a\\'b", 'say "x"', "a, b=[c]"])
def test_a_run_folder_may_hold_apostrophes(tmp_path: Path, name: str) -> None:
    run = started(tmp_path / name, ["++seed=3"])
    once = translate([f"resume={name}"])
    cfg = composed(once, return_hydra_config=True)
    assert (cfg.resume, cfg.hydra.run.dir, cfg.seed) == (str(run), str(run), 3)
    for again in ([f"resume={run}"], shlex.split(setting("resume", run)), once):
        assert translate(again) == once


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_run_folder_may_be_quoted_and_hold_odd_characters(tmp_path: Path, quote: str) -> None:
    run = started(tmp_path / "a run, b=1", ["++seed=3"])
    arguments = translate([f"resume={quote}{run}{quote}"])
    cfg = composed(arguments, return_hydra_config=True)
    assert (cfg.resume, cfg.hydra.run.dir, cfg.seed) == (str(run), str(run), 3)


def test_after_several_resumes_the_latest_options_win_and_none_is_nested(tmp_path: Path) -> None:
    run = started(tmp_path / "run", ["logger=wandb", "++trainer.max_epochs=10", "++seed=3"])
    for typed in (["trainer.max_epochs=20"], ["logger=null"], ["trainer.max_epochs=40"]):
        arguments = translate([f"resume={run}", *typed])
        started(run, arguments)
    assert [line for line in arguments if line.startswith("++resume=")] == [f"++resume='{run}'"]
    assert [line for line in arguments if line.startswith("hydra.run.dir=")] == [
        f"hydra.run.dir='{run}'"
    ]
    cfg = composed(arguments)
    assert (cfg.trainer.max_epochs, cfg.seed, [*cfg.logger]) == (40, 3, [])


def test_the_last_resume_counts(tmp_path: Path) -> None:
    first, second = (started(tmp_path / name, [f"++n={name}"]) for name in ("1", "2"))
    assert translate([f"resume={first}", f"resume={second}"])[0] == "++n=2"


def test_a_run_that_has_resume_null_on_record_resumes(tmp_path: Path) -> None:
    run = started(tmp_path / "run", ["++resume=null", "++seed=3"])
    assert translate([f"resume={run}"])[:2] == ["++seed=3", f"++resume='{run}'"]


@pytest.mark.parametrize(
    "recorded", [["++seed=3"], ["seed=3"], ["+trainer.num_nodes=1"], ["~callbacks.sample_grid"]]
)
def test_a_child_of_a_resumed_run_reads_the_same(tmp_path: Path, recorded: list[str]) -> None:
    """DDP's children run the translated line after Hydra has recorded it."""
    run = started(tmp_path / "run", recorded)
    once = translate([f"resume={run}", "trainer.max_epochs=30"])
    started(run, once)
    assert translate(once) == once
    composed(translate(once))


def test_resuming_one_job_of_a_search_is_one_run(tmp_path: Path) -> None:
    run = started(
        tmp_path / "0", ["hparams_search=mnist_grid", "++model.lr=1e-4", "++model.b1=0.5"]
    )
    cfg = composed(translate([f"resume={run}"]), return_hydra_config=True)
    assert cfg.hydra.mode in (None, RunMode.RUN)
    assert cfg.model.lr == pytest.approx(1e-4)


def test_resume_latest_means_the_run_with_the_newest_checkpoint(tmp_path: Path) -> None:
    for name, saved_at in {"11-00-00": 200, "12-00-00": 300, "10-00-00": 100, "13": None}.items():
        run = started(tmp_path / "logs" / "runs" / "2026-01-01" / name, [f"++ckpt={name}"])
        (run / "config.yaml").touch()
        if saved_at is not None:
            (run / "checkpoints").mkdir()
            (run / "checkpoints" / "last.ckpt").touch()
            os.utime(run / "checkpoints" / "last.ckpt", (saved_at, saved_at))
    arguments = translate(["resume=latest"])
    newest = tmp_path / "logs" / "runs" / "2026-01-01" / "12-00-00"
    assert arguments == [
        "++ckpt=12-00-00",
        f"++resume='{newest}'",
        f"hydra.run.dir='{newest}'",
        "hydra.mode=RUN",
        "hydra.job.id=resumed",
    ]


@pytest.mark.parametrize("folder", ["hydra.run.dir=new", "++hydra.run.dir='new'"])
def test_resume_goes_on_in_no_other_folder(tmp_path: Path, folder: str) -> None:
    started(tmp_path / "run", ["++seed=3"])
    with pytest.raises(InputError, match=r"resume=run goes on in its own folder: .* ckpt=run$"):
        translate(["resume=run", folder])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("nowhere", "folder"):
        with pytest.raises(InputError, match=rf"resume={name} .*type resume=latest"):
            translate([f"resume={name}"])
    with pytest.raises(InputError, match=r"there is no run under .*train one first"):
        translate(["resume=latest"])


def test_a_record_that_a_kill_left_empty_is_no_start_of_anything(tmp_path: Path) -> None:
    run = started(tmp_path / "run", [])
    (run / ".hydra" / "overrides.yaml").write_text("")
    with pytest.raises(InputError, match=r"does not say what .*run was started with: start anew"):
        translate(["resume=run"])


def test_a_run_without_a_checkpoint_is_resumed_by_its_name_alone(tmp_path: Path) -> None:
    run = started(tmp_path / "logs" / "runs" / "2026-01-01" / "10-00-00", ["++seed=3"])
    (run / "config.yaml").touch()
    with pytest.raises(InputError, match=r"no run under .* with a checkpoint yet: name a folder"):
        translate(["resume=latest"])
    assert translate([f"resume={run}"])[:2] == ["++seed=3", f"++resume='{run}'"]


FOREIGN = [
    "hydra.job_logging.handlers.x={(): os.system}",
    "++hydra.callbacks.x._target_=os.system",
    "hydra.callbacks.x._target_=os.system",
    "hydra/launcher=elsewhere",
    "+experiment@hydra.x=y",
    "~hydra.job_logging",
    "hydra.searchpath=[file:///elsewhere]",
    "--config-dir=/elsewhere",
    "-cd",
    "experiment=../../elsewhere",
    "model/loss=/elsewhere",
    "+model/loss='${oc.env:LOSS}'",
]


@pytest.mark.parametrize("line", FOREIGN)
def test_a_record_that_has_hydra_load_or_call_others_is_refused(tmp_path: Path, line: str) -> None:
    run = started(tmp_path / "run", [])
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(["++seed=3", line]))
    with pytest.raises(InputError, match=r"run has .* on record, .* type it again beside resume"):
        translate([f"resume={run}"])
    assert line.removeprefix("++") in translate([f"resume={run}", line])


# -- torchrun -------------------------------------------------------------------------------------


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> TCPStore:
    """The store that torchrun's agent holds, and the environment that it gives its processes."""
    seconds = timedelta(seconds=60)
    store = TCPStore("127.0.0.1", 0, is_master=True, timeout=seconds, wait_for_workers=False)
    environment = {
        "TORCHELASTIC_RUN_ID": "1", "TORCHELASTIC_RESTART_COUNT": "0", "RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "1",
    }  # fmt: skip
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    return store


def test_torchrun_s_processes_share_the_folder_of_rank_zero(
    torchrun: TCPStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = translate(["seed=3"])
    monkeypatch.setenv("RANK", "1")
    second = translate(["seed=3"])
    assert first[0] == second[0] == "++seed=3"
    (folder,) = first[1:]
    assert folder.startswith("hydra.run.dir=logs/runs/")
    assert second[1:] == ["hydra.job.name=train_ddp_process_1", folder]


@pytest.mark.parametrize("named", [[], ["hydra.run.dir=here"]])
def test_what_torchrun_starts_again_resumes_its_own_run(
    torchrun: TCPStore, monkeypatch: pytest.MonkeyPatch, named: list[str]
) -> None:
    first = translate(["seed=3", *named])
    run = started(Path(first[1].removeprefix("hydra.run.dir=")).absolute(), first)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert translate(["seed=3", *named]) == translate([f"resume={run}", "seed=3"])


def test_what_torchrun_starts_again_leaves_the_run_of_another_alone(
    torchrun: TCPStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(tmp_path / "here", ["++seed=3"])
    refused = translate(["hydra.run.dir=here"])
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert translate(["hydra.run.dir=here"]) == refused


def test_a_run_that_torchrun_resumes_stays_in_its_folder(
    torchrun: TCPStore, tmp_path: Path
) -> None:
    run = started(tmp_path / "run", ["++seed=3"])
    assert f"hydra.run.dir='{run}'" in translate(["resume=run"])
    assert not (tmp_path / "logs").exists()


def test_a_host_without_the_run_or_with_an_older_state_of_it_is_named(
    torchrun: TCPStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(tmp_path / "run", ["++seed=3"])
    monkeypatch.setenv("WORLD_SIZE", "3")
    torchrun.set("run/0/1", "h1 absent")
    torchrun.set("run/0/2", f"h2 {command_line.state_of('run')}")
    for rank in (1, 2):
        torchrun.set(f"heard/0/{rank}", "")
    with pytest.raises(InputError, match=r"not the same run on h1 as on .*: let all hosts share"):
        translate(["resume=run"])


def test_the_state_of_a_run_is_that_of_its_last_checkpoint(tmp_path: Path) -> None:
    assert command_line.state_of("run") == "absent"
    run = started(tmp_path / "run", ["++seed=3"])
    (run / "checkpoints").mkdir()
    states = [command_line.state_of("run")]
    for content in (b"1", b"2"):
        (run / "checkpoints" / "last.ckpt").write_bytes(content)
        states.append(command_line.state_of("run"))
    assert states[0] == "unsaved"
    assert len({*states}) == 3


# -- errors ---------------------------------------------------------------------------------------


def test_a_group_option_that_does_not_exist_is_named_with_the_nearest_and_all() -> None:
    for typed, start in {
        "logger=wandbb": "there is no logger=wandbb: did you mean wandb? choose one of comet, csv",
        "model/loss=hing": "there is no model/loss=hing: did you mean hinge? choose one of hinge",
        "experiment=train_gan.yaml": "there is no experiment=train_gan.yaml: did you mean train_",
        "callbacks=xyzzy": "there is no callbacks=xyzzy: choose one of default, none",
    }.items():
        with pytest.raises(MissingConfigException) as caught:
            composed(translate([typed]))
        assert sentence(caught.value).startswith(start)


def test_a_missing_option_in_a_list_is_named_with_the_nearest_and_all() -> None:
    with pytest.raises(MissingConfigException) as caught:
        composed(translate(["model/penalties=[r1,r3]"]))
    said = sentence(caught.value)
    assert said.startswith("there is no model/penalties=r3: did you mean r")
    assert said.endswith("none, r1, r1_r2, r2, strong_r1_r2, wgan_gp")


def test_an_error_of_the_system_names_file_reason_and_what_to_type(tmp_path: Path) -> None:
    error = PermissionError(13, "Permission denied", "/root/run")
    assert_says(sentence(error), "/root/run", "(Permission denied)", "hydra.run.dir=PATH")
    assert sentence(OSError(28, "No space left")) == "[Errno 28] No space left"


def test_a_message_of_several_lines_becomes_one() -> None:
    assert sentence(HydraException("one\n  two\n\nthree")) == "one two three"


@pytest.mark.parametrize(
    "error", [InputError("mind\nthe gap"), HydraException("mind the gap"), OSError("mind the gap")]
)
def test_a_mistake_is_one_line_and_exit_code_one(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line, "wants_traceback", False)
    with pytest.raises(SystemExit) as caught, errors_as_sentences():
        raise error
    assert caught.value.code == 1
    assert capsys.readouterr() == ("", "error: mind the gap\n")


def test_who_asks_for_a_traceback_gets_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line, "wants_traceback", True)
    with pytest.raises(InputError, match="mind the gap"), errors_as_sentences():
        raise InputError("mind the gap")
    assert capsys.readouterr() == ("", "")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "wants_traceback", False)
    with pytest.raises(KeyError), errors_as_sentences():
        raise KeyError("bug")


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    listed: list[str] = []
    monkeypatch.setattr(command_line, "failures", listed)
    return listed


def test_a_failure_in_another_process_is_listed_once_where_it_arrives(
    tmp_path: Path, failures: list[str]
) -> None:
    with (
        pytest.raises(JobError) as caught,
        errors_of_jobs("3", folder=tmp_path, has_own_process=True),
    ):
        raise KeyError("bug")
    sent = pickle.dumps(caught.value)
    failures.clear()
    for _ in range(2):  # as of two ranks
        assert isinstance(pickle.loads(sent), JobError)
    assert failures == ["job 3: KeyError: 'bug'"]


@pytest.mark.parametrize(("apart", "kind"), [(True, JobError), (False, StoppedError)])
def test_a_signal_ends_a_sweep_unless_it_came_to_a_job_alone(
    tmp_path: Path, failures: list[str], apart: bool, kind: type[BaseException]
) -> None:
    with pytest.raises(kind), errors_of_jobs("3", folder=tmp_path, has_own_process=apart):
        raise StoppedError(143)
    assert bool(failures) == apart


@pytest.mark.parametrize(
    ("name", "file"),
    [("joblib", "requirements.txt"), ("submitit_slurm", "requirements-cluster.txt")],
)
def test_a_launcher_that_is_not_installed_is_named_with_what_to_type(name: str, file: str) -> None:
    error = MissingConfigException("", f"hydra/launcher/{name}")
    assert_says(sentence(error), "not installed", f"type pip install -r {file}")


@pytest.mark.parametrize(("wanted", "afterwards"), [(False, "0"), (True, "1")])
def test_hydra_raises_until_the_task_starts(
    wanted: bool, afterwards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "wants_traceback", wanted)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    have_hydra_raise(always=True)
    assert os.environ["HYDRA_FULL_ERROR"] == "1"
    have_hydra_raise(always=False)
    assert os.environ["HYDRA_FULL_ERROR"] == afterwards
