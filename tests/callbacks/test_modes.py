"""Modes are what is measured of stacked digits while training, because the data set says so."""

import csv
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from src.callbacks.quality import share
from src.callbacks.samples import SampleGrid
from src.configuration.build import build_datamodule, build_model
from src.configuration.prepare import compose_in
from src.datamodules.in_memory import InMemoryDataModule
from src.errors import InputError
from src.generate import load_model
from src.metrics.modes import count_modes, digit_judges, read_modes
from src.train import train
from tests.toys import N_STACKED, STACKED, Compose

pytestmark = pytest.mark.usefixtures("digits")
TINY = [*STACKED, "trainer.max_epochs=3", "callbacks.quality.every_n_epochs=2"]


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digits: None) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(compose_in(folder, *TINY, f"data_dir={folder}"))
    return folder


@pytest.mark.slow
def test_it_goes_to_the_csv_and_the_loggers_with_seconds_and_images(run: Path) -> None:
    table = rows(run / "quality.csv")
    assert [(row["epoch"], row["images"]) for row in table] == [(2, 512), (3, 768)]
    assert 0 < table[0]["seconds"] < table[1]["seconds"]
    logged = [row for row in rows(run / "metrics.csv") if "val/kl" in row]
    for row, kept in zip(logged, table, strict=True):
        for name in ("modes", "kl"):
            assert row[f"val/{name}"] == pytest.approx(kept[name])
            assert row[f"real/{name}"] == pytest.approx(kept[f"real_{name}"])
    assert (run / "quality.png").stat().st_size > 1_000


@pytest.mark.slow
def test_it_is_what_the_judge_reads_in_fixed_images_and_in_training_triples(run: Path) -> None:
    gan, judges = load_model(run / "checkpoints" / "last.ckpt"), digit_judges(data_dir=run)
    assert gan.ema is not None
    latents = gan.draw_noise(N_STACKED, torch.Generator().manual_seed(0))
    fake = gan.generate(latents, torch.zeros(N_STACKED, dtype=torch.int64))
    datamodule = build_datamodule(compose_in(run, *STACKED))
    assert isinstance(datamodule, InMemoryDataModule)
    datamodule.setup("fit")
    kept = rows(run / "quality.csv")[-1]
    for prefix, images in (("", fake), ("real_", datamodule.parts["train"].images[:N_STACKED])):
        for name, value in count_modes(read_modes(judges, images)).items():
            assert kept[f"{prefix}{name}"] == pytest.approx(value)


@pytest.mark.slow
def test_the_best_checkpoint_has_the_lowest_divergence(run: Path) -> None:
    best = min(rows(run / "quality.csv"), key=lambda row: row["kl"])
    names = [path.stem for path in (run / "checkpoints").glob("best-*.ckpt")]
    assert names == [f"best-{int(best['step']):09d}"]


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_images_that_one_process_makes(typed: Compose, world_size: int) -> None:
    gan = build_model(typed(*STACKED))
    strategy = SimpleNamespace(broadcast=lambda buffer: buffer)

    def made_by(rank: int, of: int) -> Iterator[tuple[int, torch.Tensor]]:
        trainer: Any = SimpleNamespace(global_rank=rank, world_size=of, strategy=strategy)
        for rows, fake in share(trainer, gan, torch.zeros(2_500, dtype=torch.int64)):
            yield from zip(rows.tolist(), fake.images, strict=True)

    alone = dict(made_by(0, of=1))
    together = [pair for rank in range(world_size) for pair in made_by(rank, of=world_size)]
    assert sorted(row for row, _ in together) == list(alone) == list(range(2_500))
    assert all(torch.equal(image, alone[row]) for row, image in together)


def test_more_than_the_real_triples_are_refused(typed: Compose) -> None:
    with pytest.raises(InputError, match=r"n=257 .* 256 training triples: type callbacks.quality"):
        train(typed(*TINY, "callbacks.quality.n=257"))


def test_the_data_set_alone_is_enough(typed: Compose) -> None:
    cfg = typed("experiment=train_mnist_gan", "datamodule=stacked_mnist", "model/terms=none")
    model, datamodule = build_model(cfg), build_datamodule(cfg)
    assert model.n_classes == 1
    assert datamodule.dataset.evaluation.measured == ("kl", "modes")
    assert SampleGrid("unused", rows=2).draw(model).width == 2 * (10 * 30 + 2)
