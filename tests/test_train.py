"""From a command line to a reviewed run, and from its checkpoint to labelled images."""

import csv
import shlex
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.callbacks.samples import SampleGrid
from src.configuration.build import (
    build_datamodule,
    build_model,
    build_trainer,
    trainer_arguments,
)
from src.configuration.check import find_family
from src.configuration.container import plain
from src.configuration.guesses import CONFIGS
from src.configuration.prepare import compose_in
from src.errors import InputError
from src.generate import choose_labels, generate, load_model, sample
from src.images import grid
from src.models.gan.model import ConditionalGAN
from src.reports.terminal import setting, show
from src.runs.checkpoints import load_checkpoint
from src.train import fit_and_test, report, train, try_on
from tests.toys import Compose, Numbers, assert_says, make_gan

EPOCHS, STEPS = 2, 8  # per epoch
TINY = [
    "model=mnist_gan_model",
    "ignore_warnings=true",
    "datamodule=synthetic",
    "datamodule.train_val_test_split=[256,70,64]",
    "datamodule.batch_size=32",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.log_every_n_steps=3",
]
JUDGED = ["callbacks.quality.n=200", "callbacks.quality.every_n_epochs=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, judged_data: Path) -> Path:
    """A run folder to look at."""
    folder = tmp_path_factory.mktemp("run")
    with redirect_stdout((folder / "screen.txt").open("w")):
        train(compose_in(folder, *TINY, *JUDGED, f"data_dir={judged_data}", "logger=csv"))
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it to work on."""
    return shutil.copytree(trained, tmp_path, dirs_exist_ok=True)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def last(run: Path) -> dict[str, Any]:
    return load_checkpoint(run / "checkpoints" / "last.ckpt")


def steps_of(run: Path, metric: str) -> list[int]:
    return [int(row["step"]) for row in rows(run) if row[metric]]


def test_a_run_leaves_what_the_readme_promises(run: Path) -> None:
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml", "config_tree.txt", "curves.png", "samples.gif", "metrics.csv",
        "quality.csv", "quality.png",
    }  # fmt: skip
    assert sorted(path.name for path in (run / "samples").iterdir()) == [
        "epoch_0001.png",
        "epoch_0002.png",
    ]
    assert {p.name for p in (run / "checkpoints").iterdir()} in (
        {"last.ckpt", "best-000000008.ckpt"},
        {"last.ckpt", "best-000000016.ckpt"},
    )
    with Image.open(run / "samples.gif") as film:
        assert film.n_frames == EPOCHS
    panel = (run / "screen.txt").read_text()
    assert "task=generate" in panel
    assert "task=evaluate" in panel
    assert "fid_cnn" in panel
    assert "resume=" in panel
    assert "src.datamodules.synthetic" in (run / "config_tree.txt").read_text()


def test_the_threads_that_torch_chose_are_on_record(run: Path) -> None:
    assert OmegaConf.load(run / ".hydra" / "overrides.yaml")[-1] == "threads=1"
    assert OmegaConf.load(run / "config.yaml").threads == 1


def test_the_panel_s_commands_can_be_pasted(tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "it's mine"
    (run / "wandb" / "offline-run-1").mkdir(parents=True)
    (run / "tensorboard").mkdir()
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").touch()
    names = {"class_names": list("0123456789"), "loss_names": ConditionalGAN.loss_names}
    model = SimpleNamespace(n_classes=10, **names)
    show(report(run, {}, model, more=[]))
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    folder = shlex.quote(str(run / "wandb") + "/")
    assert f"python run.py task=generate labels=5 {setting('ckpt', run)}" in lines
    assert f"python run.py task=evaluate {setting('ckpt', run)}" in lines
    assert f"python run.py {setting('resume', run)} trainer.max_epochs=N" in lines
    assert f"wandb leet {folder}latest-run" in lines
    assert f"wandb sync {folder}offline-run-*" in lines
    assert shlex.split(lines[-2]) == ["tensorboard", "--logdir", str(run / "tensorboard")]


def test_all_metrics_share_the_axis_of_generator_steps(run: Path) -> None:
    windows = [3, 6, 8, 11, 14, 16]
    for metric in ("train/g_loss", "train/d_loss", "images_per_second", "lr/generator"):
        assert steps_of(run, metric) == windows
    assert steps_of(run, "val/g_loss") == steps_of(run, "val/d_loss") == [8, 16]
    assert steps_of(run, "test/g_loss") == steps_of(run, "test/d_loss") == [16]
    assert float(rows(run)[0]["lr/generator"]) == 2e-4


@pytest.mark.slow
def test_pictures_appear_on_the_same_axis_as_losses(typed: Compose, tmp_path: Path) -> None:
    train(typed(*TINY, "logger=tensorboard"))
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Images("gen_imgs")] == [8, 16]
    assert [event.step for event in events.Scalars("val/g_loss")] == [8, 16]


@pytest.mark.slow
def test_a_search_reads_the_metric_that_it_names(typed: Compose) -> None:
    value = train(typed(*TINY, "logger=null", "optimized_metric=val/g_loss"))
    assert isinstance(value, float)


@pytest.mark.parametrize(
    ("command", "callbacks"),
    [("debug=true", "default"), ("debug=true", "wandb"), ("trainer.fast_dev_run=true", "none")],
)
def test_one_batch_of_everything_runs(
    typed: Compose, tmp_path: Path, command: str, callbacks: str
) -> None:
    train(typed(*TINY, command, "logger=null", f"callbacks={callbacks}"))
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [
        "model/loss=relativistic model/penalties=[r1,r2] model.ema_halflife_images=500",
        "model/loss=wasserstein model/penalties=wgan_gp model.discriminator_steps=3",
        "model/loss=hinge trainer.precision=bf16-mixed model.img_size=32",
        "model/loss=non_saturating trainer.max_steps=3",
    ],
)
def test_each_objective_trains_to_finite_losses(typed: Compose, objective: str) -> None:
    short = ["trainer.limit_train_batches=3", "logger=null", "optimized_metric=test/d_loss"]
    cfg = typed(*TINY, *objective.split(), *short)
    assert np.isfinite(train(cfg))


EXPERIMENTS = {path.stem for path in CONFIGS.glob("experiment/*.yaml")} - {"stacked_mnist"}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("experiment", sorted(EXPERIMENTS))
def test_each_experiment_trains_to_finite_losses(
    typed: Compose, experiment: str, precision: str
) -> None:
    """On small stand-ins for its data; stacked digits have a test of their own."""
    data = ["datamodule=synthetic", "datamodule.train_val_test_split=[48,16,16]"]
    data += ["datamodule.batch_size=8", "callbacks=none", "logger=null"]
    data += ["trainer.max_epochs=1", f"trainer.precision={precision}"]
    data += ["model.img_size=32"] if experiment.startswith("cifar10") else []  # three widths
    cfg = typed(f"experiment={experiment}", *data)
    first = next(iter(find_family(plain(cfg)["model"]).loss_names))
    cfg.optimized_metric = f"test/{first}"
    assert np.isfinite(train(cfg))


@pytest.mark.slow
def test_test_can_be_left_out(typed: Compose, tmp_path: Path) -> None:
    train(typed(*TINY, "logger=csv", "test_after_training=false"))
    assert not any(key.startswith("test/") for key in rows(tmp_path)[0])


def test_a_folder_holds_one_run(run: Path, typed: Compose) -> None:
    with pytest.raises(InputError, match=r"already holds a run: type resume="):
        train(typed(*TINY))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    typed: Compose, run: Path
) -> None:
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(path)
    checkpoint["state_dict"]["generator.model.0.weight"][0, 0] = torch.nan
    torch.save(checkpoint, path)
    before = path.read_bytes()
    cfg = typed(*TINY, "trainer.max_epochs=4")
    cfg.resume = str(run)
    message = r"d_loss is not finite at step 17: .*last.ckpt is the last good checkpoint"
    with pytest.raises(InputError, match=message):
        train(cfg)
    assert path.read_bytes() == before


def test_a_refused_resume_leaves_the_record_alone(typed: Compose, run: Path) -> None:
    before = (run / "config.yaml").read_bytes()
    cfg = typed(*TINY, "model.lr=1e-3")
    cfg.resume = str(run)
    with pytest.raises(InputError, match=r"model.lr=0.0002, not 0.001"):
        train(cfg)
    assert (run / "config.yaml").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake", ["model.discriminator_steps=99", "trainer.val_check_interval=99"]
)
def test_a_start_that_was_refused_leaves_the_folder_to_the_corrected_one(
    typed: Compose, tmp_path: Path, mistake: str
) -> None:
    with pytest.raises(InputError):
        train(typed(*TINY, "logger=null", mistake))
    assert not (tmp_path / ".hydra" / "overrides.yaml").exists()
    train(typed(*TINY, "logger=null", "trainer.max_epochs=1"))
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_other_batches_in_mid_epoch_are_refused(typed: Compose, tmp_path: Path) -> None:
    train(typed(*TINY, "logger=null", f"trainer.max_steps={STEPS + 3}"))
    cfg = typed(*TINY, "logger=null", "datamodule.batch_size=16")
    cfg.resume = str(tmp_path)
    message = "in the middle of an epoch.*: keep datamodule.batch_size=32 and the devices"
    with pytest.raises(InputError, match=message):
        train(cfg)


def test_a_run_that_trains_on_no_batch_is_refused(typed: Compose) -> None:
    with pytest.raises(InputError, match=r"trainer.limit_train_batches=0 trains nothing"):
        train(typed(*TINY, "logger=null", "trainer.limit_train_batches=0"))


@pytest.mark.slow
def test_without_a_checkpoint_none_is_advised(
    typed: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    train(typed(*TINY, "logger=null", "callbacks=none", "trainer.max_steps=1"))
    said = capsys.readouterr().out
    assert "no checkpoint was saved: type callbacks=default" in said
    assert "ckpt=" not in said


def test_a_run_that_max_steps_cut_short_ends_with_the_same_bits(
    typed: Compose, trained: Path, tmp_path: Path
) -> None:
    train(typed(*TINY, "logger=null", f"trainer.max_steps={STEPS + 3}"))
    cfg = typed(*TINY, "logger=null")
    cfg.resume = str(tmp_path)
    train(cfg)
    whole, pieces = last(trained), last(tmp_path)
    assert pieces["global_step"] == whole["global_step"]
    for name, value in whole["state_dict"].items():
        assert torch.equal(pieces["state_dict"][name], value), name
    histories = (each["callbacks"]["LossRecord"]["history"] for each in (pieces, whole))
    for row, expected in zip(*histories, strict=True):
        assert row == pytest.approx(expected)


def test_a_finished_run_is_no_start_for_another(typed: Compose, run: Path, tmp_path: Path) -> None:
    cfg = compose_in(tmp_path / "branch", *TINY, "logger=null", f"ckpt={run}")
    message = r"run.* has nothing left to train: type trainer.max_epochs=N with more than 2$"
    with pytest.raises(InputError, match=message):
        train(cfg)
    assert not (tmp_path / "branch").exists()


def test_a_finished_run_that_is_resumed_says_so(
    typed: Compose, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = typed(*TINY, "logger=null")
    cfg.resume = str(run)
    train(cfg)
    said = capsys.readouterr().out
    assert f"{run} has nothing left to train: type trainer.max_epochs=N with more than 2" in said
    assert "trainer.max_epochs=N" in said.splitlines()[-2]


@pytest.mark.slow
def test_schedules_that_time_may_cut_are_named_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limited = [*TINY, "callbacks=none", "logger=null", "trainer.max_time=00:01:00:00"]
    for schedules, lines in {"none": 0, "decay": 1}.items():
        folder = tmp_path / schedules
        folder.mkdir()
        train(compose_in(folder, *limited, f"model/schedules={schedules}"))
        said = capsys.readouterr().out
        assert said.count("trainer.max_time may end the run before model.schedules") == lines


def test_a_run_that_was_killed_early_begins_again_where_its_ckpt_ends(
    typed: Compose, run: Path, tmp_path: Path
) -> None:
    more = [*TINY, "logger=null", f"trainer.max_epochs={EPOCHS + 1}"]
    branch = tmp_path / "branch"
    first = compose_in(branch, *more, "ckpt=latest")
    branch.mkdir()
    first.work_dir = str(tmp_path)
    shutil.copytree(run / "checkpoints", tmp_path / "logs" / "runs" / "day" / "one" / "checkpoints")
    train(first)
    shutil.rmtree(branch / "checkpoints")  # as a kill before the first one leaves it
    (*options, origin) = OmegaConf.load(branch / ".hydra" / "overrides.yaml")
    assert {*more} - {"logger=null"} <= {*options}  # as they were typed
    assert origin == f"ckpt='{tmp_path}/logs/runs/day/one/checkpoints/last.ckpt'"
    again = compose_in(branch, *more, origin)
    again.resume = str(branch)
    train(again)
    assert last(branch)["global_step"] == (EPOCHS + 1) * STEPS


def test_the_best_checkpoint_is_tracked_through_a_resume(
    typed: Compose, tmp_path: Path, judged_data: Path
) -> None:
    judged = [*TINY, *JUDGED, f"data_dir={judged_data}", "logger=csv"]
    train(typed(*judged))
    run = tmp_path
    cfg = typed(*judged, "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2")
    cfg.resume = str(run)
    train(cfg)
    values = {
        int(row["step"]): float(row["val/fid_cnn"]) for row in rows(run) if row["val/fid_cnn"]
    }
    assert list(values) == [8, 16, 24, 32]
    best = min(values, key=values.__getitem__)
    (kept,) = (run / "checkpoints").glob("best-*.ckpt")
    assert kept.stem == f"best-{best:09d}"
    callbacks = last(run)["callbacks"]
    (tracked,) = (
        c["best_k_models"] for c in callbacks.values() if c.get("monitor") == "val/fid_cnn"
    )
    assert [Path(path).name for path in tracked] == [kept.name]


def test_a_job_of_a_sweep_has_one_device(typed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = typed(*TINY, "trainer.accelerator=cpu", "trainer.devices=2")
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(mode=RunMode.MULTIRUN))
    with pytest.raises(InputError, match=r"-m runs one device per job: type trainer\.gpus=1"):
        trainer_arguments(cfg, available=0)


def test_a_job_whose_ranks_srun_has_started_may_have_several(
    typed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = typed(*TINY, "trainer.accelerator=cpu", "trainer.devices=2")
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(mode=RunMode.MULTIRUN))
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert trainer_arguments(cfg, available=0)["devices"] == 2


def test_several_nodes_of_which_nothing_tells_are_refused(
    typed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = typed(*TINY, "logger=null", "trainer.num_nodes=2")
    with pytest.raises(InputError, match=r"num_nodes=2, but nothing tells .* srun or by torchrun"):
        train(cfg)
    for key, value in {"NODE_RANK": "0", "MASTER_ADDR": "10.0.0.1"}.items():
        monkeypatch.setenv(key, value)
    build_trainer(cfg)


@pytest.mark.parametrize(
    ("reason", "is_said"),
    [
        ("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.99.0.2]:3", True),
        ("a bug", False),
    ],
)
def test_a_process_that_is_lost_is_one_sentence_and_the_run_can_go_on(
    tmp_path: Path, reason: str, is_said: bool
) -> None:
    def fit(*_: object, **options: object) -> None:
        raise RuntimeError(reason)

    trainer: Any = SimpleNamespace(fit=fit, world_size=2)
    cfg = OmegaConf.create({"run_dir": str(tmp_path)})
    with pytest.raises(InputError if is_said else RuntimeError) as caught:
        fit_and_test(cfg, Any, Any, trainer, None)
    if is_said:
        assert str(caught.value).endswith(f"start all again with resume={tmp_path}")
        assert isinstance(caught.value.__cause__, OSError)  # which leaves the record there


def test_one_diverged_point_does_not_end_a_search(
    typed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = typed(*TINY, "logger=null", "model.lr=1e30")
    sweep = SimpleNamespace(mode=RunMode.MULTIRUN, overrides=SimpleNamespace(task=[]))
    monkeypatch.setattr(HydraConfig, "get", lambda: sweep)
    assert train(cfg) == float("inf")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.val_check_interval=1000"], r"`val_check_interval` \(1000\) must be less than"),
        (
            ["+callbacks.stop={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: x/y}"],
            r"metric `x/y` which is not available.* `val/g_loss`",
        ),
    ],
)
def test_what_lightning_refuses_is_one_sentence(
    typed: Compose, arguments: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(typed(*TINY, *arguments, "logger=null"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [RuntimeError, ValueError])
@pytest.mark.parametrize("hook", ["training_step", "validation_step", "on_train_start"])
def test_a_bug_in_a_step_stays_what_it_is(
    typed: Compose, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], hook: str
) -> None:
    def fail(*_: Any) -> None:
        raise kind("a bug")

    monkeypatch.setattr(ConditionalGAN, hook, fail)
    with pytest.raises(kind, match="a bug") as caught:
        train(typed(*TINY, "logger=null"))
    assert not isinstance(caught.value, InputError)


@pytest.mark.slow
def test_the_first_bad_step_is_named_even_if_validation_sees_it_first(typed: Compose) -> None:
    cfg = typed(*TINY, "logger=null", "model.lr=1e30", "trainer.log_every_n_steps=50")
    with pytest.raises(InputError, match=r"not finite at step [12]:"):
        train(cfg)


@pytest.mark.slow
def test_an_exception_still_leaves_the_film(typed: Compose, tmp_path: Path) -> None:
    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 1:
                raise KeyError("anything")

    film = SampleGrid(tmp_path / "samples", rows=1)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=2, callbacks=[film, Stop()], logger=False,
                         enable_checkpointing=False, enable_progress_bar=False)  # fmt: skip
    cfg = typed(*TINY)
    with pytest.raises(KeyError):
        trainer.fit(build_model(cfg), build_datamodule(cfg))
    assert (tmp_path / "samples.gif").is_file()


# --- generate -----------------------------------------------------------------------------------


def generated(typed: Compose, folder: Path, *arguments: str) -> dict[str, Any]:
    generate(typed("task=generate", *arguments))
    with np.load(folder / "samples.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_sixteen_fives(run: Path, typed: Compose) -> None:
    made = generated(typed, run, f"ckpt={run}", "labels=[5]", "n=16")
    assert made["images"].shape == (16, 1, 28, 28)
    assert made["images"].dtype == np.uint8
    assert made["labels"].dtype == np.int64
    assert (made["labels"] == 5).all()
    assert len(np.unique(made["images"], axis=0)) == 16
    with Image.open(run / "samples.png") as picture:
        assert np.array_equal(picture, grid(torch.from_numpy(made["images"]), columns=16))


def test_all_labels_and_equal_seeds_to_the_bit(run: Path, typed: Compose) -> None:
    first = generated(typed, run, f"ckpt={run}/checkpoints/last.ckpt", "n=3", "seed=1")
    again = generated(typed, run, f"ckpt={run}/checkpoints/last.ckpt", "n=3", "seed=1")
    other = generated(typed, run, f"ckpt={run}/checkpoints/last.ckpt", "n=3", "seed=2")
    assert first["labels"].tolist() == [label for label in range(10) for _ in range(3)]
    assert np.array_equal(first["images"], again["images"])
    assert not np.array_equal(first["images"], other["images"])


def test_a_loaded_gan_generates_what_the_trained_one_did(run: Path) -> None:
    gan = load_model(run / "checkpoints" / "last.ckpt")
    labels = torch.arange(10)
    latents = torch.randn(10, *gan.noise_shape)
    again = load_model(run / "checkpoints" / "last.ckpt")
    assert torch.equal(gan.generate(latents, labels), again.generate(latents, labels))
    fixed = gan.draw_noise(8, torch.Generator().manual_seed(0))
    images = gan.generate(fixed.repeat_interleave(10, dim=0), labels.repeat(8))
    with Image.open(run / "samples" / "epoch_0002.png") as picture:
        assert np.array_equal(picture, grid(images, columns=10))


def test_hyper_parameters_hold_the_configuration_and_the_size(run: Path) -> None:
    saved = last(run)["hyper_parameters"]
    assert saved["model"]["lr"] == 2e-4
    assert saved["datamodule"]["batch_size"] == 32
    assert saved["model/params_total"] == saved["model/params_trainable"] == 2_444_377
    assert saved["model/params_not_trainable"] == 0


def test_a_checkpoint_older_than_a_group_of_parts_still_generates(run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    latents, labels = torch.randn(10, 100), torch.arange(10)
    images = load_model(path).generate(latents, labels)
    checkpoint = last(run)
    for part in ("schedules", "terms", "augment"):
        assert checkpoint["hyper_parameters"]["model"].pop(part) == {}
    torch.save(checkpoint, path)
    assert torch.equal(load_model(path).generate(latents, labels), images)


def test_a_checkpoint_cannot_name_foreign_code(run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = last(run)
    checkpoint["hyper_parameters"]["model"]["loss"] = {"_target_": "pathlib.Path"}
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match=r"names pathlib.Path, which is none of"):
        load_model(path)


def test_a_checkpoint_cannot_have_files_removed(run: Path, typed: Compose, tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "foreign.ckpt"
    victim.mkdir()
    checkpoint = last(run)
    for state in checkpoint["callbacks"].values():
        if "best_model_path" in state:
            state["best_model_path"] = f"local://{victim}"
    torch.save(checkpoint, path)
    cfg = typed(*TINY, "trainer.max_epochs=3", "logger=null", f"ckpt={path}")
    cfg.run_dir = str(tmp_path / "new")
    cfg.callbacks.model_checkpoint.dirpath = str(tmp_path / "new" / "checkpoints")
    (tmp_path / "new").mkdir()
    train(cfg)
    assert (tmp_path / "new" / "checkpoints" / "last.ckpt").is_file()
    assert victim.is_dir()


def test_the_picture_shows_every_class(run: Path, typed: Compose) -> None:
    images = torch.from_numpy(generated(typed, run, f"ckpt={run}", "n=30")["images"])
    shown = images.view(10, 30, 1, 28, 28)[:, :20].flatten(0, 1)
    with Image.open(run / "samples.png") as picture:
        assert np.array_equal(picture, grid(shown, columns=20))


def test_each_image_may_have_a_file_of_its_own_in_the_folder_of_its_class(
    run: Path, typed: Compose, tmp_path: Path
) -> None:
    asked = f"ckpt={run}", "labels=[3,7]", "n=2"
    together = generated(typed, run, *asked)["images"]
    (run / "samples.npz").unlink()
    generate(typed("task=generate", *asked, "format=png"))
    assert not (run / "samples.npz").exists()
    names = ["3/0001.png", "3/0002.png", "7/0001.png", "7/0002.png"]
    for name, pixels in zip(names, together, strict=True):
        with Image.open(tmp_path / name) as picture:
            assert np.array_equal(picture, pixels[0])


def test_a_model_is_loaded_from_a_folder_ready_to_generate(run: Path) -> None:
    gan = load_model(run)
    assert not gan.sampler.training
    alone = gan.sampler(torch.ones(1, *gan.noise_shape), torch.tensor([3]))
    beside = gan.sampler(torch.ones(2, *gan.noise_shape), torch.tensor([3, 7]))
    torch.testing.assert_close(alone[0], beside[0])


def test_lightning_s_way_to_load_names_ours(run: Path) -> None:
    with pytest.raises(InputError, match=r"call load_model\(PATH\) of src.generate"):
        ConditionalGAN.load_from_checkpoint(run / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["model.generator_optimizer.betas=[0.5]"], "the optimizers cannot be built"),
        (["datamodule.batch_size=1", "model=small_gan"], "type datamodule.batch_size=2 or more"),
        (["model.generator.channels=3"], "type model.channels=3 for all"),
        (["model.discriminator.n_classes=4"], "leave model.discriminator.n_classes out"),
        (["callbacks.sample_grid.rows=0"], "a number from 1 to 100"),
        (["callbacks.quality.n=0"], "a number from 1 to 1000000"),
        (["datamodule.num_workers=5000"], "type datamodule.num_workers=256 or less"),
        (["model/penalties=r1", "model.penalties.r1._target_=torch.nn.Linear",
          "model.penalties.r1.in_features=-3", "model.penalties.r1.out_features=2",
          "~model.penalties.r1.at", "~model.penalties.r1.weight"],
         "model.penalties.r1 cannot be built ("),
    ],
)  # fmt: skip
def test_what_would_fail_later_is_refused_before_the_folder_is_claimed(
    typed: Compose, tmp_path: Path, options: list[str], sentence: str
) -> None:
    with pytest.raises(InputError) as refusal:
        train(typed(*TINY, "print_config=true", *options))
    assert_says(refusal.value, sentence)
    assert not (tmp_path / ".hydra").exists()


def test_networks_that_do_not_fit_the_pictures_are_refused() -> None:
    gan = make_gan()  # of pictures of 2 x 2
    with pytest.raises(
        InputError, match="the networks do not fit images of 1 x 3 x 3 in 1 classes"
    ):
        try_on(gan, Numbers(), img_size=3)
    before = torch.get_rng_state()
    try_on(gan, Numbers(), img_size=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert gan.training


def test_chunks_do_not_repeat(run: Path) -> None:
    gan = load_model(run / "checkpoints" / "last.ckpt")
    chunks = list(sample(gan, torch.zeros(2_500, dtype=torch.int64), seed=0))
    assert [len(chunk) for chunk in chunks] == [1_000, 1_000, 500]
    assert not torch.equal(chunks[0][:500], chunks[1][:500])


@pytest.mark.parametrize(
    ("labels", "n", "message"),
    [
        ([5, 12], 1, r"labels=\[12\] are not among the classes 0..9: type labels="),
        (-1, 1, r"labels=\[-1\]"),
        ("all", 0, "n=0 .* asks for no image"),
        ([], 3, "asks for no image"),
    ],
)
def test_labels_that_do_not_exist_are_refused(labels: Any, n: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_labels(labels, n=n, names=list("0123456789"))


def test_classes_are_chosen_by_name(run: Path, typed: Compose, tmp_path: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(path)
    assert checkpoint["class_names"] == list("0123456789")
    torch.save(checkpoint | {"class_names": ["airplane", "../up", *"cdefghij"]}, path)
    asked = ["task=generate", f"ckpt={path}", "n=2"]
    generate(typed(*asked, "labels=[j,airplane]"))
    with np.load(tmp_path / "samples.npz") as file:
        assert file["labels"].tolist() == [9, 9, 0, 0]
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.height == 2 * (2 * 30 + 2)
        assert picture.width > 2 * (2 * 30 + 2) + 20, "names stand beside the rows"
    generate(typed(*asked, "labels=../up", "format=png"))
    assert [*tmp_path.glob("__up/*.png")] == [tmp_path / "__up" / f"000{i}.png" for i in (1, 2)]
    said = r"labels=\['airplan'\] are not among the classes airplane, .*: type labels=airplane,"
    with pytest.raises(InputError, match=said):
        generate(typed(*asked, "labels=airplan"))


def test_a_checkpoint_without_names_has_numbers(run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(path)
    del checkpoint["class_names"]
    torch.save(checkpoint, path)
    assert load_model(path).class_names == list("0123456789")
    torch.save(checkpoint | {"class_names": ["cat"]}, path)
    with pytest.raises(InputError, match="names other classes than it has"):
        load_model(path)


def test_going_on_with_other_classes_is_said(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = load_model(run / "checkpoints" / "last.ckpt")
    model.on_load_checkpoint({"class_names": list("0123456789")})
    assert not caplog.messages
    model.class_names = list("abcdefghij")
    model.on_load_checkpoint({"class_names": list("0123456789")})
    assert "classes 0..9: they go on as a, b, c" in caplog.text


def test_a_run_is_not_resumed_with_other_classes(run: Path, typed: Compose) -> None:
    path = run / "checkpoints" / "last.ckpt"
    torch.save(load_checkpoint(path) | {"class_names": list("abcdefghij")}, path)
    cfg = typed(*TINY)
    cfg.resume = str(run)
    with pytest.raises(InputError, match=r"learned the classes a, b, .* and the data have 0\.\.9"):
        train(cfg)


def test_a_checkpoint_of_other_networks_is_refused(run: Path, typed: Compose) -> None:
    path = run / "checkpoints" / "last.ckpt"
    cfg = typed(*TINY, "model.latent_dim=64")
    cfg.resume = str(run)
    with pytest.raises(InputError, match=r"model.latent_dim=100, not 64"):
        train(cfg)
    checkpoint = load_checkpoint(path)
    saved = checkpoint["hyper_parameters"]["model"]
    saved["latent_dim"] = saved["generator"]["latent_dim"] = 64
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match="does not fit the networks"):
        load_model(path)
