"""Measure how good images are, beside what real data and noise score."""

import json
import logging
import subprocess
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import Any, NamedTuple

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from src.configuration.build import choose_device, ready_data
from src.configuration.check import check_saved_data
from src.configuration.container import plain
from src.configuration.trust import targets
from src.datamodules.in_memory import InMemoryDataModule
from src.datamodules.stacked_mnist import StackedMNIST
from src.errors import InputError
from src.files import write_atomically
from src.generate import rebuild, sample
from src.images import Labelled
from src.metrics.cache import Row, md5_of_data
from src.metrics.footing import count_classes, noise, rows_like
from src.metrics.judges import Judges, load_judges, warn_of_other_split
from src.metrics.modes import count_modes, count_once, digit_judges, read_modes
from src.metrics.panel import METRICS, accuracy_per_class, confusion, require_enough
from src.metrics.real import Real, judge_real
from src.reports.figures import draw_evaluation, draw_modes
from src.reports.terminal import show
from src.runs.checkpoints import load_checkpoint
from src.runs.folders import find_checkpoint
from src.runs.samples import read_samples

log = logging.getLogger(__name__)
ROWS = {"generated": "generated", "real": "real (floor)", "noise": "noise (ceiling)"}


class Subject(NamedTuple):
    """What is judged, against which data, and where it comes from."""

    images: Labelled
    datamodule: InMemoryDataModule
    judges: Judges
    source: dict[str, Any]


class Findings(NamedTuple):
    """What was measured, and how to draw it."""

    rows: dict[str, Row]
    md5s: dict[str, str]  # of the real parts
    details: dict[str, Any]  # for the report
    draw: Callable[..., None]  # to a file, with a title
    cas_seconds: float = 0.0


def evaluate(cfg: DictConfig) -> None:
    """Print the panel, and write ``metrics.json`` and ``evaluation.png``."""
    started = perf_counter()
    if (cfg.samples is None) == (cfg.ckpt is None):
        raise InputError(
            "task=evaluate judges one thing: type either ckpt=PATH, ckpt=latest or samples=FILE"
        )
    subject = from_file(cfg) if cfg.samples else from_checkpoint(cfg)
    found = (measure_modes if is_stacked(subject.datamodule) else measure_classes)(cfg, subject)
    seconds = perf_counter() - started - found.cas_seconds
    report = {
        "source": subject.source,
        "data": {"name": subject.datamodule.dataset.name, "md5": found.md5s},
        "n": len(subject.images.labels),
        "class_counts": subject.images.labels.bincount().tolist(),
        "judges": {role: vars(record) for role, record in subject.judges.records.items()},
        "version": versions(),
        "seconds": {"panel": seconds, "cas": found.cas_seconds},
        "rows": found.rows,
        **found.details,
    }
    folder, picture = Path(cfg.run_dir), BytesIO()
    found.draw(picture, title=title(report))
    write_atomically(folder / "metrics.json", as_json(report))
    write_atomically(folder / "evaluation.png", picture.getvalue())
    show(table(report))
    log.info(f"in {folder}: metrics.json, evaluation.png")
    if "ckpt" in subject.source:
        keep_in_run(Path(subject.source["ckpt"]).parent.parent, report, picture.getvalue())


def measure_classes(cfg: DictConfig, subject: Subject) -> Findings:
    """The panel for images of labelled classes."""
    parts, remembered = subject.datamodule.parts, Path(cfg.data_dir) / "judged"
    log.info("reading real images, which takes a minute or two and is then remembered")
    real = judge_real(subject.judges, **parts, folder=remembered)
    warn_of_other_split(real.judges, real.md5s["train"])
    counts = count_classes(subject.images.labels, n_classes=real.n_classes)
    real.require_enough(counts)
    fake = real.judges.read(subject.images)
    log.info("measuring")
    found = real.neighbours(fake)
    rows = {
        "generated": real.measure(fake, found),
        "real": real.floor(counts),
        "noise": real.ceiling(counts),
    }
    panel_done = perf_counter()
    add_cas(rows, real, subject.images, n_seeds=cfg.cas_seeds)
    details = {
        "n_real": real.sizes(counts)._asdict(),
        "cas_seeds": cfg.cas_seeds,
        "label_accuracy_per_class": accuracy_per_class(fake),
        "confusion": confusion(fake, n_classes=real.n_classes).tolist(),
    }
    draw = partial(
        draw_evaluation, fake=fake, train=real.train.images, found=found["pixels"], rows=rows
    )
    return Findings(rows, real.md5s, details, draw, cas_seconds=perf_counter() - panel_done)


