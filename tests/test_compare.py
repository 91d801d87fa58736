"""Runs side by side: seeds are averaged, other differences are not, and wrong pairs are refused."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from src.compare import (
    best,
    compare,
    expanded,
    experiment_of,
    read_run,
    summary,
    table,
    values,
    without_places,
)
from src.errors import InputError
from src.metrics.panel import METRICS
from tests.toys import Compose

POINT = {"fid_cnn": 2.0, "label_accuracy": 0.9, "coverage": 0.4}
REAL = {f"real_{name}": value for name, value in POINT.items()}


def make_run(
    folder: Path, *, seed: int, fid: float | None, lr: float = 1e-3, n: int = 50_000,
    counts: tuple[int, ...] = (25_000, 25_000),
) -> Path:  # fmt: skip
    """A run folder as training and evaluation leave it."""
    folder.mkdir()
    apart = f"seed: {seed}\nthreads: {seed}\nrun_dir: {folder}\n"
    config = f"{apart}model:\n  lr: {lr}\ndatamodule:\n  seed: {seed}\n"
    (folder / "config.yaml").write_text(config)
    with (folder / "quality.csv").open("w") as file:
        rows = [POINT | REAL | {"seconds": 10.0 * i, "images": 640.0 * i} for i in (1, 2)]
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    if fid is not None:
        row: dict[str, Any] = dict.fromkeys(METRICS, 0.5) | {"fid_cnn": fid}
        report = {
            "n": n, "class_counts": counts,
            "data": {"md5": {"test": "abcd"}}, "judges": {"features": {"sha256": "ef"}},
            "rows": {"generated": row, "real": row | {"fid_cnn": 0.1}},
        }  # fmt: skip
        (folder / "evaluation.json").write_text(json.dumps(report))
    return folder


@pytest.mark.slow
def test_seeds_of_one_experiment_share_a_column_with_their_spread(
    typed: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        make_run(tmp_path / "a", seed=1, fid=1.0),
        make_run(tmp_path / "b", seed=2, fid=3.0),
        make_run(tmp_path / "c", seed=1, fid=7.0, lr=1e-4),
    ]
    compare(typed("task=compare", f"runs=[{','.join(map(str, runs))}]"))
    (line,) = (x for x in capsys.readouterr().out.splitlines() if "fid_cnn, to test" in x)
    assert [cell.strip() for cell in line.split("│")[2:-1]] == ["2.000 ± 1.414", "7.000", "0.100"]
    assert (tmp_path / "compare.png").stat().st_size > 1_000


def test_only_seed_threads_and_places_may_differ_within_an_experiment(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", seed=1, fid=1.0)
    b = make_run(tmp_path / "b", seed=2, fid=1.0)
    c = make_run(tmp_path / "c", seed=1, fid=1.0, lr=2e-3)
    assert experiment_of(a) == experiment_of(b) != experiment_of(c)


def test_time_and_images_are_those_of_the_last_evaluation(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "a", seed=1, fid=None))
    assert [point["seconds"] for point in run.curve] == [10, 20]
    assert values([run], "fid_cnn") == []
    assert len(table([[run]]).rows) == 2  # nothing else is known


def make_sweep(folder: Path) -> Path:
    """Two learning rates, two seeds each; the third job is the best."""
    folder.mkdir()
    for i, (lr, seed, fid) in enumerate([(1, 1, 4.0), (1, 2, 6.0), (2, 1, 2.0), (2, 2, 3.0)]):
        run = make_run(folder / str(i), seed=seed, fid=fid, lr=lr)
        (run / ".hydra").mkdir()
        line = f"[experiment=train_mnist_gan, model.lr={lr}, seed={seed}]"
        (run / ".hydra" / "overrides.yaml").write_text(line)
    return folder


def test_a_sweep_is_its_jobs_under_the_options_that_tell_them_apart(
    typed: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    sweep = make_sweep(tmp_path / "sweep")
    with caplog.at_level("INFO"):
        compare(typed("task=compare", f"runs={sweep}"))
    head, *_ = (x for x in capsys.readouterr().out.splitlines() if "model.lr" in x)
    assert [cell.strip() for cell in head.split("┃")[2:4]] == ["model.lr=1", "model.lr=2"]
    assert f"best fid_cnn: 2.500, of model.lr=2 ({sweep / '2'})" in caplog.text


def test_before_any_evaluation_the_best_is_that_of_the_curves(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / name, seed=1, fid=None, lr=i))
            for i, name in enumerate("ab")]  # fmt: skip
    runs[1].curve[-1]["fid_cnn"] = 1.5
    assert (
        best([[run] for run in runs])
        == f"best fid_cnn: 1.500, of {tmp_path / 'b'} ({tmp_path / 'b'})"
    )
    assert best([[runs[0]]]) is None


def test_jobs_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 0):
        (tmp_path / str(number) / ".hydra").mkdir(parents=True)
        (tmp_path / str(number) / ".hydra" / "overrides.yaml").touch()
    assert [Path(name).name for name in expanded([str(tmp_path)])] == ["0", "9", "10"]
    assert expanded(["logs/a", "logs/b"]) == ["logs/a", "logs/b"]


def test_summary_is_the_mean_and_sample_deviation() -> None:
    assert summary([1.0, 2.0, 3.0], 2) == "2.00 ± 1.00"
    assert summary([12_345.6], 0) == "12,346"
    assert summary([], 2) == ""
    assert summary([1.0, 3.0], 1, of=3) == "2.0 ± 1.4 (2 of 3)"


def test_evaluations_of_different_size_do_not_compare(typed: Compose, tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", seed=1, fid=1.0)
    b = make_run(tmp_path / "b", seed=2, fid=1.0, n=10_000)
    with pytest.raises(InputError, match=r"do not compare .*50,000 images.*10,000 images"):
        compare(typed("task=compare", f"runs=[{a},{b}]"))


def test_evaluations_of_other_class_frequencies_do_not_compare(
    typed: Compose, tmp_path: Path
) -> None:
    a = make_run(tmp_path / "a", seed=1, fid=1.0)
    b = make_run(tmp_path / "b", seed=2, fid=1.0, counts=(30_000, 20_000))
    message = r"do not compare .*equally many of each class.* of classes \[30000, 20000\]"
    with pytest.raises(InputError, match=message):
        compare(typed("task=compare", f"runs=[{a},{b}]"))


def test_what_is_no_run_or_alone_is_refused(typed: Compose, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", seed=1, fid=1.0)
    with pytest.raises(InputError, match=r"type runs=\[FOLDER,FOLDER\]"):
        compare(typed("task=compare", f"runs=[{run}]"))
    (tmp_path / "empty").mkdir()
    for other, message in {
        "empty": r"holds neither an evaluation nor quality\.csv",
        "nowhere": "nowhere is not a folder",
        "a": "names a folder twice",
    }.items():
        with pytest.raises(InputError, match=message):
            compare(typed("task=compare", f"runs=[{run},{tmp_path / other}]"))


@pytest.mark.parametrize("content", ["{}", "[]", '{"rows": '])
def test_a_damaged_report_is_refused(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path / "a", seed=1, fid=1.0)
    (run / "evaluation.json").write_text(content)
    with pytest.raises(InputError, match="is not a report of task=evaluate: make it again"):
        read_run(run)


def test_other_checkpoints_to_start_from_and_monitors_are_other_experiments(
    tmp_path: Path,
) -> None:
    runs = [make_run(tmp_path / name, seed=1, fid=1.0) for name in "abc"]
    for run, line in zip(
        runs[1:], ("ckpt: /elsewhere/last.ckpt", "monitor: val/fid_cnn"), strict=True
    ):
        with (run / "config.yaml").open("a") as file:
            file.write(f"{line}\n")
    assert len({experiment_of(run) for run in runs}) == 3


@pytest.mark.parametrize("name", ["data", "ckpt"])
def test_folders_of_pictures_are_other_experiments_wherever_they_are(
    tmp_path: Path, name: str
) -> None:
    runs = [make_run(tmp_path / each, seed=1, fid=1.0) for each in "abc"]
    for run, place in zip(runs, ("here/cats", "here/dogs", "here/cats"), strict=True):
        with (run / "config.yaml").open("a") as file:
            file.write(f"work_dir: {tmp_path}/here\n{name}: {tmp_path}/{place}\n")
            file.write(f"datamodule:\n  dataset:\n    data: {tmp_path}/{place}\n")
    cats, dogs, also_cats = map(experiment_of, runs)
    assert cats == also_cats != dogs


def test_only_what_lies_below_a_place_is_one() -> None:
    found = without_places({"a": "/x/run/1", "b": "/x/run2/1", "c": "/x/run"}, ("/x/run",))
    assert found == {"a": "", "b": "/x/run2/1", "c": ""}
