"""When a run passes a target, and the line that says so."""

import json
import re
from pathlib import Path

import pytest
import yaml

from benchmarks.speedrun import (
    ORIGIN,
    RESULT,
    TARGET,
    beaten,
    first_passing,
    is_finished,
    last_words,
    record,
    table,
    when,
)
from src.compare import read_curve
from src.configuration.container import plain
from src.errors import InputError
from tests.toys import Compose

PAGE = Path(__file__).parents[2] / "docs" / "speedrun.md"
HERE = {"hardware": "a CPU, 2 cores", "torch": "2.15.0", "commit": "abc", "date": "2026-11-22"}
BETTER = {"fid_cnn": -0.1, "label_accuracy": 0.001, "coverage": 0.01}


def curve(*passing: bool, epoch_s: float = 10.0) -> list[dict[str, float]]:
    """One evaluation after another, each on one side of the target in everything."""
    signs = [1 if good else -1 for good in passing]
    return [
        {name: TARGET[name] + sign * BETTER[name] for name in TARGET}
        | {"seconds": epoch_s * i, "images": 1_000.0 * i}
        for i, sign in enumerate(signs, start=1)
    ]


def test_the_first_passing_row_counts_also_where_it_is_lost_again() -> None:
    passed = curve(False, True, False)
    assert first_passing(passed, TARGET) == passed[1]
    assert first_passing(curve(False, False), TARGET) is None
    assert first_passing([], TARGET) is None


def test_reaching_the_target_exactly_passes() -> None:
    assert first_passing([TARGET], TARGET) == TARGET


@pytest.mark.parametrize("name", TARGET)
def test_everything_must_hold_at_once(name: str) -> None:
    (point,) = curve(True)
    assert first_passing([point], TARGET)
    assert first_passing([point | {name: TARGET[name] - BETTER[name]}], TARGET) is None


def test_quality_csv_gives_the_row(tmp_path: Path) -> None:
    path = tmp_path / "quality.csv"
    path.write_text(
        "epoch,step,images,seconds,fid_cnn,label_accuracy,coverage\n"
        "1,859,54976,50.5,1.9,0.995,0.9\n2,1718,109952,99.5,0.4,0.995,0.9\n"
    )
    target = {"fid_cnn": 0.5, "label_accuracy": 0.99, "coverage": 0.8}
    found = first_passing(read_curve(path), target)
    assert found is not None
    assert (found["seconds"], found["images"]) == (99.5, 109_952)


def test_times_are_averaged_over_the_seeds_that_passed() -> None:
    curves = [curve(False, True), curve(False, True, epoch_s=12.0), curve(False, False)]
    assert when(curves, TARGET, "seconds") == "22 ± 3"
    assert when(curves, TARGET, "images") == "2,000 ± 0"
    assert when(curves[2:], TARGET, "seconds") == "not reached in 20 seconds"


def test_the_record_is_one_line_under_its_columns() -> None:
    curves = [curve(False, True), curve(False, True, epoch_s=12.0)]
    line = record("e", curves, [HERE, HERE | {"commit": "abd"}])
    cells = dict(zip([*RESULT, *ORIGIN], line.strip("| ").split(" | "), strict=True))
    final = {name: f"{TARGET[name] + BETTER[name]:.3f} ± 0.000" for name in TARGET}
    final["label_accuracy"] = f"{TARGET['label_accuracy'] + 0.001:.4f} ± 0.0000"
    assert cells == HERE | final | {
        "experiment": "e", "seconds": "22 ± 3", "images": "2,000 ± 0", "passed": "2 of 2",
        "commit": "abc / abd",
    }  # fmt: skip


def test_its_page_has_the_same_target_and_columns() -> None:
    page = PAGE.read_text()
    assert table([*RESULT, *ORIGIN], []) in page
    assert [f"{value:.2f}" for value in TARGET.values()] == re.findall(
        r"0\.\d\d", page.partition("- The target")[2].partition("\n- ")[0]
    )


def test_another_run_is_beaten_where_its_last_row_is_passed(tmp_path: Path) -> None:
    (tmp_path / "quality.csv").write_text(
        "seconds,fid_cnn,label_accuracy,coverage\n9,0.1,1.0,1.0\n735,4.42,0.943,0.495\n"
    )
    point = {"fid_cnn": 4.0, "label_accuracy": 0.95, "coverage": 0.5, "images": 640.0}
    late = [point | {"seconds": 5.0, "coverage": 0.4}, point | {"seconds": 10.0}]
    assert beaten(tmp_path, [late]).endswith(
        "735 seconds (fid_cnn 4.420, label_accuracy 0.9430, coverage 0.495): seconds 10, images 640"
    )
    with pytest.raises(InputError, match=r"holds no quality\.csv: name a run folder"):
        beaten(tmp_path / "nowhere", [late])


def test_only_a_finished_run_of_the_same_recipe_is_kept(typed: Compose, tmp_path: Path) -> None:
    cfg = typed("seed=1")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain(cfg)))
    assert not is_finished(tmp_path, cfg)
    (tmp_path / "origin.json").write_text(json.dumps(HERE))
    assert is_finished(tmp_path, cfg)
    with pytest.raises(InputError, match=r"another model: .* type --again to replace it"):
        is_finished(tmp_path, typed("seed=1", "model.lr=0.5"))


def test_the_last_line_of_a_failed_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "seed1.log").write_text("epoch 1\nerror: g_loss is not finite\n")
    assert last_words(tmp_path / "seed1").startswith("error: g_loss is not finite (")