def measure_modes(cfg: DictConfig, subject: Subject) -> Findings:
    """The same for stacked digits; the judges' classifier of labels reads each channel."""
    images, parts = subject.images.images, subject.datamodule.parts
    if len(images) > len(parts["train"].labels):
        raise InputError(
            f"{len(images)} images do not compare with {len(parts['train'].labels)} training "
            f"triples, for modes and kl depend on their number: give at most as many"
        )
    log.info("reading three digits of each image")
    once = partial(count_once, subject.judges, folder=Path(cfg.data_dir) / "judged")
    real = Labelled(*(part[: len(images)] for part in parts["train"]))
    rows = {
        "generated": count_modes(read_modes(subject.judges, images)),
        "real": once(real),
        "noise": once(noise(torch.tensor([len(images)]), like=real)),
    }
    draw = partial(draw_modes, images=images, rows=rows)
    return Findings(rows, {"train": md5_of_data(parts["train"])}, {"cas_seeds": 0}, draw)


def is_stacked(datamodule: InMemoryDataModule) -> bool:
    return isinstance(datamodule.dataset, StackedMNIST)


def from_file(cfg: DictConfig) -> Subject:
    datamodule = ready_data(cfg)
    judges = judges_of(cfg, datamodule)
    shape = tuple(datamodule.test_set.images.shape[1:])
    data = read_samples(Path(cfg.samples), shape=shape, n_classes=datamodule.dataset.n_classes)
    require_enough(
        data.labels, n_classes=datamodule.dataset.n_classes, what=f"samples={cfg.samples}"
    )
    counts = count_classes(data.labels, n_classes=datamodule.dataset.n_classes)
    rows = rows_like(data.labels, counts)  # with the classes in turn, as those of a checkpoint are
    images = Labelled(data.images[rows], data.labels[rows])
    return Subject(images, datamodule, judges, {"samples": cfg.samples})


def from_checkpoint(cfg: DictConfig) -> Subject:
    """``n`` of each class, the classes in turn; of stacked digits as many as test triples."""
    path = find_checkpoint(cfg.ckpt, logs=Path(cfg.work_dir) / "logs")
    log.info(f"judging {path}")
    checkpoint = load_checkpoint(path)
    model = rebuild(checkpoint, path=path, trusted=[*targets(plain(cfg)["model"])])
    model.to(choose_device(cfg))
    datamodule = data_of(cfg, model.hparams.get("datamodule", {}))
    judges = judges_of(cfg, datamodule)
    n = len(datamodule.test_set) if is_stacked(datamodule) else cfg.n * model.n_classes
    labels = torch.arange(n) % model.n_classes
    require_enough(labels, n_classes=datamodule.dataset.n_classes, what=f"n={cfg.n}")
    images = torch.cat(list(sample(model, labels, seed=cfg.seed)))
    source = {
        "ckpt": str(path.absolute()), "epoch": checkpoint["epoch"],
        "step": checkpoint["global_step"], "seed": cfg.seed,
    }  # fmt: skip
    return Subject(Labelled(images, labels), datamodule, judges, source)


