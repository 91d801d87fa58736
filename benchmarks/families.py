"""What the three families draw, and what a flow's guidance trades.

    python benchmarks/families.py --gan RUN --flow RUN --vae RUN [--n 1000]
        [--guidance 1 1.25 1.5 2 3] [--folder logs/families] [OVERRIDE ...]

FOLDER/families.png has rows of the same classes from each run; FOLDER/guidance.png has recall
against fid_cnn of ``n`` images of each class, for the flow with each guidance and for the two
others. A judgement that FOLDER holds already is kept.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.speedrun import last_words, start
from src.configuration.command_line import errors_as_sentences
from src.generate import load_model, sample
from src.images import grid
from src.metrics.cache import Row

COLUMNS = 20  # images of all classes in turn
ROWS = 3


def draw_families(path: Path, runs: Mapping[str, Path]) -> None:
    """Draw rows of digits 0 to 9, twice, from each run, and its name beside them."""
    figure = Figure(figsize=(9, 1.45 * len(runs)), layout="constrained")
    for axes, (name, run) in zip(figure.subplots(len(runs)), runs.items(), strict=True):
        model = load_model(run)
        labels = torch.arange(ROWS * COLUMNS) % model.n_classes
        images = torch.cat(list(sample(model, labels, seed=1)))
        axes.imshow(grid(images, columns=COLUMNS))
        axes.set_ylabel(name)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(path, dpi=110)


def judge(folder: Path, run: Path, overrides: Sequence[str]) -> dict[str, Row]:
    """The rows of a report on ``run``, which is made where ``folder`` holds none."""
    report = folder / "metrics.json"
    if not report.is_file():
        arguments = ["task=evaluate", f"ckpt='{run}'", "cas_seeds=0", *overrides]
        if start(folder, arguments).wait():
            raise subprocess.SubprocessError(last_words(folder))
    return json.loads(report.read_text())["rows"]


def draw_guidance(path: Path, flow: Mapping[float, Row], others: Mapping[str, Row]) -> None:
    """Draw recall against fid_cnn: a line over guidance, and points."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [row["fid_cnn"] for row in flow.values()], [row["recall"] for row in flow.values()], "o-",
        label="flow, by guidance",
    )  # fmt: skip
    for guidance, row in flow.items():
        place = row["fid_cnn"], row["recall"]
        axes.annotate(f"{guidance:g}", place, xytext=(5, 5), textcoords="offset points")
    for name, row in others.items():
        axes.plot([row["fid_cnn"]], [row["recall"]], "s", label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("fid_cnn: lower is better")
    axes.set_ylabel("recall: higher is better")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for family in ("gan", "flow", "vae"):
        parser.add_argument(f"--{family}", type=Path, required=True, help="its run folder")
    parser.add_argument("--n", type=int, default=1_000)
    parser.add_argument("--guidance", nargs="+", type=float, default=[1, 1.25, 1.5, 2, 3])
    parser.add_argument("--folder", type=Path, default=Path("logs/families"))
    options, overrides = parser.parse_known_args()
    folder, size = options.folder.absolute(), [f"n={options.n}", *overrides]
    folder.mkdir(parents=True, exist_ok=True)
    runs = {name: getattr(options, name).absolute() for name in ("gan", "flow", "vae")}
    draw_families(folder / "families.png", runs)

    others = {name: judge(folder / name, runs[name], size) for name in ("gan", "vae")}
    points = {name: rows["generated"] for name, rows in others.items()}
    points["real images"] = others["gan"]["real"]
    flow = {
        guidance: judge(
            folder / f"guidance_{guidance:g}", runs["flow"], [*size, f"model.guidance={guidance}"]
        )["generated"]
        for guidance in options.guidance
    }
    draw_guidance(folder / "guidance.png", flow, points)
    for guidance, row in flow.items():
        print(f"guidance {guidance:g}", {name: round(value, 3) for name, value in row.items()})


if __name__ == "__main__":
    with errors_as_sentences():
        main()
