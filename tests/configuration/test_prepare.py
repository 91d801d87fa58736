"""Schedules that end with the run, however long it is; runs that name only what is known."""

from pathlib import Path

import pytest
import yaml

from src.errors import InputError
from tests.toys import Compose


@pytest.mark.parametrize(
    ("length", "images"),
    [
        (["trainer.max_epochs=3"], 3 * 55_000),
        (["trainer.max_steps=100"], 100 * 64),
        (["trainer.max_steps=100", "model.discriminator_steps=5"], 100 * 5 * 64),
        (["trainer.max_steps=100", "trainer.gpus=4"], 100 * 4 * 64),
        (["trainer.max_steps=100", "trainer.gpus=[0,3]"], 100 * 2 * 64),
        (["trainer.max_steps=100", "trainer.gpus=auto"], 100 * 64),
        (["trainer.max_steps=100", "trainer=ddp", "trainer.devices=2"], 100 * 2 * 64),
        (["trainer.max_steps=100_000", "trainer.max_epochs=2"], 2 * 55_000),
        (["trainer.max_epochs=null", "trainer.max_steps=10", "datamodule.batch_size=7"], 70),
        (
            ["trainer.max_epochs=1", "datamodule.train_val_test_split=[50_000,10_000,10_000]"],
            50_000,
        ),
    ],
)
def test_the_decay_ends_with_the_run(typed: Compose, length: list[str], images: int) -> None:
    cfg = typed("model/schedules=decay", *length)
    assert cfg.model.schedules.lr.points == [[images // 2, 1.0], [images, 0.0]]


@pytest.mark.parametrize(
    ("length", "images"),
    [
        (["trainer.limit_train_batches=100"], 3 * 100 * 64),
        (["trainer.limit_train_batches=0.5"], 3 * 429 * 64),
        (["trainer.limit_train_batches=100", "trainer.gpus=2"], 3 * 100 * 64 * 2),
        (["trainer.overfit_batches=10"], 3 * 10 * 64),
        (["trainer.limit_train_batches=7", "model.discriminator_steps=5"], 3 * 5 * 64),
        (["datamodule.batch_size=30_000"], 3 * 30_000),  # the other 25,000 are dropped
    ],
)
def test_the_decay_ends_with_epochs_of_fewer_images(
    typed: Compose, length: list[str], images: int
) -> None:
    cfg = typed("model/schedules=decay", "trainer.max_epochs=3", *length)
    assert cfg.model.schedules.lr.points == [[images // 2, 1.0], [images, 0.0]]


@pytest.mark.parametrize(
    ("devices", "count"),
    [
        (["trainer.gpus=-1"], 8),
        (["trainer.gpus=auto"], 8),
        (["trainer.gpus='0,1'"], 2),
        (["trainer.gpus=2", "trainer.num_nodes=3"], 6),
        (["trainer.accelerator=gpu"], 8),
        (["trainer.accelerator=cpu", "trainer.gpus=4"], 1),
        (["trainer.accelerator=cpu", "trainer.devices=2"], 2),
        (["trainer.gpus=99"], 99),
    ],
)
def test_the_decay_counts_every_device_of_a_machine_with_eight(
    typed: Compose, monkeypatch: pytest.MonkeyPatch, devices: list[str], count: int
) -> None:
    monkeypatch.setattr("src.configuration.devices.n_gpus", lambda: 8)
    cfg = typed("model/schedules=decay", "trainer.max_steps=100", *devices)
    assert cfg.model.schedules.lr.points[1] == [100 * 64 * count, 0.0]


def test_a_run_without_an_end_has_no_decay(typed: Compose) -> None:
    with pytest.raises(InputError, match=r"model.schedules end with the run, which has no end: "):
        typed("model/schedules=decay", "trainer.max_epochs=null")


def recorded(run: Path, *lines: str) -> Path:
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*lines]))
    return run


COMMAND = "++callbacks.x.command='touch trace'"
FOREIGN = [
    ["++callbacks.x={_target_: torch.utils.collect_env.run, command: 'touch trace'}"],
    ["++callbacks.x._target_=torch.utils.collect_env.run", COMMAND],
    ["++callbacks.x._target_=src.files.os.system", COMMAND],
    ["++model.loss._target_=tests.trace.x"],
    ["model.loss._target_=tests.trace.x"],
    ["++datamodule.seed={_target_: tests.trace.x}"],
    ["++logger.x=[{a: [{_target_: tests.trace.x}]}]"],
    ["++callbacks.x='${oc.create:{_target_:tests.trace.x}}'"],
    ["++debug=tests", "++callbacks.x._target_='${debug}.trace.x'"],
]


@pytest.mark.parametrize("lines", FOREIGN, ids=" ".join)
def test_a_run_that_names_foreign_code_is_not_resumed(
    typed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "trace.py").write_text("open('trace', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"the record of .* names .*type its option again beside"):
        typed(f"resume={recorded(tmp_path / 'run', *lines)}")
    assert not Path("trace").exists()


def test_the_name_of_a_run_s_folder_makes_nothing_trusted(typed: Compose, tmp_path: Path) -> None:
    run = recorded(tmp_path / "torch.utils.collect_env.run", *FOREIGN[1])
    with pytest.raises(InputError, match=r"the record of .* names torch.utils.collect_env.run, "):
        typed(f"resume={run}")


def test_a_record_cannot_send_a_run_into_another_folder(typed: Compose, tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", f"++run_dir={tmp_path / 'victim'}")
    with pytest.raises(InputError, match=r"would have it write into .*victim: remove run_dir"):
        typed(f"resume={run}")


def test_what_a_run_usually_names_is_resumed(typed: Compose, tmp_path: Path) -> None:
    stop = "+callbacks.stop={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: x}"
    lines = ["experiment=train_mnist_gan.yaml", "logger=many_loggers", stop, "++seed=3"]
    cfg = typed(f"resume={recorded(tmp_path / 'run', *lines)}")
    assert (cfg.seed, cfg.callbacks.stop.monitor) == (3, "x")


def test_what_the_user_types_again_is_resumed(typed: Compose, tmp_path: Path) -> None:
    probe = "+callbacks.probe={_target_: tests.ddp_probe.Probe, folder: x}"
    run = recorded(tmp_path / "run", probe)
    with pytest.raises(InputError, match=r"names tests.ddp_probe.Probe, which is none of"):
        typed(f"resume={run}")
    assert typed(f"resume={run}", f"+{probe}").callbacks.probe.folder == "x"