def data_of(cfg: DictConfig, trained_on: dict[str, Any]) -> InMemoryDataModule:
    """The data that a checkpoint was trained on, from this machine's ``data_dir``."""
    check_saved_data(trained_on, trusted=[*targets(plain(cfg)["datamodule"])])
    target, typed = (named_by(node) for node in (trained_on, plain(cfg)["datamodule"]))
    chosen = [o for o in HydraConfig.get().overrides.task if o.startswith("datamodule=")]
    if chosen and typed != target:
        raise InputError(
            f"ckpt={cfg.ckpt} was trained on {target.rpartition('.')[2]}, not on "
            f"{typed.rpartition('.')[2]}: leave {chosen[0]} out, or name another checkpoint"
        )
    dataset = trained_on.get("dataset", {})
    if "data_dir" in dataset:
        trained_on = trained_on | {"dataset": dataset | {"data_dir": cfg.data_dir}}
    return ready_data(OmegaConf.create({"datamodule": trained_on}))


def named_by(datamodule: dict[str, Any]) -> str:
    """The class of the data set, or of a data module that needs none."""
    return datamodule.get("dataset", datamodule)["_target_"]


def judges_of(cfg: DictConfig, datamodule: InMemoryDataModule) -> Judges:
    """Ready before anything is generated, as is a test split that is large enough."""
    if is_stacked(datamodule):
        return digit_judges(data_dir=Path(cfg.data_dir), device=choose_device(cfg))
    labels = datamodule.test_set.labels
    require_enough(labels, n_classes=datamodule.dataset.n_classes, what="the test split")
    return load_judges(
        datamodule.dataset.name,
        n_classes=datamodule.dataset.n_classes,
        channels=datamodule.dataset.channels,
        data_dir=Path(cfg.data_dir),
        device=choose_device(cfg),
    )


def add_cas(rows: dict[str, Row], real: Real, images: Labelled, *, n_seeds: int) -> None:
    """Its mean over classifier seeds; the noise, which teaches nothing, gets one seed."""
    if n_seeds == 0:
        return
    counts = count_classes(images.labels, n_classes=real.n_classes)
    log.info(f"cas: training {n_seeds} classifiers on the images, and on real ones if new")
    scores = {
        "generated": [real.cas(images, seed=seed) for seed in range(n_seeds)],
        "real": [real.cas_floor(counts, seed=seed) for seed in range(n_seeds)],
        "noise": [real.cas_ceiling(counts, seed=0)],
    }
    for name, values in scores.items():
        rows[name]["cas"] = mean(values)
        if len(values) > 1:
            rows[name]["cas_standard_deviation"] = stdev(values)


def versions() -> dict[str, str]:
    """Of the code, as git knows it, and of torch."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        code = "unknown"
    return {"code": code, "torch": torch.__version__}


def title(report: dict[str, Any]) -> str:
    source = Path(report["source"].get("ckpt") or report["source"]["samples"])
    if source.is_relative_to(Path.cwd()):
        source = source.relative_to(Path.cwd())
    judges = ", ".join(record["sha256"][:8] for record in report["judges"].values())
    return f"{report['n']:,} images of {source}\nagainst {report['data']['name']}, judges {judges}"


def table(report: dict[str, Any]) -> Table:
    """Metrics down, the generated images between real ones and noise across."""
    rows = report["rows"]
    panel = Table("", title=title(report))
    for heading in ROWS.values():
        panel.add_column(heading, justify="right")
    panel.add_column("better")
    for name, metric in METRICS.items():
        if name in rows["generated"]:
            cells = [cell(rows[row], name, metric.digits) for row in ROWS]
            panel.add_row(metric.title, *cells, metric.better)
    return panel


def cell(row: Row, name: str, digits: int) -> str:
    """The value, with its uncertainty where one was measured."""
    errors = [
        row[key] for key in (f"{name}_standard_error", f"{name}_standard_deviation") if key in row
    ]
    uncertainty = f" ± {errors[0]:.{digits}f}" if errors else ""
    return f"{row[name]:.{digits}f}{uncertainty}"


def as_json(report: dict[str, Any]) -> bytes:
    return json.dumps(report, indent=2).encode()


def keep_in_run(run_dir: Path, report: dict[str, Any], picture: bytes) -> None:
    """Keep the newest evaluation in the run folder that the checkpoint lies in.

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
    return report["n"], report["cas_seeds"]
