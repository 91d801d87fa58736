"""Compare several runs side by side: one table, and one picture of their curves."""

import csv
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml
from omegaconf import DictConfig
from rich.table import Table

from src.errors import InputError
from src.metrics.panel import METRICS
from src.reports.figures import Curve, draw_quality
from src.reports.terminal import command, show
from src.runs.folders import RECORD

log = logging.getLogger(__name__)
# What may differ between runs of one experiment: the seed, and where things are.
PLACES = "run_dir", "work_dir", "data_dir"
APART = "seed", "threads", *PLACES, "resume", "logger", "print_config", "search", "pruning"
WHOLE = "data", "ckpt"  # paths that tell experiments apart, wherever they are


@dataclass(frozen=True)
class Run:
    """The newest evaluation in a run folder or an evaluation folder, and the curve there."""

    name: str  # its folder
    title: str  # what tells it from the others: its folder, or in a sweep its options
    experiment: str  # equal for runs that differ by seed alone
    report: dict[str, Any] | None  # None if it was never evaluated
    curve: Curve  # empty without quality.csv


def compare(cfg: DictConfig) -> None:
    """Print one column per experiment, and draw quality against time and images seen."""
    runs = read_runs(expanded([cfg.runs] if isinstance(cfg.runs, str) else cfg.runs))
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.experiment, []).append(run)
    show(table(list(groups.values())))
    folder = Path(cfg.run_dir)
    curves = {run.name: run.curve for run in runs if run.curve}
    if curves:
        draw_quality(folder / "compare.png", curves)
        log.info(f"in {folder}: compare.png")
    if (found := best(list(groups.values()))) is not None:
        log.info(found)
    for run in runs:
        if run.report is None:
            log.info(f"not evaluated: {command(task='evaluate', ckpt=run.name)}")


def expanded(names: Sequence[str]) -> list[str]:
    """Put the folders of its jobs in the place of each folder that is a sweep's."""
    found: list[str] = []
    for name in names:
        jobs = [path.parent.parent for path in Path(name).glob(f"*/{RECORD}")]
        jobs.sort(key=lambda job: (len(job.name), job.name))  # as numbers
        found += [str(job) for job in jobs] or [name]
    return found


def read_runs(names: Sequence[str]) -> list[Run]:
    """Read the runs in the folders ``names``, of which there must be two or more, all different."""
    if len(names) < 2:
        raise InputError(
            f"runs={list(names)} is too few to compare, and not the folder of a sweep: type "
            "runs=[FOLDER,FOLDER]"
        )
    if len({Path(name).absolute() for name in names}) < len(names):
        raise InputError(f"runs={list(names)} names a folder twice: name each once")
    runs = [read_run(Path(name)) for name in names]
    require_comparable(runs)
    return with_titles(runs)


def with_titles(runs: Sequence[Run]) -> list[Run]:
    """Title jobs of one sweep by the options in which they differ, and other runs by folder."""
    if len({Path(run.name).parent for run in runs}) > 1:
        return [*runs]
    options = {run.name: read_options(Path(run.name)) for run in runs}
    shared = set.intersection(*map(set, options.values()))
    titles = {
        name: "\n".join(
            line for line in lines if line not in shared and not line.startswith("seed=")
        )
        for name, lines in options.items()
    }
    return [replace(run, title=titles[run.name] or run.title) for run in runs]


def read_options(folder: Path) -> list[str]:
    """What a run was started with, as it was typed; nothing if that is not on record."""
    path = folder / RECORD
    lines = yaml.safe_load(path.read_text()) if path.is_file() else None
    return [*map(str, lines or [])]  # a kill may have left an empty record


def best(groups: Sequence[Sequence[Run]]) -> str | None:
    """Name the best of several experiments by the first metric that all were judged with."""
    for name, metric in METRICS.items():
        scores = [values(group, name) or last_values(group, name) for group in groups]
        if len(groups) > 1 and metric.better != "like real" and all(scores):
            choose = min if metric.better == "lower" else max
            score, group = choose(
                zip(map(mean, scores), groups, strict=True), key=lambda pair: pair[0]
            )
            title = group[0].title.replace("\n", " ")
            return f"best {name}: {score:.{metric.digits}f}, of {title} ({group[0].name})"
    return None


def last_values(group: Sequence[Run], name: str) -> list[float]:
    """What the curves of a group end with, on validation images."""
    return [run.curve[-1][name] for run in group if run.curve and name in run.curve[-1]]


