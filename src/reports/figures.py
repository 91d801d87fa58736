"""Pictures of evaluations: one of a set of images, one of several runs."""

import math
from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from typing import BinaryIO

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from src.images import grid
from src.metrics.cache import Row
from src.metrics.classes import ClassFindings
from src.metrics.evaluation import Findings
from src.metrics.judges import Judged
from src.metrics.modes import ModeFindings
from src.metrics.neighbours import Nearest
from src.metrics.panel import METRICS, Metric, confusion

COLUMNS = 10  # images of each class
Curve = Sequence[Mapping[str, float]]  # rows of a run's quality.csv


@singledispatch
def draw_findings(found: Findings, file: BinaryIO, *, title: str) -> None:
    """Draw what an evaluation has found, each kind of it in its own way."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    figure.suptitle(literal(title))
    draw_bars(figure.subplots(), found.rows)
    figure.savefig(file, dpi=100)


@draw_findings.register
def _(found: ClassFindings, file: BinaryIO, *, title: str) -> None:
    names = found.class_names
    draw_evaluation(
        file, found.fake, found.train, found.nearest, found.rows, names=names, title=title
    )


@draw_findings.register
def _(found: ModeFindings, file: BinaryIO, *, title: str) -> None:
    draw_modes(file, found.images, found.rows, title=title)


def draw_evaluation(
    file: BinaryIO,
    fake: Judged,
    train: Tensor,
    found: Nearest,
    rows: Mapping[str, Row],
    *,
    names: Sequence[str],
    title: str,
) -> None:
    """Draw images at random, the worst, the nearest copies, errors, and the numbers as bars.

    ``found`` names, among the images ``train``, the nearest to the first generated ones; ``names``
    are those of the classes.
    """
    n_classes, names = len(names), [*map(literal, names)]
    figure = Figure(figsize=(17, 13), layout="constrained")
    figure.suptitle(literal(title))
    halves = figure.add_gridspec(2, 1)
    top = figure.add_subfigure(halves[0])
    pictures = {
        "random samples": at_random(fake, n_classes),
        "least like their label, as the judge sees it": least_confident(fake, n_classes),
        "nearest training image, beside each": pairs(fake, train, found, n_classes),
    }
    for axes, (name, images) in zip(top.subplots(1, 3), pictures.items(), strict=True):
        draw_images(axes, images, name, names)
    quarters = halves[1].subgridspec(1, 2, width_ratios=[1, 1.4])
    left, right = (figure.add_subfigure(quarters[i]) for i in range(2))
    draw_confusion(left, confusion(fake, n_classes=n_classes), names)
    draw_bars(right.subplots(), rows)
    figure.savefig(file, dpi=100)


def draw_modes(file: BinaryIO, images: Tensor, rows: Mapping[str, Row], *, title: str) -> None:
    """Draw the first of stacked digits (N, 3, H, W), and their numbers as bars."""
    figure = Figure(figsize=(17, 8), layout="constrained")
    figure.suptitle(literal(title))
    left, right = figure.subplots(1, 2)
    left.imshow(grid(images[:196], columns=14, scale=1))
    left.set_axis_off()
    draw_bars(right, rows)
    figure.savefig(file, dpi=100)


def at_random(fake: Judged, n_classes: int) -> Tensor:
    """The first COLUMNS images of each class, (K * COLUMNS, C, H, W): their order is random."""
    rows = [(fake.labels == label).nonzero().squeeze(1)[:COLUMNS] for label in range(n_classes)]
    return fake.images[torch.cat(rows)]


def least_confident(fake: Judged, n_classes: int) -> Tensor:
    """The images of each class whose label the second judge finds least probable, worst first."""
    chosen = []
    for label in range(n_classes):
        rows = (fake.labels == label).nonzero().squeeze(1)
        chosen.append(rows[fake.confidence[rows].argsort()[:COLUMNS]])
    return fake.images[torch.cat(chosen)]


def pairs(fake: Judged, train: Tensor, found: Nearest, n_classes: int) -> Tensor:
    """The closest pairs of each class: generated and training images in turn.

    A distance counts as a share of the generated image's own contrast: of photographs, dull ones
    are near to many others.
    """
    contrast = fake.images[: len(found.indices)].flatten(1).float().std(dim=1).clamp_min(1)
    distances = found.distances / contrast
    chosen = []
    for label in range(n_classes):
        rows = (fake.labels[: len(found.indices)] == label).nonzero().squeeze(1)
        closest = rows[distances[rows].argsort()[: COLUMNS // 2]]
        both = [fake.images[closest], train[found.indices[closest]]]
        chosen.append(torch.stack(both, dim=1).flatten(0, 1))
    return torch.cat(chosen)


def draw_images(axes: Axes, images: Tensor, title: str, names: Sequence[str]) -> None:
    axes.imshow(grid(images, columns=COLUMNS, scale=1))
    side = images.shape[-2] + 2
    axes.set_yticks([side * (row + 0.5) for row in range(len(names))], names)
    axes.set_xticks([])
    axes.set_title(title)


def draw_confusion(figure: SubFigure, table: Tensor, names: Sequence[str]) -> None:
    """Draw errors in colour, without the diagonal, and write every share above 0.05 % in %."""
    axes = figure.subplots()
    errors = table - torch.diag(table.diagonal())
    axes.imshow(errors.numpy(), cmap="Reds", vmin=0, vmax=max(0.01, 1.5 * float(errors.max())))
    for (row, column), share in zip(
        ((i, j) for i in range(len(table)) for j in range(len(table))), table.flatten(), strict=True
    ):
        if share >= 5e-4:
            bold = "bold" if row == column else "normal"
            axes.text(
                column, row, f"{100 * share:.1f}", ha="center", va="center", size=8, weight=bold
            )
    slope = 90 if any(len(name) > 2 for name in names) else 0
    axes.set_xticks(range(len(table)), names, rotation=slope)
    axes.set_yticks(range(len(table)), names)
    axes.set(xlabel="read as, %", ylabel="asked for", title="what the second judge reads")


def draw_bars(axes: Axes, rows: Mapping[str, Row]) -> None:
    """Draw where each metric lies on the way from noise (left) to real images (right)."""
    shown = [name for name in METRICS if name in rows["generated"] and not name.startswith("c_t")]
    for height, name in enumerate(reversed(shown)):
        metric, values = METRICS[name], [rows[row][name] for row in ("generated", "real", "noise")]
        length = place(*values, metric=metric)
        axes.barh(height, length, color="lightsteelblue", height=0.7)
        texts = [f"{value:.{metric.digits}f}" for value in values]
        axes.text(0.01, height, texts[0], va="center", color="black", weight="bold")
        axes.text(1.01, height, f"{texts[1]}   ({texts[2]})", va="center", size=9)
    axes.set_yticks(
        range(len(shown)), [METRICS[name].title.replace("  ", "... ") for name in reversed(shown)]
    )
    axes.set(xlim=(0, 1.25), xticks=[0, 1], xticklabels=["noise", "real images"])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("distances on a logarithmic scale; behind: real images, (noise)", size=10)


def place(value: float, real: float, noise: float, *, metric: Metric) -> float:
    """Place of a value from 0, as noise, to 1, as real images; distances by their logarithms."""
    if metric.better == "like real":
        return 1 - min(1.0, abs(value - real) / max(abs(noise - real), 1e-9))
    if metric.is_distance:
        value, real, noise = (math.log(max(each, 1e-6)) for each in (value, real, noise))
    if noise == real:
        return 0.0
    return min(1.0, max(0.0, (value - noise) / (real - noise)))


QUALITY = {  # logarithmic or not
    "fid_cnn": True, "label_accuracy": False, "coverage": False, "modes": False, "kl": True,
}  # fmt: skip
AXES = {"seconds": "seconds of training", "images": "real images seen"}


def draw_quality(path: Path, curves: Mapping[str, Curve]) -> None:
    """Draw quality on the validation images over time and over images seen, a line per run."""
    figure = Figure(figsize=(11, 9), layout="constrained")
    points = [point for curve in curves.values() for point in curve]
    measured = dict.fromkeys(name for point in points for name in point if f"real_{name}" in point)
    shown = [*(name for name in QUALITY if name in measured), *measured.keys() - QUALITY.keys()]
    grid_of_axes = figure.subplots(len(shown), len(AXES), sharey="row", sharex="col", squeeze=False)
    for row, metric in zip(grid_of_axes, shown, strict=True):
        for axes, x in zip(row, AXES, strict=True):
            for i, (name, curve) in enumerate(curves.items()):
                rows = [point for point in curve if metric in point]
                values = [point[metric] for point in rows]
                axes.plot([point[x] for point in rows], values, f".-C{i}", label=literal(name))
            for floor in {point[f"real_{metric}"] for point in points if metric in point}:
                axes.axhline(floor, color="gray", linestyle=":", label="real images")
            label_values(axes, metric)
            axes.grid(alpha=0.3)
    for axes, words in zip(grid_of_axes[-1], AXES.values(), strict=True):
        axes.set_xlabel(words)
    grid_of_axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    figure.savefig(path, dpi=110)


def label_values(axes: Axes, metric: str) -> None:
    axes.set_ylabel(metric)
    if QUALITY.get(metric, False):
        axes.set_yscale("log")
    else:
        axes.ticklabel_format(axis="y", useOffset=False)  # 999 is not "-1 and +1e3"


def literal(text: str) -> str:
    """Have matplotlib write dollar signs of names and paths, between which it expects formulas."""
    return text.replace("$", r"\$")
