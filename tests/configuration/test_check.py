"""Every shipped configuration is accepted; every kind of mistake is named, with what to type."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import zip_longest
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import pytest
from hydra import compose, initialize_config_dir

from src.configuration.check import accepted, check, check_saved_model, describe, fits
from src.configuration.container import plain
from src.configuration.guesses import CONFIGS
from src.configuration.prepare import take_shape_of_data
from src.configuration.schema import INSTEAD
from src.errors import InputError
from tests.toys import Compose, assert_says, own_pictures

GROUPS = [
    "task",
    "model/generator",
    "model/discriminator",
    "model/loss",
    "model/penalties",
    "model/schedules",
    "model/terms",
    "model/augment",
    "datamodule",
    "logger",
    "trainer",
    "callbacks",
]
CHOICES = [
    [f"{group}={path.stem}" for path in sorted((CONFIGS / group).glob("*.yaml"))]
    for group in GROUPS
]
# One of each group together, because composing takes a tenth of a second.
COMBINATIONS = [
    *([*filter(None, row)] for row in zip_longest(*CHOICES)),
    *(["model=flow", f"model/solver={path.stem}"] for path in CONFIGS.glob("model/solver/*.yaml")),
    *(["model=vae", f"model/generator={path.stem}"] for path in CONFIGS.glob("model/generator/*")),
    ["model=mnist_gan_model"],
]
# But these alone: they set keys of the networks that they choose.
EXPERIMENTS = [
    [f"{path.parent.name}={path.stem}"]
    for group in ("experiment", "hparams_search")
    for path in sorted(CONFIGS.glob(f"{group}/*.yaml"))
]


def composed(*overrides: str) -> dict[str, Any]:
    """The configuration with the numbers of its data; folders that Hydra alone knows are given."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("config", overrides=[*overrides, "work_dir=/tmp", "run_dir=/tmp/run"])
    take_shape_of_data(cfg)
    return plain(cfg)


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    return composed()