def read_run(folder: Path) -> Run:
    """Read a run folder, or a folder that task=evaluate wrote for samples from elsewhere.

    Raises:
        InputError: if it holds neither an evaluation nor a curve, or a broken evaluation.
    """
    if not folder.is_dir():
        raise InputError(f"runs: {folder} is not a folder: name run folders, as in logs/runs/...")
    files = [folder / name for name in ("evaluation.json", "metrics.json")]
    report = next((read_report(file) for file in files if file.is_file()), None)
    curve = read_curve(folder / "quality.csv")
    if report is None and not curve:
        raise InputError(
            f"runs: {folder} holds neither an evaluation nor quality.csv: "
            f"type {command(task='evaluate', ckpt=folder)} first"
        )
    return Run(str(folder), str(folder), experiment_of(folder), report, curve)


def read_report(path: Path) -> dict[str, Any]:
    """Read a report of task=evaluate, and refuse a file that lacks what is compared."""
    try:
        report = json.loads(path.read_text())
        report["rows"], report["n"], report["judges"], report["data"]["md5"], report["class_counts"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a report of task=evaluate: make it again with "
            f"{command(task='evaluate', ckpt=path.parent)}"
        ) from error
    return report


def read_curve(path: Path) -> Curve:
    """Read the rows of ``quality.csv`` as numbers under its headings; none if there is no file."""
    if not path.is_file():
        return []
    with path.open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def experiment_of(folder: Path) -> str:
    """Hash a run's options without seed and folders; without a record, its folder stands for it."""
    path = folder / "config.yaml"
    if not path.is_file():
        return str(folder)
    config = yaml.safe_load(path.read_text())
    places = tuple(str(config[name]) for name in PLACES if name in config)
    config = without_places(config, places)
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def without_places(node: Any, places: tuple[str, ...]) -> Any:
    """Copy a configuration without what may differ, and with paths below ``places`` emptied."""
    if isinstance(node, Mapping):
        return {
            key: value if key in WHOLE else without_places(value, places)
            for key, value in node.items()
            if key not in APART
        }
    if isinstance(node, list):
        return [without_places(item, places) for item in node]
    if isinstance(node, str) and Path(node).is_absolute():
        return "" if any(Path(node).is_relative_to(place) for place in places) else node
    return node


def require_comparable(runs: Sequence[Run]) -> None:
    """Refuse numbers of different meaning: another N biases Frechet distances, for one."""
    meanings = {run.name: meaning(run.report) for run in runs if run.report is not None}
    if len(set(meanings.values())) > 1:
        listed = "; ".join(f"{name}: {meaning}" for name, meaning in meanings.items())
        raise InputError(
            f"these evaluations do not compare ({listed}): "
            "evaluate all with the same n, classes and data, as in task=evaluate ckpt=RUN n=5000"
        )


def meaning(report: Mapping[str, Any]) -> str:
    """Describe all on which the numbers of a report depend, apart from the images themselves."""
    data = hashes(report["data"]["md5"].values())
    judges = hashes(judge["sha256"] for judge in report["judges"].values())
    counts = report["class_counts"]
    classes = "equally many of each class" if len(set(counts)) == 1 else f"of classes {counts}"
    return f"{report['n']:,} images {classes}, data {data}, judges {judges}"


def hashes(values: Iterable[str]) -> str:
    return " ".join(value[:6] for value in values)


def table(groups: Sequence[Sequence[Run]]) -> Table:
    """Lay metrics out down and experiments across, each with mean and deviation over its runs."""
    sheet = Table()
    sheet.add_column("")
    for group in groups:
        seeds = f"\n{len(group)} runs" if len(group) > 1 else ""
        sheet.add_column(f"{group[0].title}{seeds}", justify="right")
    evaluated = next((run.report for group in groups for run in group if run.report), None)
    sheet.add_column("real (floor)", justify="right")
    for name, metric in METRICS.items():
        cells = [summary(values(group, name), metric.digits, of=len(group)) for group in groups]
        if any(cells):
            real = evaluated["rows"]["real"].get(name) if evaluated else None
            sheet.add_row(
                metric.title, *cells, summary([] if real is None else [real], metric.digits)
            )
    for name, title in {"seconds": "seconds of training", "images": "images seen"}.items():
        cells = [
            summary([run.curve[-1][name] for run in group if run.curve], 0) for group in groups
        ]
        if any(cells):
            sheet.add_row(title, *cells)
    return sheet


def values(group: Sequence[Run], name: str) -> list[float]:
    """What the runs of a group score on the metric ``name``, leaving out those without it."""
    rows = [run.report["rows"]["generated"] for run in group if run.report is not None]
    return [row[name] for row in rows if name in row]


def summary(numbers: Sequence[float], digits: int, *, of: int = 1) -> str:
    """Write a mean, the standard deviation if it can be had, and how many if fewer than ``of``."""
    if not numbers:
        return ""
    spread = f" ± {stdev(numbers):,.{digits}f}" if len(numbers) > 1 else ""
    missing = f" ({len(numbers)} of {of})" if len(numbers) < of else ""
    return f"{mean(numbers):,.{digits}f}{spread}{missing}"
