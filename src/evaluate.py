"""Measure how good images are, beside what real data and noise score."""

import json
import logging
import subprocess
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from rich.table import Table

from src.configuration.build import choose_device, ready_data
from src.errors import InputError
from src.files import write_atomically
from src.generate import data_of, load_trained, sample
from src.images import Labelled
from src.metrics.evaluation import Evaluation
from src.metrics.footing import count_classes, rows_like
from src.metrics.panel import METRICS, written
from src.reports.figures import draw_findings
from src.reports.terminal import show
from src.runs.samples import read_samples

log = logging.getLogger(__name__)
ROWS = {"generated": "generated", "real": "real (floor)", "noise": "noise (ceiling)"}


class Subject(NamedTuple):
    """Images to judge, the way to judge them, the data set beside them, and where they are from."""

    images: Labelled  # with the classes in turn
    evaluation: Evaluation
    data: str  # the name of the data set
    class_names: list[str]
    source: dict[str, Any]


def evaluate(cfg: DictConfig) -> None:
    """Judge a checkpoint or a file of samples in a table, ``metrics.json`` and ``evaluation.png``.

    What is found of a checkpoint is kept in its run folder too, unless it generates in another way
    than the run does.
    """
    started = perf_counter()
    if (cfg.samples is None) == (cfg.ckpt is None):
        raise InputError(
            "task=evaluate judges one thing: type either ckpt=PATH, ckpt=latest or samples=FILE"
        )
    subject = from_file(cfg) if cfg.samples else from_checkpoint(cfg)
    if (doubt := subject.evaluation.doubt()) is not None:
        log.warning(doubt)
    found = subject.evaluation.full(subject.images, cas_seeds=cfg.cas_seeds)
    judges = subject.evaluation.judges
    seconds = perf_counter() - started - found.cas_seconds
    report = {
        "source": subject.source,
        "data": {"name": subject.data, "class_names": subject.class_names, "md5": found.md5s},
        "n": len(subject.images.labels),
        "class_counts": subject.images.labels.bincount().tolist(),
        "judges": {role: vars(record) for role, record in judges.records.items()},
        "version": versions(),
        "seconds": {"panel": seconds, "cas": found.cas_seconds},
        "rows": found.rows,
        "cas_seeds": found.cas_seeds,
        **found.details,
    }
    folder, picture = Path(cfg.run_dir), BytesIO()
    write_atomically(folder / "metrics.json", as_json(report))
    draw_findings(found, picture, title=title(report))
    write_atomically(folder / "evaluation.png", picture.getvalue())
    show(table(report))
    log.info(f"in {folder}: metrics.json, evaluation.png")
    if "ckpt" in subject.source and not subject.source["sampling"]:
        keep_in_run(Path(subject.source["ckpt"]).parent.parent, report, picture.getvalue())


def from_file(cfg: DictConfig) -> Subject:
    """Read the images of ``cfg.samples`` as what is judged, beside the data of ``cfg``."""
    datamodule = ready_data(cfg)
    dataset = datamodule.dataset
    evaluation = datamodule.evaluation(data_dir=Path(cfg.data_dir), device=choose_device(cfg))
    shape = tuple(datamodule.test_set.images.shape[1:])
    data = read_samples(Path(cfg.samples), shape=shape, n_classes=dataset.n_classes)
    evaluation.require_full(data.labels, what=f"samples={cfg.samples}")
    counts = count_classes(data.labels, n_classes=dataset.n_classes)
    images = data.take(rows_like(data.labels, counts))
    return Subject(
        images, evaluation, dataset.name, [*dataset.class_names], {"samples": cfg.samples}
    )


def from_checkpoint(cfg: DictConfig) -> Subject:
    """Generate images from ``cfg.ckpt`` as what is judged, beside the data that it was trained on.

    The evaluation chooses their classes, given ``cfg.n``.
    """
    path, checkpoint, options, model = load_trained(cfg)
    log.info(f"judging {path}")
    device = choose_device(cfg)
    trained = checkpoint["hyper_parameters"]["model"]
    model.to(device)
    datamodule = data_of(cfg, model)
    if (state := checkpoint.get(type(datamodule).__qualname__)) is not None:
        datamodule.load_state_dict(state)  # which says if it was trained on other images
    evaluation = datamodule.evaluation(data_dir=Path(cfg.data_dir), device=device)
    labels = evaluation.labels(cfg.n)
    evaluation.require_full(labels, what=f"n={cfg.n}")
    started = perf_counter()
    images = torch.cat(list(sample(model, labels, seed=cfg.seed)))
    seconds = perf_counter() - started
    source = {
        "ckpt": str(path.absolute()), "epoch": checkpoint["epoch"],
        "step": checkpoint["global_step"], "seed": cfg.seed,
        "n_evaluations": model.n_evaluations, "ms_per_image": 1000 * seconds / len(images),
        "sampling": {key: options[key] for key in options if options[key] != trained.get(key)},
    }  # fmt: skip
    dataset = datamodule.dataset
    names = [*dataset.class_names]
    return Subject(Labelled(images, labels), evaluation, dataset.name, names, source)


def versions() -> dict[str, str]:
    """The versions of this code, as git describes it, and of torch."""
    describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        code = subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        code = "unknown"
    return {"code": code, "torch": torch.__version__}


def title(report: dict[str, Any]) -> str:
    source = report["source"]
    path = Path(source.get("ckpt") or source["samples"])
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    judges = ", ".join(record["sha256"][:8] for record in report["judges"].values())
    lines = [f"{report['n']:,} images of {path}"]
    if "ckpt" in source:
        network = "network evaluation" if source["n_evaluations"] == 1 else "network evaluations"
        lines += [f"{source['n_evaluations']} {network}, {source['ms_per_image']:.2g} ms an image"]
    return "\n".join([*lines, f"against {report['data']['name']}, judges {judges}"])


def table(report: dict[str, Any]) -> Table:
    """Lay metrics out down, and generated images, real ones and noise across."""
    rows = report["rows"]
    sheet = Table("", title=title(report))
    for heading in ROWS.values():
        sheet.add_column(heading, justify="right")
    sheet.add_column("better")
    for name, metric in METRICS.items():
        if name in rows["generated"]:
            cells = [written(rows[row], name) for row in ROWS]
            sheet.add_row(metric.title, *cells, metric.better)
    return sheet


def as_json(report: dict[str, Any]) -> bytes:
    return json.dumps(report, indent=2).encode()


def keep_in_run(run_dir: Path, report: dict[str, Any], picture: bytes) -> None:
    """Keep an evaluation and its PNG in the run folder that the checkpoint lies in.

    A quick look, at fewer images or without the classifiers, does not replace a longer one at the
    same step.
    """
    path = run_dir / "evaluation.json"
    kept = json.loads(path.read_text()) if path.is_file() else None
    if kept and kept["source"]["step"] == report["source"]["step"] and size(kept) > size(report):
        log.info(f"{path} keeps the longer report")
    elif (run_dir / "config.yaml").is_file():
        write_atomically(path, as_json(report))
        write_atomically(path.with_suffix(".png"), picture)


def size(report: dict[str, Any]) -> tuple[int, int]:
    """How much was measured for a report: its images, then its trained classifiers."""
    return report["n"], report["cas_seeds"]
