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
    cfg = typed("model/schedules=decay", "trainer.max_epochs=20", "trainer.max_steps=100", *devices)
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
    ["++datamodule.dataset={_target_: tests.trace.x}"],
    ["++datamodule.dataset._target_=tests.trace.x"],
    ["++datamodule.dataset.x=[{_target_: tests.trace.x}]"],
    ["++debug=tests", "++datamodule.dataset._target_='${debug}.trace.x'"],
    ["++datamodule.dataset='${oc.create:{_target_:tests.trace.x}}'"],
    ["++datamodule.dataset.seed='${oc.create:{_target_:tests.trace.x}}'"],
    ["++debug=tests", "++callbacks.x._target_='${debug}.trace.x'"],
]


@pytest.mark.parametrize("text", [r"\${oc.env:HOME}", r"\${oc.create:{_target_:tests.trace.x}}"])
def test_no_text_of_a_data_set_is_evaluated_twice(
    typed: Compose, tmp_path: Path, text: str
) -> None:
    run = recorded(tmp_path / "run", f"++datamodule.dataset.data_dir='{text}'")
    with pytest.raises(InputError, match=r"datamodule.dataset holds \$\{oc.*, which would be eval"):
        typed(f"resume={run}")


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


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ([], (10, 1, 28)),
        (["datamodule=fashion_mnist"], (10, 1, 28)),
        (["datamodule=fashion_mnist", "model.img_size=32"], (10, 1, 32)),
        (["datamodule=stacked_mnist"], (1, 3, 28)),
        (["experiment=train_mnist_gan", "datamodule=stacked_mnist"], (1, 3, 28)),
        (["experiment=stacked_mnist"], (1, 3, 28)),
        (["datamodule=synthetic", "datamodule.dataset.channels=3"], (10, 3, 28)),
        (
            ["datamodule=synthetic", "datamodule.dataset.n_classes=4", "model.n_classes=4"],
            (4, 1, 28),
        ),
        (["datamodule=synthetic", "datamodule.dataset.size=16"], (10, 1, 16)),
    ],
)
def test_the_model_has_the_shape_of_the_data(
    typed: Compose, arguments: list[str], numbers: tuple[int, int, int]
) -> None:
    cfg = typed(*arguments)
    assert (cfg.model.n_classes, cfg.model.channels, cfg.model.img_size) == numbers
    assert cfg.datamodule.img_size == numbers[2]
    for network in (cfg.model.generator, cfg.model.discriminator):
        assert (network.n_classes, network.channels, network.img_size) == numbers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.n_classes=5"], "model.n_classes=5, but mnist has 10: leave it out, or type "
         "model.n_classes=10"),
        (["datamodule=stacked_mnist", "model.channels=1"], "model.channels=1, but stacked_mnist "
         "has 3: leave it out, or type model.channels=3"),
        (["datamodule.dataset._target_=torch.nn.Identity", "~datamodule.dataset.data_dir"],
         "datamodule.dataset._target_=torch.nn.Identity is no data set: name a class that derives "
         "from DataSet"),
        (["datamodule.dataset.data_dri=x"], "there is no key datamodule.dataset.data_dri: did you "
         "mean datamodule.dataset.data_dir?"),
        (["datamodule.dataset=mnist"], "datamodule.dataset=mnist is not allowed: type "
         "datamodule.dataset.KEY=VALUE for each of its keys"),
    ],
)  # fmt: skip
def test_what_contradicts_the_data_is_one_sentence(
    typed: Compose, arguments: list[str], message: str
) -> None:
    with pytest.raises(InputError) as refusal:
        typed(*arguments)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("typed_options", "key"),
    [
        (["trainer.max_epochs=drei"], "trainer.max_epochs=drei"),
        (["trainer.max_epochs=[]"], "trainer.max_epochs=[]"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0"),
        (["model.discriminator_steps=0"], "model.discriminator_steps=0"),
        (["datamodule.batch_size=many"], "datamodule.batch_size=many"),
        (["datamodule.train_val_test_split=[]"], "datamodule.train_val_test_split=[]"),
        (
            ["datamodule=stacked_mnist", "datamodule.train_val_test_split=0"],
            "datamodule.train_val_test_split=0",
        ),
    ],
)
def test_what_schedules_cannot_compute_with_is_named_as_it_was_typed(
    typed: Compose, typed_options: list[str], key: str
) -> None:
    with pytest.raises(InputError) as caught:
        typed(*typed_options)
    assert str(caught.value).startswith(f"{key} is not allowed: type ")
