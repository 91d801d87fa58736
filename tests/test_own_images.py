"""From ``data=PATH`` on the command line to a run, its checkpoint, and the same data elsewhere."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.configuration.prepare import compose_in
from src.errors import InputError
from src.generate import data_of, generate, load_model
from src.train import train
from tests.toys import Compose, assert_says

OWN = ["datamodule=image_folder", "datamodule.batch_size=2", "model=mnist_gan_model"]


def paint(root: Path, *classes: str) -> Path:
    noise = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(20):
            pixels = noise.integers(256, size=(9, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("own") / "pets", "cat", "dog")


def test_a_path_is_all_that_is_needed(typed: Compose, pets: Path) -> None:
    cfg = typed(*OWN, f"data={pets}")
    assert (cfg.model.n_classes, cfg.model.channels, cfg.model.img_size) == (2, 3, 32)
    assert cfg.datamodule.train_val_test_split == [32, 4, 4]
    cfg = typed(*OWN, f"data={pets}", "model.img_size=64", "datamodule.dataset.channels=1")
    assert (cfg.datamodule.dataset.size, cfg.datamodule.img_size) == (64, 64)
    assert cfg.model.channels == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (OWN, ["needs a folder of pictures", "type data=PATH"]),
        (["data=nowhere"], ["read by datamodule=image_folder alone"]),
        ([*OWN, "data=nowhere"], ["nowhere is no folder", "type data=PATH"]),
    ],
)
def test_a_missing_path_is_one_sentence(
    typed: Compose, arguments: list[str], said: list[str]
) -> None:
    with pytest.raises(InputError) as refusal:
        typed(*arguments)
    assert_says(refusal.value, *said)


def test_sizes_are_not_typed(typed: Compose, pets: Path) -> None:
    with pytest.raises(InputError, match=r"has \[32, 4, 4\]: leave it out"):
        typed(*OWN, f"data={pets}", "datamodule.train_val_test_split=[30,5,5]")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pets: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    short = ["trainer.max_steps=2", "logger=null", "ignore_warnings=true", f"data={pets}"]
    train(compose_in(folder, *OWN, *short))
    return folder


def test_a_run_shows_its_classes_in_colour(run: Path) -> None:
    with Image.open(run / "samples" / "epoch_0001.png") as picture:
        assert picture.mode == "RGB"
        assert picture.width == 2 * (2 * 34 + 2)  # a column for each class


def test_generating_needs_no_data(run: Path, typed: Compose, tmp_path: Path) -> None:
    generate(typed("task=generate", f"ckpt={run}", "labels=dog", "n=3", "format=png"))
    assert len([*(tmp_path / "dog").glob("*.png")]) == 3


def test_the_data_are_found_again_and_elsewhere(
    run: Path, typed: Compose, pets: Path, tmp_path: Path
) -> None:
    model = load_model(run)
    assert model.class_names == ["cat", "dog"]
    here = data_of(typed("task=evaluate", f"ckpt={run}"), model)
    assert here.dataset.root == pets
    moved = paint(tmp_path / "moved", "cat", "dog")
    (moved / "cat" / "0.png").unlink()
    there = data_of(typed("task=evaluate", f"ckpt={run}", f"data={moved}"), model)
    assert there.dataset.root == moved
    assert len(there.train_set) == 31
    other = paint(tmp_path / "other", "cat", "hen")
    with pytest.raises(
        InputError, match="has the classes cat, hen, and the checkpoint knows cat, dog"
    ):
        data_of(typed("task=evaluate", f"ckpt={run}", f"data={other}"), model)
