"""Each row is the flagship without one part, and trains on schedules of its own length."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from benchmarks.ablation import (
    FLAGSHIP,
    choose,
    draw,
    median_speed,
    planned,
    results,
    rows,
    spread,
    summarize,
)
from src.configuration.build import build_model
from src.configuration.container import plain
from src.configuration.prepare import compose_in
from src.errors import InputError
from tests.toys import Compose

FLAGSHIP_OPTIONS = [
    "experiment=train_mnist_gan", "model.penalties.r1_r2.weight=0.3", "data_dir=data",
]  # fmt: skip
CHANGED = {
    FLAGSHIP: set(),
    "non_saturating": {"model.loss"},
    "hinge": {"model.loss"},
    "least_squares": {"model.loss"},
    "no_r1": {"model.penalties"},
    "no_r2": {"model.penalties"},
    "finite_differences": {"model.penalties"},
    "no_label_matching": {"model.terms"},
    "discriminator_concat": {"model.discriminator", "model.terms"},
    "generator_concat": {"model.generator"},
    "generator_without_norm": {"model.generator"},
    "generator_without_hidden": {"model.generator"},
    "discriminator_without_hidden": {"model.discriminator"},
    "no_ema": {"model.ema_halflife_images"},
    "constant_lr": {"model.schedules"},
    "half_width": {"model.generator", "model.discriminator"},
    "double_width": {"model.generator", "model.discriminator"},
    "half_batch": {"datamodule.batch_size"},
    "double_batch": {"datamodule.batch_size"},
    "resnet_generator": {"model.generator"},
    "style_generator": {"model.generator"},
    "translation": {"model.augment"},
}


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """The flagship's config, with what is typed in addition."""
    return partial(compose_in, tmp_path_factory.mktemp("run"), *FLAGSHIP_OPTIONS)


@pytest.fixture(scope="module")
def flagship(typed: Compose) -> DictConfig:
    return typed()


def parts(cfg: DictConfig) -> dict[str, Any]:
    groups = {group: plain(cfg)[group] for group in ("model", "datamodule")}
    return {f"{group}.{key}": each for group in groups for key, each in groups[group].items()}


def test_every_row_is_expected_here(flagship: DictConfig) -> None:
    assert list(rows(flagship)) == list(CHANGED)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGED)
def test_each_row_builds_and_changes_what_it_says(
    typed: Compose, flagship: DictConfig, name: str
) -> None:
    cfg = typed(*rows(flagship)[name])
    build_model(cfg)
    old, new = parts(flagship), parts(cfg)
    assert {key for key in old if old[key] != new[key]} == CHANGED[name]


@pytest.mark.parametrize(
    ("name", "left"),
    [("no_r1", {"r2"}), ("no_r2", {"r1"}), ("finite_differences", {"fd_r1", "fd_r2"})],
)
def test_swapped_penalties_keep_the_weight(
    typed: Compose, flagship: DictConfig, name: str, left: set[str]
) -> None:
    penalties = typed(*rows(flagship)[name]).model.penalties
    assert {key: each.weight for key, each in penalties.items()} == dict.fromkeys(left, 0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "factor"), [("half_width", 0.5), ("double_width", 2)])
def test_widths_start_from_what_the_flagship_says(typed: Compose, name: str, factor: float) -> None:
    explicit = "model.generator.widths=[48,24]"
    model = typed(explicit, *rows(typed(explicit))[name]).model
    assert model.generator.widths == [factor * 48, factor * 24]
    assert model.discriminator.widths == [factor * 16, factor * 8]


def test_neither_the_first_steps_nor_a_pause_make_the_speed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logged = "50,100,0.5\n100,210,0.5\n100,,0.5\n150,200,0.5\n200,1,0.5\n250,205,0.5\n"
    path.write_text(f"step,images_per_second,train/g_loss\n{logged}")
    assert median_speed(path) == 200


def test_a_row_keeps_its_images_and_its_recipe(tmp_path: Path) -> None:
    recipe = {"seconds": 240.0, "model": {"lr": 1e-5, "penalties": {}}}
    assert planned(tmp_path, recipe) is None
    OmegaConf.save(recipe | {"images": 1234.5}, tmp_path / "plan.yaml")
    assert planned(tmp_path, recipe) == 1234.5
    with pytest.raises(InputError, match="was made with other seconds: move it away, or type"):
        planned(tmp_path, recipe | {"seconds": 10.0})


def test_rows_are_chosen_in_their_order_and_with_the_flagship() -> None:
    offered = [FLAGSHIP, "hinge", "no_ema"]
    assert choose(offered, None) == offered
    assert choose(offered, ["no_ema"]) == [FLAGSHIP, "no_ema"]
    with pytest.raises(InputError, match="no row hing: choose of flagship, hinge, no_ema"):
        choose(offered, ["hing"])


def finish(folder: Path, fid: float) -> None:
    folder.mkdir(parents=True)
    row = {
        "images": 64_000,
        "seconds": 240.0,
        "fid_cnn": fid,
        "label_accuracy": 0.99,
        "coverage": 0.8,
    }
    with (folder / "quality.csv").open("w") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerows([row | {"fid_cnn": 99.0}, row])


def test_the_table_has_means_ranges_and_ratios_to_the_flagship(tmp_path: Path) -> None:
    for name, fids in {FLAGSHIP: (0.4, 0.6), "hinge": (1.0, 2.0), "no_ema": (1.0,)}.items():
        for seed, fid in enumerate(fids, start=1):
            finish(tmp_path / name / f"seed{seed}", fid)
    found = results(tmp_path, [FLAGSHIP, "hinge", "no_ema"], [1, 2])
    assert summarize(found).splitlines()[2:] == [
        "| flagship | 64,000 | 240 | 0.500 (0.400 to 0.600) | 0.9900 | 0.800 | 1.00 |",
        "| hinge | 64,000 | 240 | 1.500 (1.000 to 2.000) | 0.9900 | 0.800 | 3.00 |",
        "| no_ema | did not finish |  |  |  |  |  |",
    ]
    draw(tmp_path / "ablation.png", found)
    assert (tmp_path / "ablation.png").stat().st_size > 1_000


def test_one_seed_has_no_range() -> None:
    assert spread([2.0], 1) == "2.0"
    assert spread([1.0, 3.0], 1) == "2.0 (1.0 to 3.0)"
