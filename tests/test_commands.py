"""Every command line that users know composes, and does what it says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from src.configuration.build import (
    build_datamodule,
    build_model,
    build_trainer,
    choose_device,
    trainer_arguments,
)
from src.configuration.devices import DDP
from src.configuration.guesses import CONFIGS
from src.datamodules.in_memory import InMemoryDataModule
from src.errors import InputError
from src.models.gan.augment import Translation
from src.networks import mlp
from tests.toys import Compose, own_pictures

HISTORICAL = {
    "seed": 12345,
    "model.lr": 2e-4,
    "model.b1": 0.5,
    "model.b2": 0.999,
    "model.n_classes": 10,
    "model.latent_dim": 100,
    "model.channels": 1,
    "datamodule.batch_size": 64,
    "datamodule.train_val_test_split": [55_000, 5_000, 10_000],
    "datamodule.num_workers": 0,
    "datamodule.pin_memory": False,
    "trainer.gpus": 0,
    "test_after_training": True,
}
EXPERIMENT = HISTORICAL | {"model.img_size": 28, "trainer.max_epochs": 20}

FLAGSHIP = {
    "seed": 12345,
    "model.loss._target_": "src.models.gan.losses.Relativistic",
    "model.penalties.r1_r2._target_": "src.models.gan.penalties.ZeroCenteredPair",
    "model.terms.label_matching.fakes": False,
    "model.latent_dim": 64,
    "datamodule.batch_size": 64,
    "trainer.gpus": 0,
}

COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("", FLAGSHIP | {"trainer.max_epochs": 7}),
    ("model=mnist_gan_model trainer.max_epochs=20", EXPERIMENT),
    ("experiment=mnist_mlp_baseline", EXPERIMENT),
    ("experiment=train_mnist_gan model=mnist_gan_model trainer.max_epochs=20", EXPERIMENT),
    ("experiment=train_mnist_gan.yaml", FLAGSHIP),
    ("experiment=train_mnist_gan", FLAGSHIP),
    (
        "experiment=train_mnist_gan trainer.gpus=0 trainer.max_epochs=20 datamodule.batch_size=32",
        FLAGSHIP | {"datamodule.batch_size": 32, "trainer.max_epochs": 20},
    ),
    ("experiment=train_mnist_gan.yaml trainer.gpus=1", {"trainer.gpus": 1}),
    ("experiment=train_mnist_gan.yaml trainer=ddp trainer.gpus=2", {"trainer.gpus": 2}),
    (
        "experiment=train_mnist_gan model.lr=1e-4 model.b1=0.0 model.latent_dim=64"
        " model.img_size=32 seed=7",
        {
            "model.lr": 1e-4,
            "model.lr_d": 1e-4,
            "model.generator_optimizer.betas": [0.0, 0.99],
            "model.generator.latent_dim": 64,
            "datamodule.img_size": 32,
            "datamodule.seed": 7,
        },
    ),
    ("debug=true", {"trainer.fast_dev_run": True, "trainer.gpus": 0}),
    ("debug=false", {"trainer.gpus": 0}),
    ("trainer.fast_dev_run=true", {"trainer.fast_dev_run": True, "datamodule.num_workers": 0}),
    ("trainer.fast_dev_run=3 trainer.gpus=1", {"trainer.fast_dev_run": 3, "trainer.gpus": 0}),
    ("trainer.precision=bf16-mixed", {"trainer.precision": "bf16-mixed"}),
    ("print_config=false", {"print_config": False}),
    (
        "experiment=stacked_mnist",
        {
            "model.generator.n_classes": 1,
            "model.discriminator.channels": 3,
            "model.loss._target_": "src.models.gan.losses.Relativistic",
            "model.schedules.lr.points": [[600_000, 1.0], [1_200_000, 0.0]],
            "callbacks.best_checkpoint.monitor": "auto",
        },
    ),
    ("hparams_search=mnist_grid", {"optimized_metric": "val/fid_cnn"}),
    (
        "hparams_search=mnist_tpe",
        {"task": "search", "search.folder": "logs/searches/mnist_tpe", "search.worker": 0},
    ),
    ("task=evaluate ckpt=x", {"task": "evaluate", "n": 5_000, "cas_seeds": 3, "samples": None}),
    ("task=compare runs=[a,b]", {"task": "compare", "runs": ["a", "b"]}),
    ("task=train_judge", {"task": "train_judge", "print_config": False}),
    ("task=generate labels=[5] n=16 ckpt=x", {"task": "generate", "labels": [5], "n": 16}),
]


@pytest.mark.parametrize(("command", "expected"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_command_composes_to_what_it_says(
    typed: Compose, command: str, expected: dict[str, Any]
) -> None:
    cfg = typed(*command.split())
    flat = {key: OmegaConf.select(cfg, key) for key in expected}
    assert OmegaConf.to_container(OmegaConf.create(flat)) == expected


@pytest.mark.parametrize(
    ("logger", "names"),
    {
        "csv": {"csv"},
        "tensorboard": {"tensorboard"},
        "wandb": {"wandb"},
        "many_loggers": {"csv", "tensorboard", "wandb"},
        "null": set(),
        "none": set(),
    }.items(),
)
def test_each_logger_option_chooses_its_loggers(
    typed: Compose, logger: str, names: set[str]
) -> None:
    assert set(typed("experiment=train_mnist_gan.yaml", f"logger={logger}").logger) == names


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", options("experiment"))
def test_each_experiment_builds_and_generates_images(
    typed: Compose, experiment: str, tmp_path: Path
) -> None:
    own = own_pictures(tmp_path) if experiment == "sign_digits_64" else []
    cfg = typed(f"experiment={experiment}", *own)
    gan = build_model(cfg)
    labels = torch.arange(10) % cfg.model.n_classes
    images = gan.generate(torch.randn(10, *gan.noise_shape), labels)
    assert images.shape == (10, cfg.model.channels, cfg.model.img_size, cfg.model.img_size)
    assert images.dtype == torch.uint8


@pytest.mark.slow
@pytest.mark.parametrize("loss", options("model/loss"))
@pytest.mark.parametrize("penalties", ["none", "[r1,r2]", "r1_r2", "[fd_r1,fd_r2]", "wgan_gp"])
def test_each_objective_builds(typed: Compose, loss: str, penalties: str) -> None:
    gan = build_model(
        typed("model=small_gan", f"model/loss={loss}", f"model/penalties={penalties}")
    )
    counts = {"none": 0, "[r1,r2]": 2, "r1_r2": 1, "[fd_r1,fd_r2]": 2, "wgan_gp": 1}
    assert len(gan.game.penalties) == counts[penalties]


def test_augmentations_combine_in_their_order_with_a_probability(typed: Compose) -> None:
    both = ["model/augment=[cutout,color]", "model/schedules=augment", "model.augment_p=0.5"]
    gan = build_model(typed(*both, "trainer.max_epochs=4"))
    names = [type(augmentation).__name__ for augmentation in gan.game.augmentations]
    assert names == ["Cutout", "Brightness", "Saturation", "Contrast"]
    assert gan.augment_p == 0.5
    end = round(0.08 * 4 * 55_000)
    assert [gan.schedules["augment"](n) for n in (0, end // 2, end, 10**9)] == pytest.approx(
        [0, 0.55 / 2, 0.55, 0.55]
    )
    with pytest.raises(InputError, match=r"augment_p=2 is not allowed: type model.augment_p=1 or"):
        typed("model.augment_p=2")


def test_augmentation_is_one_option(typed: Compose) -> None:
    gan = build_model(typed("model/augment=translation", "model.augment.translation.max_pixels=3"))
    assert gan.game.augmentations == [Translation(max_pixels=3)]
    assert build_model(typed()).game.augmentations == []


@pytest.mark.parametrize("terms", ["feature_matching", "auxiliary_classifier"])
def test_terms_are_refused_by_a_discriminator_without_their_method(
    typed: Compose, terms: str
) -> None:
    with pytest.raises(InputError, match=rf"model.terms.{terms} needs a discriminator with a"):
        build_model(typed("model=mnist_gan_model", f"model/terms={terms}"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trainer.gpus=0"], {"accelerator": "cpu", "devices": 1, "strategy": "auto"}),
        (["trainer.gpus=1"], {"accelerator": "gpu", "devices": 1, "strategy": "auto"}),
        (["trainer=ddp"], {"accelerator": "gpu", "devices": 4, "strategy": DDP}),
        (["trainer=ddp", "trainer.gpus=2"], {"accelerator": "gpu", "devices": 2, "strategy": DDP}),
        (
            ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"],
            {"accelerator": "cpu", "devices": 2, "strategy": DDP},
        ),
    ],
)
def test_gpus_become_accelerator_devices_and_strategy(
    typed: Compose, arguments: list[str], expected: dict[str, Any]
) -> None:
    chosen = trainer_arguments(typed(*arguments), available=4)
    assert chosen.items() >= expected.items()
    assert "gpus" not in chosen


MPS = "lightning_fabric.accelerators.mps.MPSAccelerator.is_available"


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for home in ("torch.cuda.device_count", "lightning_fabric.accelerators.cuda.num_cuda_devices"):
        monkeypatch.setattr(home, lambda: 4)
    monkeypatch.setattr(MPS, lambda: False)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("arguments", "device"),
    [
        ([], "cpu"),
        (["debug=true", "trainer.gpus=1"], "cpu"),
        (["trainer.gpus=1"], "cuda:0"),
        (["trainer.gpus=auto"], "cuda:0"),
        (["trainer.gpus=[1]"], "cuda:1"),
        (["trainer.gpus=[2,3]"], "cuda:2"),
        (["trainer=ddp"], "cuda:0"),
        (["trainer.gpus=[3]", "trainer.accelerator=cpu"], "cpu"),
        (["trainer.accelerator=gpu", "trainer.devices=[1]"], "cuda:1"),
    ],
)
def test_a_task_without_a_trainer_takes_the_first_device_of_training(
    typed: Compose, arguments: list[str], device: str
) -> None:
    assert choose_device(typed(*arguments)) == device


def test_the_gpu_of_a_mac_is_one_too(typed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    for home in ("torch.cuda.device_count", "lightning_fabric.accelerators.cuda.num_cuda_devices"):
        monkeypatch.setattr(home, lambda: 0)
    for home in ("torch.backends.mps.is_available", MPS):
        monkeypatch.setattr(home, lambda: True)
    for typed_by_a_user in ("trainer.gpus=1", "trainer.accelerator=mps"):
        assert choose_device(typed(typed_by_a_user)) == "mps:0"


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    "wish", ["trainer.gpus=5", "trainer.gpus=[4]", "trainer.accelerator=mps", "trainer.gpus=two"]
)
def test_an_impossible_device_is_refused_as_in_training(typed: Compose, wish: str) -> None:
    sentences = set()
    for build in (build_trainer, choose_device):
        with pytest.raises(InputError) as caught:
            build(typed(wish))
        sentences.add(str(caught.value))
    assert len(sentences) == 1


def test_another_precision_is_refused(typed: Compose) -> None:
    cfg = typed()
    for precision in ("16", 16, "16-true", "bf16-true", "64", 64, "64-true"):
        OmegaConf.update(cfg, "trainer.precision", precision, force_add=True)
        message = rf"trainer.precision={precision} is not allowed.* type bf16-mixed or 32"
        with pytest.raises(InputError, match=message):
            trainer_arguments(cfg, available=0)


def test_precisions_that_a_gan_trains_in(typed: Compose) -> None:
    cfg = typed()
    for precision in (None, "32", 32, "32-true", "bf16", "bf16-mixed"):
        OmegaConf.update(cfg, "trainer.precision", precision, force_add=True)
        trainer_arguments(cfg, available=0)


STOP = "+callbacks.stop={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/fid_cnn"
ACCUMULATE = "{_target_: pytorch_lightning.callbacks.GradientAccumulationScheduler"


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (
            f"{STOP}}}",
            r"looks for val/fid_cnn in every epoch.*quality.every_n_epochs=1, or.*strict: false",
        ),
        (f"+callbacks.x={ACCUMULATE}, scheduling: {{4: 2}}}}", "larger datamodule.batch_size"),
    ],
)
def test_a_callback_that_fails_in_its_first_epoch_is_refused_before_it(
    typed: Compose, callback: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_trainer(typed(callback, "logger=null"))


@pytest.mark.parametrize(
    "options", [[f"{STOP}, strict: false}}"], [f"{STOP}}}", "callbacks.quality.every_n_epochs=1"]]
)
def test_stopping_early_by_what_is_measured_is_possible(typed: Compose, options: list[str]) -> None:
    build_trainer(typed(*options, "logger=null"))


def test_the_baseline_is_the_historical_pair(typed: Compose) -> None:
    gan = build_model(typed("experiment=mnist_mlp_baseline"))
    assert isinstance(gan.generator, mlp.Generator)
    assert isinstance(gan.discriminator, mlp.Discriminator)
    assert sum(weight.numel() for weight in gan.parameters()) == 2_444_377
    generator_adam, discriminator_adam = gan.configure_optimizers()
    for adam in (generator_adam, discriminator_adam):
        assert isinstance(adam, torch.optim.Adam)
        assert adam.defaults.items() >= {"lr": 2e-4, "betas": (0.5, 0.999)}.items()
    assert gan.ema is None


def test_one_image_size_reaches_networks_and_data(typed: Compose) -> None:
    cfg = typed("model=mnist_gan_model", "model.img_size=32")
    datamodule = build_datamodule(cfg)
    assert isinstance(datamodule, InMemoryDataModule)
    assert datamodule.img_size == 32
    assert build_model(cfg).generator.img_shape == (1, 32, 32)
