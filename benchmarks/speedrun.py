"""How long an experiment trains until its digits are good, on the validation images.

    make speedrun
    python benchmarks/speedrun.py [OVERRIDE ...] [--experiments NAME ...] [--seeds 1 2 3]
        [--beat RUN] [--again]

The project's own command trains each experiment at each seed, one run after the other, and judges
after every epoch. The clock is that of quality.csv: wall time of training, which stands still
meanwhile. It stops at the first evaluation that passes the whole target, whatever comes later.
``--beat`` tells also when the runs were first as good as RUN was in the end.

Runs stay in logs/speedrun/EXPERIMENT/seedS; a finished one is not trained again, an interrupted one
is. The record, a line for the table in docs/speedrun.md, is in logs/speedrun/EXPERIMENT/record.md.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean

import torch
import yaml
from omegaconf import DictConfig

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from src.compare import read_curve, summary
from src.configuration.build import choose_device
from src.configuration.command_line import errors_as_sentences
from src.configuration.container import plain
from src.configuration.prepare import compose_in
from src.errors import InputError
from src.evaluate import versions
from src.metrics.panel import METRICS
from src.reports.figures import Curve

TARGET = {"fid_cnn": 0.60, "label_accuracy": 0.99, "coverage": 0.80}
RESULT = "experiment", "seconds", "images", *TARGET, "passed"
ORIGIN = "hardware", "torch", "commit", "date"
OPTIONS = ["logger=csv", "callbacks.quality.every_n_epochs=1", "test_after_training=false"]

Point = Mapping[str, float]  # a row of quality.csv
Origin = Mapping[str, str]  # what a run was trained on, and when


def first_passing(curve: Curve, target: Point) -> Point | None:
    """The first row that is as good as ``target`` in everything at once."""
    return next((point for point in curve if passes(point, target)), None)


def passes(point: Point, target: Point) -> bool:
    return all(
        point[name] <= value if METRICS[name].better == "lower" else point[name] >= value
        for name, value in target.items()
    )


def when(curves: Sequence[Curve], target: Point, column: str) -> str:
    """``column`` where the curves first passed: mean and standard deviation of those that did."""
    points = [first_passing(curve, target) for curve in curves]
    if not any(points):
        return f"not reached in {mean(curve[-1][column] for curve in curves):,.0f} {column}"
    return summary([point[column] for point in points if point], 0)


def result(name: str, curves: Sequence[Curve]) -> list[str]:
    """What stands under ``RESULT``: when the target was passed, and how good the runs ended."""
    final = [
        summary([curve[-1][each] for curve in curves], METRICS[each].digits) for each in TARGET
    ]
    n_passed = sum(first_passing(curve, TARGET) is not None for curve in curves)
    times = [when(curves, TARGET, column) for column in ("seconds", "images")]
    return [name, *times, *final, f"{n_passed} of {len(curves)}"]


def record(experiment: str, curves: Sequence[Curve], origins: Sequence[Origin]) -> str:
    """The line for the record's table; what differs between the seeds is named for each."""
    where = [" / ".join(sorted({origin[name] for origin in origins})) for name in ORIGIN]
    return line([*result(experiment, curves), *where])


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(columns: Sequence[str], lines: Sequence[str]) -> str:
    return "\n".join([line(columns), line(["---"] * len(columns)), *lines])


def origin(cfg: DictConfig) -> Origin:
    """This machine, the versions of torch and of the code, and today."""
    device = choose_device(cfg)
    gpu = f", {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else ""
    n_cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    code = versions()
    return {
        "hardware": f"{cpu()}, {n_cores} core{'s' * (n_cores > 1)}{gpu}",
        "torch": code["torch"],
        "commit": code["code"],
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def cpu() -> str:
    """The processor's name, which Linux alone keeps in a file."""
    path = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", path.read_text()) if path.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()


def start(folder: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """``python run.py ARGUMENTS`` in a fresh run folder; what it prints goes to ``folder``.log."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "run.py"), *arguments, f"hydra.run.dir='{folder}'"]
    with folder.with_suffix(".log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def last_words(folder: Path) -> str:
    """The last line that a run printed."""
    path = folder.with_suffix(".log")
    *_, last = "", *path.read_text().splitlines()
    return f"{last} ({path})"


def is_finished(folder: Path, cfg: DictConfig) -> bool:
    """Whether the run of ``cfg`` is there; a finished one of another recipe is not replaced."""
    if not (folder / "origin.json").is_file():
        return False
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    changed = [
        part for part in ("model", "datamodule", "trainer") if kept[part] != plain(cfg)[part]
    ]
    if changed:
        raise InputError(
            f"{folder} holds a run with another {' and '.join(changed)}: "
            "move it away, or type --again to replace it"
        )
    print(f"(kept, of {json.loads((folder / 'origin.json').read_text())['commit']}) ", end="")
    return True


def race(folder: Path, arguments: Sequence[str], *, again: bool) -> None:
    """Train, unless that is done; a run counts as finished once its origin is written."""
    arguments = [*OPTIONS, f"data_dir={Path.cwd() / 'data'}/", *arguments]
    cfg = compose_in(folder, *arguments)
    if not again and is_finished(folder, cfg):
        return
    where = origin(cfg)
    code = start(folder, ["print_config=false", *arguments]).wait()
    if code or not (folder / "quality.csv").is_file():
        raise InputError(f"{folder} was not trained and judged: {last_words(folder)}")
    (folder / "origin.json").write_text(json.dumps(where))


def report(folder: Path, runs: Sequence[Path], beat: Path | None) -> str:
    """A line for each seed, the record, and when the runs were as good as another one."""
    curves = [read_curve(run / "quality.csv") for run in runs]
    origins = [json.loads((run / "origin.json").read_text()) for run in runs]
    seeds = [line(result(run.name, [curve])) for run, curve in zip(runs, curves, strict=True)]
    entry = table([*RESULT, *ORIGIN], [record(folder.name, curves, origins)])
    (folder / "record.md").write_text(f"{entry}\n")
    if beat is not None:
        entry += f"\n\n{beaten(beat, curves)}"
    return f"{table(RESULT, seeds)}\n\n{entry}\n"


def beaten(run: Path, curves: Sequence[Curve]) -> str:
    """When the runs were first as good as ``run`` was in the end."""
    curve = read_curve(run / "quality.csv")
    if not curve:
        raise InputError(f"--beat {run} holds no quality.csv: name a run folder")
    last = {name: curve[-1][name] for name in TARGET}
    numbers = ", ".join(f"{name} {value:.{METRICS[name].digits}f}" for name, value in last.items())
    return (
        f"As good as {run} after its {curve[-1]['seconds']:,.0f} seconds ({numbers}): "
        f"seconds {when(curves, last, 'seconds')}, images {when(curves, last, 'images')}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", nargs="+", default=["train_mnist_gan"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--beat", type=Path)
    parser.add_argument("--again", action="store_true")
    options, overrides = parser.parse_known_args()
    for experiment in options.experiments:
        folder = Path.cwd() / "logs" / "speedrun" / experiment
        runs = [folder / f"seed{seed}" for seed in options.seeds]
        for seed, run in zip(options.seeds, runs, strict=True):
            print(f"{experiment}, seed {seed}, seconds to the target: ", end="", flush=True)
            arguments = [f"experiment={experiment}", f"seed={seed}", *overrides]
            race(run, arguments, again=options.again)
            print(when([read_curve(run / "quality.csv")], TARGET, "seconds"))
        print(f"\n{report(folder, runs, options.beat)}", flush=True)


if __name__ == "__main__":
    with errors_as_sentences():
        main()
