"""From a checkpoint or a file to a report that a person and a program can read."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from src.configuration.build import ready_data
from src.configuration.prepare import compose_in
from src.errors import InputError
from src.evaluate import Subject, evaluate, from_file, keep_in_run
from src.generate import generate, load_model, sample
from src.images import Labelled
from src.metrics.evaluation import Findings
from src.metrics.footing import in_turn
from src.metrics.modes import count_modes, digit_judges, read_modes
from src.metrics.panel import METRICS
from src.train import train
from src.train_judge import train_judge
from tests.toys import BARS, N_STACKED, STACKED, Compose

N = 70  # per class


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, judged_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    arguments = [*BARS, "ignore_warnings=true", "trainer.max_epochs=1", "logger=null"]
    train(compose_in(folder, *arguments, f"data_dir={judged_data}"))
    return folder


def report_on(folder: Path, data_dir: Path, *arguments: str) -> dict[str, Any]:
    evaluate(compose_in(folder, "task=evaluate", f"data_dir={data_dir}", *arguments))
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory, trained: Path, judged_data: Path
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("evaluation")
    return report_on(folder, judged_data, f"ckpt={trained}", f"n={N}", "cas_seeds=2", "seed=3")


def test_the_report_says_what_was_measured_and_by_whom(
    report: dict[str, Any], trained: Path, judged_data: Path
) -> None:
    rows = report["rows"]
    assert set(rows) == {"generated", "real", "noise"}
    assert all(set(METRICS) - {"modes", "kl"} <= set(row) for row in rows.values())
    assert report["n"] == 10 * N
    assert report["class_counts"] == [N] * 10
    assert report["n_real"]["seen"] == 10 * N >= report["n_real"]["unseen"] > 64
    source = dict(report["source"])
    assert source.pop("ms_per_image") > 0
    assert source == {
        "ckpt": str(trained / "checkpoints" / "last.ckpt"), "epoch": 0, "step": 23, "seed": 3,
        "n_evaluations": 1, "sampling": {},
    }  # fmt: skip
    records = json.loads((judged_data / "judges" / "judges.json").read_text())["synthetic"]
    assert report["judges"] == records
    assert {len(md5) for md5 in report["data"]["md5"].values()} == {32}
    assert report["version"]["code"]
    assert np.array(report["confusion"]).sum() == pytest.approx(10)
    accuracies = report["label_accuracy_per_class"].values()
    assert np.mean([*accuracies]) == pytest.approx(rows["generated"]["label_accuracy"])


def test_a_barely_trained_generator_lies_between_real_images_and_noise(
    report: dict[str, Any],
) -> None:
    generated, real, noise = (report["rows"][name] for name in ("generated", "real", "noise"))
    assert real["fid_cnn"] < 1 < generated["fid_cnn"]
    assert real["coverage"] > 0.9 > 0.1 > noise["coverage"]
    assert real["label_accuracy"] > 0.9
    assert "cas_standard_deviation" in generated
    assert "cas_standard_deviation" not in noise


@pytest.mark.parametrize(
    ("task", "verb"), [("generate", generate), ("evaluate", evaluate), ("train_judge", train_judge)]
)
def test_every_task_obeys_the_trainers_gpus(
    task: str, verb: Callable[[DictConfig], None], trained: Path, judged_data: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    source = [f"ckpt={trained}"] if task != "train_judge" else BARS
    cfg = compose_in(tmp_path, f"task={task}", *source, f"data_dir={judged_data}", "trainer.gpus=1")
    with pytest.raises(InputError, match=r"trainer\.gpus=1 but this machine has 0 GPUs"):
        verb(cfg)


def test_the_run_folder_keeps_its_newest_evaluation(report: dict[str, Any], trained: Path) -> None:
    assert json.loads((trained / "evaluation.json").read_text()) == report
    with Image.open(trained / "evaluation.png") as picture:
        picture.verify()


@pytest.mark.parametrize("look", [["n=65", "cas_seeds=0"], [f"n={N}", "cas_seeds=0"]])
def test_a_quick_look_does_not_replace_a_longer_report(
    report: dict[str, Any], trained: Path, judged_data: Path, tmp_path: Path, look: list[str]
) -> None:
    kept = (trained / "evaluation.json").read_bytes()
    report_on(tmp_path, judged_data, f"ckpt={trained}", *look)
    assert (trained / "evaluation.json").read_bytes() == kept


def test_a_report_of_former_weights_gives_way_to_any(
    report: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").touch()
    older = report | {"source": report["source"] | {"step": report["source"]["step"] - 1}}
    (tmp_path / "evaluation.json").write_text(json.dumps(older))
    keep_in_run(tmp_path, report | {"n": 1}, b"picture")
    assert json.loads((tmp_path / "evaluation.json").read_text())["n"] == 1
    assert (tmp_path / "evaluation.png").read_bytes() == b"picture"


def test_a_run_keeps_its_own_report_whatever_else_writes_into_the_folder(
    trained: Path, judged_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "evaluation.json").unlink(missing_ok=True)

    def another_evaluation_ends(*_: Any) -> None:
        for path in (tmp_path / "metrics.json", tmp_path / "evaluation.png"):
            path.write_text("of another run")

    monkeypatch.setattr("src.evaluate.show", another_evaluation_ends)
    cfg = compose_in(
        tmp_path, "task=evaluate", f"data_dir={judged_data}", f"ckpt={run}", "n=65", "cas_seeds=0"
    )
    evaluate(cfg)
    kept = json.loads((run / "evaluation.json").read_text())
    assert kept["source"]["ckpt"] == str(run / "checkpoints" / "last.ckpt")
    assert (run / "evaluation.png").read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_at_the_root_has_no_run_folder(
    typed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = Labelled(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64))
    rows = {"generated": {}, "real": {}, "noise": {}}
    evaluation = SimpleNamespace(
        doubt=lambda: None,
        judges=SimpleNamespace(records={}),
        full=lambda images, cas_seeds: Findings(rows=rows, md5s={}),
    )
    source = {"ckpt": "/x.ckpt", "step": 1, "sampling": {}, "n_evaluations": 1, "ms_per_image": 1.0}
    subject = Subject(nothing, evaluation, "x", ["all"], source)
    monkeypatch.setattr("src.evaluate.from_checkpoint", lambda cfg: subject)
    monkeypatch.setattr("src.evaluate.draw_findings", lambda found, file, title: None)
    evaluate(typed("task=evaluate", "ckpt=/x.ckpt"))
    assert json.loads((tmp_path / "metrics.json").read_text())["source"] == subject.source


def test_a_file_of_its_images_scores_as_the_checkpoint_does(
    report: dict[str, Any], trained: Path, judged_data: Path, tmp_path: Path
) -> None:
    generate(compose_in(tmp_path, "task=generate", f"ckpt={trained}", f"n={N}", "seed=3"))
    file = f"samples={tmp_path / 'samples.npz'}"
    from_file = report_on(tmp_path, judged_data, *BARS, file, "cas_seeds=0")
    # Equal labels in another order have other latents, so that only the distribution agrees.
    for name in ("fid_cnn", "intra_class_fid"):
        assert from_file["rows"]["generated"][name] == pytest.approx(
            report["rows"]["generated"][name], rel=0.1
        )
    assert from_file["rows"]["real"]["fid_cnn"] == report["rows"]["real"]["fid_cnn"]
    assert from_file["source"] == {"samples": str(tmp_path / "samples.npz")}


def test_images_of_a_file_are_judged_with_their_classes_in_turn(
    typed: Compose, judged_data: Path, tmp_path: Path
) -> None:
    """Parts of them then have the class frequencies of the whole, as the floor has."""
    labels = np.repeat(np.arange(10), [70, 80, 90, 100, 70, 70, 70, 70, 70, 70])
    images = np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (len(labels), 1, 28, 28))
    np.savez(tmp_path / "sorted.npz", images=images, labels=labels)
    file = f"samples={tmp_path / 'sorted.npz'}"
    judged = from_file(typed("task=evaluate", *BARS, file, f"data_dir={judged_data}")).images
    assert torch.equal(judged.labels, in_turn(torch.from_numpy(np.bincount(labels))))
    assert torch.equal(judged.images[:, 0, 0, 0].long(), judged.labels)


def test_another_data_set_than_the_checkpoint_s_is_refused(
    trained: Path, judged_data: Path, tmp_path: Path
) -> None:
    cfg = compose_in(tmp_path, "task=evaluate", f"ckpt={trained}", "datamodule=fashion_mnist")
    message = "on Synthetic, not on FashionMNIST: leave datamodule=fashion_mnist out"
    with pytest.raises(InputError, match=message):
        evaluate(cfg)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["n=64"], r"n=64 has 64 images of class 0, too few .* give at least 65 of each class"),
        (["ckpt=null"], "type either ckpt=PATH, ckpt=latest or samples=FILE"),
        (["samples=x.npz"], "judges one thing"),
        (["ckpt=null", "samples=nowhere.npz", *BARS], "samples=nowhere.npz does not exist"),
        (["data_dir=nowhere"], "there are no judges for the data set synthetic"),
    ],
)
def test_bad_input_is_refused(
    trained: Path, judged_data: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        report_on(tmp_path, judged_data, f"ckpt={trained}", "cas_seeds=0", *arguments)


def test_a_test_split_that_is_too_small_is_refused(
    typed: Compose, judged_data: Path, tmp_path: Path
) -> None:
    arrays = {"images": np.full((700, 1, 28, 28), 9, np.uint8), "labels": np.arange(700) % 10}
    np.savez(tmp_path / "black.npz", **arrays)
    split = "datamodule.train_val_test_split=[1024,256,64]"
    small = ["datamodule=synthetic", split, f"samples={tmp_path / 'black.npz'}", "cas_seeds=0"]
    with pytest.raises(InputError, match="64 test images are too few"):
        evaluate(typed("task=evaluate", *small, f"data_dir={judged_data}"))


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory, digits: None) -> Path:
    folder = tmp_path_factory.mktemp("stacked")
    train(compose_in(folder, *STACKED, "trainer.max_steps=1", f"data_dir={folder}"))
    return folder


@pytest.mark.slow
def test_stacked_digits_are_judged_by_their_modes(
    stacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_on(tmp_path, stacked, f"ckpt={stacked}", "seed=3")
    gan, judges = load_model(stacked / "checkpoints" / "last.ckpt"), digit_judges(data_dir=stacked)
    (images,) = sample(gan, torch.zeros(N_STACKED, dtype=torch.int64), seed=3)
    assert report["rows"]["generated"] == count_modes(read_modes(judges, images))
    data = ready_data(compose_in(tmp_path, *STACKED, f"data_dir={stacked}"))
    real = data.parts["train"].images[:N_STACKED]
    assert report["rows"]["real"] == count_modes(read_modes(judges, real))
    assert report["n"] == N_STACKED
    assert report["rows"]["noise"] == {"modes": 1, "kl": pytest.approx(math.log(1_000))}
    assert report == json.loads((stacked / "evaluation.json").read_text())
    with Image.open(stacked / "evaluation.png") as picture:
        picture.verify()
    assert "kl, to equally many of each" in capsys.readouterr().out


@pytest.mark.slow
def test_a_file_of_stacked_digits_scores_as_the_checkpoint_does(
    stacked: Path, tmp_path: Path
) -> None:
    of_run = report_on(tmp_path, stacked, f"ckpt={stacked}", "seed=3")["rows"]
    for n in (N_STACKED, 257):
        generate(compose_in(tmp_path, "task=generate", f"ckpt={stacked}", f"n={n}", "seed=3"))
        file = [*STACKED, f"samples={tmp_path / 'samples.npz'}"]
        if n == N_STACKED:
            assert report_on(tmp_path, stacked, *file)["rows"] == of_run
        else:
            with pytest.raises(
                InputError, match="257 images, which do not compare with 256 training tri"
            ):
                report_on(tmp_path, stacked, *file)
