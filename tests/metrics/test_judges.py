"""Judges: what is kept, what is verified, and the shipped ones."""

import hashlib
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.errors import InputError
from src.images import Labelled
from src.metrics.judges import (
    ROLES,
    SHIPPED,
    NoJudgesError,
    Record,
    doubt_of,
    load_judges,
    pack,
    read_records,
    save_judges,
    unpack,
)
from src.networks.classifier import Classifier


@pytest.fixture
def own_copy(judged_data: Path, tmp_path: Path) -> Path:
    shutil.copytree(judged_data / "judges", tmp_path / "judges")
    return tmp_path


def test_a_changed_weight_file_is_refused(own_copy: Path) -> None:
    path = own_copy / "judges" / "synthetic-labels.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"labels.safetensors has the sha256 .* restore the file"):
        load_judges("synthetic", n_classes=10, channels=1, data_dir=own_copy)


def test_a_missing_weight_file_is_refused(own_copy: Path) -> None:
    (own_copy / "judges" / "synthetic-features.safetensors").unlink()
    with pytest.raises(InputError, match="restore the file"):
        load_judges("synthetic", n_classes=10, channels=1, data_dir=own_copy)


def test_unknown_data_have_no_judges(tmp_path: Path) -> None:
    with pytest.raises(NoJudgesError, match="task=train_judge datamodule="):
        load_judges("noise", n_classes=10, channels=1, data_dir=tmp_path)


def test_judges_of_other_classes_are_refused(judged_data: Path) -> None:
    with pytest.raises(
        NoJudgesError, match="know 10 classes and 1 channels, these data have 4 and"
    ):
        load_judges("synthetic", n_classes=4, channels=1, data_dir=judged_data)


def test_judges_of_other_mirror_images_or_another_split_are_doubted(judged_data: Path) -> None:
    judges = load_judges("synthetic", n_classes=10, channels=1, data_dir=judged_data)
    trained_on = judges.records["labels"].trained_on
    assert doubt_of(judges, trained_on=trained_on, flip=False) is None
    said = str(doubt_of(judges, trained_on=trained_on, flip=True))
    assert "labels.safetensors: learned without mirror images, which these data have;" in said
    assert "not known to have" in str(doubt_of(judges, trained_on="another", flip=False))
    records = {role: replace(each, flip=True) for role, each in judges.records.items()}
    said = str(doubt_of(replace(judges, records=records), trained_on=trained_on, flip=False))
    assert "learned with mirror images, which these data have not;" in said


def test_judges_read_as_the_rounded_network_does(judged_data: Path) -> None:
    judges = load_judges("synthetic", n_classes=10, channels=1, data_dir=judged_data)
    images = torch.randint(256, (7, 1, 28, 28), dtype=torch.uint8)
    seen = judges.read(Labelled(images, torch.arange(7)))
    x = images / 127.5 - 1
    probabilities = judges.labels(x).softmax(1)
    assert torch.equal(seen.predictions, probabilities.argmax(1))
    torch.testing.assert_close(seen.confidence, probabilities[torch.arange(7), torch.arange(7)])
    torch.testing.assert_close(seen.features, judges.features.features(x), atol=1e-5, rtol=1e-4)


def test_the_two_judges_are_independent(judged_data: Path) -> None:
    judges = load_judges("synthetic", n_classes=10, channels=1, data_dir=judged_data)
    first, second = (net.body[0].weight.flatten() for net in (judges.features, judges.labels))
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.3
    assert len(set(judges.sha256s.values())) == 2


def test_packing_keeps_weights_to_half_precision_and_saving_keeps_other_data(
    tmp_path: Path,
) -> None:
    network, copy = (Classifier(channels=1, n_classes=3).eval() for _ in range(2))
    unpack(pack(network), into=copy)
    x = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(network(x), copy(x), atol=0.02, rtol=0.02)
    record = Record("f", "0", 0.9, 0, 1, 3, "")
    for name in ("ours", "theirs"):
        save_judges(tmp_path, name, dict.fromkeys(ROLES, (b"", record)))
    assert set(read_records(tmp_path)) == {"ours", "theirs"}


def test_judges_that_are_saved_at_the_same_time_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_slowly(folder: Path) -> dict[str, Any]:
        records = read_records(folder)
        time.sleep(0.2)
        return records

    monkeypatch.setattr("src.metrics.judges.read_records", read_slowly)
    names = ["a", "b", "c"]
    made = [dict.fromkeys(ROLES, (b"", Record(name, "0", 0.9, 0, 1, 3, ""))) for name in names]
    with ThreadPoolExecutor() as pool:
        [*pool.map(save_judges, [tmp_path] * 3, names, made)]
    assert set(read_records(tmp_path)) == set(names)
    assert {path.name for path in tmp_path.iterdir()} == {*names, "judges.json"}


def test_a_judge_made_here_goes_before_the_shipped_one(judged_data: Path, tmp_path: Path) -> None:
    records = json.loads((judged_data / "judges" / "judges.json").read_text())
    shutil.copytree(judged_data / "judges", tmp_path / "judges")
    (tmp_path / "judges" / "judges.json").write_text(json.dumps({"mnist": records["synthetic"]}))
    made, shipped = (
        load_judges("mnist", n_classes=10, channels=1, data_dir=folder)
        for folder in (tmp_path, judged_data)
    )
    assert made.records["labels"].file == "synthetic-labels.safetensors"
    assert shipped.records["labels"].file == "mnist-labels.safetensors"


def test_shipped_judges_read_the_digits_of_the_readme_s_picture() -> None:
    with Image.open(Path(__file__).parents[2] / "images" / "train_mnist_gan.png") as picture:
        pixels = torch.from_numpy(np.asarray(picture.convert("L"))[::2, ::2].copy())
    tiles = pixels[2:, 2:].unfold(0, 28, 30).unfold(1, 28, 30)  # 8 rows of the ten digits
    labels = torch.arange(10).repeat(8)
    judges = load_judges("mnist", n_classes=10, channels=1, data_dir=Path("nowhere"))
    seen = judges.read(Labelled(tiles.reshape(80, 1, 28, 28), labels))
    assert (seen.predictions == labels).float().mean() > 0.95
    assert judges.features(seen.images / 127.5 - 1).argmax(1).eq(labels).float().mean() > 0.95


def test_shipped_judges_are_small_intact_and_accurate() -> None:
    records = json.loads((SHIPPED / "judges.json").read_text())
    files = [record["file"] for pair in records.values() for record in pair.values()]
    assert all((SHIPPED / file).stat().st_size <= 3_000_000 for file in files)
    least = {"mnist": 0.995, "fashion_mnist": 0.92, "cifar10": 0.90}
    for name, record in ((name, each) for name, pair in records.items() for each in pair.values()):
        assert record["test_accuracy"] >= least[name]
        content = (SHIPPED / record["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == record["sha256"]
        load_judges(
            name, n_classes=record["n_classes"], channels=record["channels"],
            data_dir=Path("nowhere"),
        )  # fmt: skip
    network = load_judges("mnist", n_classes=10, channels=1, data_dir=Path("nowhere")).labels
    assert sum(weight.numel() for weight in network.parameters()) <= 250_000