def changed(config: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one key set, made on the way if need be."""
    copy = node = deepcopy(dict(config))
    *parents, key = path.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    node[key] = value
    return copy


def refusal(config: Mapping[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        check(config)
    return str(caught.value)


def test_the_default_configuration_is_accepted(default: dict[str, Any]) -> None:
    check(default)


@pytest.mark.parametrize("options", [*COMBINATIONS, *EXPERIMENTS], ids=" ".join)
def test_every_option_on_disk_is_accepted(options: list[str], tmp_path: Path) -> None:
    is_own = any("image_folder" in option or "sign_digits" in option for option in options)
    check(composed(*options, *(own_pictures(tmp_path) if is_own else [])))


def test_penalties_combine() -> None:
    config = composed("model/penalties=[r1,r2]")
    assert [*config["model"]["penalties"]] == ["r1", "r2"]
    check(config)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trainer.fast_dev_run", True),
        ("trainer.fast_dev_run", 3),
        ("trainer.gpus", "0,1"),
        ("trainer.gpus", [0, 1]),
        ("trainer.gpus", None),
        ("trainer.accelerator", "cpu"),
        ("trainer.devices", 2),
        ("trainer.max_epochs", None),
        ("trainer.limit_train_batches", 0.5),
        ("trainer.precision", "bf16-mixed"),
        ("model.lr", 1),
        ("model.lr", 1e-4),
        ("model.ema_halflife_images", None),
        ("model.ema_halflife_images", 50_000),
        (
            "model.penalties.r1",
            {"_target_": "src.models.gan.penalties.ZeroCentered", "weight": 1, "at": "real"},
        ),
        ("model.penalties", {}),
        (
            "model.schedules.lr",
            {"_target_": "src.models.schedules.Linear", "points": [[0, 1], [1_000, 0.5]]},
        ),
        ("logger", {}),
        ("callbacks", {}),
        ("labels", "all"),
        ("labels", "cat"),
        ("labels", ["cat", 3]),
        ("labels", 5),
        ("labels", [0, 1]),
        ("ckpt", "latest"),
        ("optimized_metric", "val/g_loss"),
        ("seed", 0),
        ("seed", 2**32 - 1),
    ],
)
def test_what_people_change_is_accepted(default: dict[str, Any], path: str, value: Any) -> None:
    check(changed(default, path, value))


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("sed", "seed"),
        ("print_confg", "print_config"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("trainer.gpu", "trainer.gpus"),
        ("model.latent_dims", "model.latent_dim"),
        ("model.schedules.gama", "model.schedules.gamma"),
        ("model.generator.latent_dims", "model.generator.latent_dim"),
        ("model.generator_optimizer.beta", "model.generator_optimizer.betas"),
        ("datamodule.batchsize", "datamodule.batch_size"),
        ("callbacks.sample_grid.row", "callbacks.sample_grid.rows"),
        ("callbacks.model_checkpoint.moniter", "callbacks.model_checkpoint.monitor"),
        ("logger.csv.save_directory", "logger.csv.save_dir"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_valid_one(
    default: dict[str, Any], path: str, nearest: str
) -> None:
    message = refusal(changed(default, path, 1))
    assert_says(message, f"no key {path}:", f"did you mean {nearest}?")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("xyzzy", "seed"), ("model.xyzzy", "latent_dim"), ("callbacks.sample_grid.xyzzy", "folder")],
)
def test_a_key_that_resembles_none_is_refused_with_all_that_are_allowed(
    default: dict[str, Any], path: str, allowed: str
) -> None:
    start, _, listed = refusal(changed(default, path, 1)).partition(": allowed there: ")
    assert start == f"there is no key {path}"
    assert allowed in listed.split(", ")


@pytest.mark.parametrize("path", INSTEAD)
def test_a_key_of_other_names_is_refused_with_its_own(default: dict[str, Any], path: str) -> None:
    message = refusal(changed(default, path, 1))
    assert_says(message, f"there is no key {path}", f"use {INSTEAD[path]}")


@pytest.mark.parametrize("key", ["available", "logger", "callbacks"])
def test_what_the_program_itself_passes_to_the_trainer_is_refused(
    default: dict[str, Any], key: str
) -> None:
    assert f"trainer.{key}" in refusal(changed(default, f"trainer.{key}", 1))


@pytest.mark.parametrize(
    ("path", "value", "allowed"),
    [
        ("trainer.max_epochs", "abc", "an integer or null"),
        ("trainer.max_epochs", 1.5, "an integer or null"),
        ("trainer.max_epochs", True, "an integer or null"),
        ("trainer.gpus", True, "an integer or a text or a list, each item an integer or null"),
        ("trainer.gpus", [True], "an integer or a text or a list, each item an integer or null"),
        ("trainer.limit_val_batches", "half", "an integer or a number or null"),
        ("model.lr", "fast", "a number"),
        ("model.lr", True, "a number"),
        ("model.lr", None, "a number"),
        ("model.latent_dim", 100.0, "an integer"),
        ("model.ema_halflife_images", "long", "a number or null"),
        ("seed", 1.5, "an integer"),
        ("seed", True, "an integer"),
        ("seed", None, "an integer"),
        ("n", "many", "an integer"),
        ("n", True, "an integer"),
        ("n", [16], "an integer"),
        ("labels", 5.0, "a text or an integer or a list, each item a text or an integer"),
        ("labels", True, "a text or an integer or a list, each item a text or an integer"),
        ("labels", [5.0], "a text or an integer or a list, each item a text or an integer"),
        ("labels", None, "a text or an integer or a list, each item a text or an integer"),
        (
            "task",
            "trian",
            "train or generate or evaluate or compare or train_judge or export or search",
        ),
        ("debug", "yes", "true or false"),
        ("debug", 1, "true or false"),
        ("ckpt", 5, "a text or null"),
        ("datamodule.batch_size", [1], "an integer"),
        ("datamodule.batch_size", True, "an integer"),
        ("datamodule.batch_size", "big", "an integer"),
        ("datamodule.train_val_test_split", [1, "a", 2], "a list, each item an integer"),
        ("datamodule.pin_memory", 1, "true or false"),
        ("callbacks.sample_grid.rows", "many", "an integer"),
    ],
)
def test_a_wrong_type_is_refused_with_the_right_one(
    default: dict[str, Any], path: str, value: Any, allowed: str
) -> None:
    message = refusal(changed(default, path, value))
    assert_says(message, f"{path}={value} is not", f"type {path}=VALUE")
    assert message.endswith(f" {allowed}")


@pytest.mark.parametrize(
    ("path", "value", "instead"),
    [
        ("model.generator", None, "model/generator=NAME, with one of dcgan, mlp, resnet, style"),
        ("model.loss", "hinge", "model/loss=hinge"),
        ("model.schedules.lr", 0.5, "model.schedules.lr.KEY=VALUE for each of its keys"),
        ("callbacks.sample_grid", None, "callbacks.sample_grid.KEY=VALUE for each of its keys"),
        ("datamodule.train_val_test_split", 7, "'datamodule.train_val_test_split=[7]'"),
    ],
)
def test_a_value_in_the_place_of_a_group_or_list_is_refused_with_what_is_meant(
    default: dict[str, Any], path: str, value: Any, instead: str
) -> None:
    message = refusal(changed(default, path, value))
    assert_says(message, f"{path}={value} is not", f"type {instead}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**20, [0.5, float("nan")]])
@pytest.mark.parametrize("path", ["model.lr", "trainer.limit_train_batches", "trainer.devices"])
def test_numbers_that_no_option_can_mean_are_refused(
    default: dict[str, Any], path: str, value: Any
) -> None:
    assert f"{path}={value} is not allowed" in refusal(changed(default, path, value))


@pytest.mark.parametrize(
    ("path", "value", "meant"),
    [
        ("lr", 1e-4, "model.lr?"),
        ("b1", 0, "model.b1?"),
        ("gpus", 1, "trainer.gpus?"),
        ("epochs", 3, "trainer.max_epochs?"),
        ("batch_size", 3, "datamodule.batch_size?"),
        ("loss", "hinge", "model/loss=hinge?"),
        ("penalties", "r3", "model/penalties=NAME, with one of fd_r1, "),
        ("experment", "train_mnist_gan", "experiment=train_mnist_gan?"),
        ("wandb", True, "logger.wandb? It comes with logger=wandb"),
        ("project", "thesis", "logger.wandb.project? It comes with logger=wandb"),
    ],
)
def test_an_unknown_key_is_looked_for_in_the_whole_tree(
    default: dict[str, Any], path: str, value: Any, meant: str
) -> None:
    message = refusal(changed(default, path, value))
    assert message.startswith(f"there is no key {path}: did you mean {meant}")


def test_a_key_of_another_option_is_said_to_come_with_that_one() -> None:
    """Where it was typed for the option that is not there, it is not guessed as itself."""
    config = composed("model/generator=mlp")
    message = refusal(changed(config, "model.generator.hidden", 8))
    assert_says(
        message, "no key model.generator.hidden: it comes with model/generator=dcgan",
        "~model.generator.hidden",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "bound"),
    [("seed", -1, "0 or more"), ("seed", 2**32, "4294967295 or less"), ("n", 0, "1 or more")],
)
def test_a_number_out_of_bounds_is_refused_with_the_bound(
    default: dict[str, Any], path: str, value: int, bound: str
) -> None:
    message = refusal(changed(default, path, value))
    assert_says(message, f"{path}={value} is not", f"type {path}={bound}")


def test_a_missing_argument_is_refused_with_what_to_add(default: dict[str, Any]) -> None:
    node = {"_target_": "src.models.gan.penalties.ZeroCentered", "at": "real"}
    message = refusal(changed(default, "model.penalties.r1", node))
    assert_says(message, "model.penalties.r1 lacks weight", "add model.penalties.r1.weight=VALUE")


def test_a_partial_call_may_lack_arguments(default: dict[str, Any]) -> None:
    node = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}
    check(changed(default, "model.generator_optimizer", node))
    message = refusal(changed(default, "model.generator_optimizer", node | {"_partial_": False}))
    assert message.endswith("add model.generator_optimizer.params=VALUE")


def test_positional_arguments_are_accepted(default: dict[str, Any]) -> None:
    parts = [{"_target_": "torch.nn.Identity"}, {"_target_": "torch.nn.Identity"}]
    node = {"_target_": "torch.nn.Sequential", "_args_": parts}
    check(changed(default, "model.generator", node))


@pytest.mark.parametrize("path", ["model.generator", "model.loss", "datamodule"])
def test_a_part_without_a_target_is_refused(default: dict[str, Any], path: str) -> None:
    assert path in refusal(changed(default, path, {}))


@pytest.mark.parametrize("path", ["datamodule", "logger", "trainer", "seed", "model.loss"])
def test_a_missing_key_is_refused(default: dict[str, Any], path: str) -> None:
    config = deepcopy(default)
    *parents, key = path.split(".")
    node = config[parents[0]] if parents else config
    del node[key]
    assert path in refusal(config)


@pytest.mark.parametrize(
    "target", ["src.networks.mpl.Generator", "src.networks.mlp.Generater", "nothing"]
)
def test_a_target_that_cannot_be_imported_is_refused(default: dict[str, Any], target: str) -> None:
    message = refusal(changed(default, "model.generator._target_", target))
    assert message.startswith(f"model.generator._target_={target} cannot be imported: ")


def test_a_target_that_cannot_be_imported_is_reported_once(
    default: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    refusal(changed(default, "model.generator._target_", "src.networks.mlp.Generater"))
    assert caplog.messages == []


def test_what_a_target_itself_checks_is_left_to_it(default: dict[str, Any]) -> None:
    """A signature with ``**kwargs`` says nothing about the keys that it takes."""
    node = {"_target_": "pytorch_lightning.loggers.CometLogger", "anything": 1}
    check(changed(default, "logger.comet", node))


NEWER = {"schedules", "terms", "augment"}


def test_a_saved_model_may_be_older_than_a_group_of_parts(default: dict[str, Any]) -> None:
    old = {key: value for key, value in default["model"].items() if key not in NEWER}
    check_saved_model(old)
    with pytest.raises(InputError, match="model lacks penalties"):
        check_saved_model({key: value for key, value in old.items() if key != "penalties"})


def test_a_saved_model_names_no_foreign_code_in_a_list_either(default: dict[str, Any]) -> None:
    hidden = {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "pathlib.Path"}]}
    with pytest.raises(InputError, match=r"names pathlib.Path, which is none of"):
        check_saved_model(default["model"] | {"generator": hidden})


@pytest.mark.parametrize(
    ("hint", "accepted", "refused"),
    [
        (int, [0, -1], [True, 1.0, "1", None, [1]]),
        (float, [0, 1.5], [False, "1", None]),
        (bool, [True, False], [0, 1, "true", None]),
        (str, ["", "a"], [1, None, ["a"]]),
        (NoneType, [None], [0, "", False]),
        (int | None, [None, 3], ["3", 3.0, True]),
        (list[int], [[], [1, 2]], [[True], [1.5], 1, "12", None]),
        (Literal["real", "fake"], ["real", "fake"], ["Real", None, 1]),
    ],
)
def test_types_fit_exactly(hint: Any, accepted: list[Any], refused: list[Any]) -> None:
    assert all(fits(value, hint) for value in accepted)
    assert not any(fits(value, hint) for value in refused)


def test_types_are_described_in_words() -> None:
    assert describe(int | list[float] | None) == "an integer or a list, each item a number or null"


@pytest.mark.parametrize("value", [None, "none", 3])
def test_schedules_that_are_no_group_are_refused(typed: Compose, value: Any) -> None:
    config = plain(typed())
    with pytest.raises(InputError, match=r"model.schedules=.* is not allowed: type model/sch"):
        check(config | {"model": config["model"] | {"schedules": value}})


def test_a_type_imported_for_checkers_alone_hides_no_other() -> None:
    def of_a_user(weight: Any, images: Any, steps: Any) -> None: ...

    of_a_user.__annotations__ = {"weight": "float", "images": "Tensor", "steps": "Sequence[int]"}
    assert accepted(of_a_user) == {"weight": float, "images": Any, "steps": Sequence[int]}
