"""What each part of an experiment is worth: one at a time is taken out or swapped.

    python benchmarks/ablation.py [OVERRIDE ...] [--seconds 200] [--seeds 1 2] [--rows NAME ...]
        [--experiment NAME] [--folder logs/ablation]

All rows may take the same time. The flagship trains for the images that fit into ``seconds``; every
other row first runs beside the flagship for a while, and trains for as many images more or fewer as
it was faster or slower, so that a machine whose speed drifts favours none. The learning rate falls
to zero at their end. The seeds of a row run side by side, one process and one thread for each core.
After the last step, and only then, the validation images judge: quality.csv holds one row. Nothing
else interrupts the training.

Results stay in FOLDER/ROW/seedS. A finished seed is kept, an interrupted one starts again with the
images that its row was given; FOLDER/ablation.md and .png hold the rows so far.
"""

import argparse
import csv
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from subprocess import SubprocessError
from typing import Any

import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from omegaconf import DictConfig, OmegaConf

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.speedrun import TARGET, last_words, line, start, table
from src.compare import read_curve
from src.configuration.command_line import errors_as_sentences
from src.configuration.container import plain
from src.configuration.prepare import compose_in
from src.errors import InputError
from src.metrics.panel import METRICS
from src.reports.figures import QUALITY, Curve

FLAGSHIP = "flagship"
CALIBRATION = [
    "trainer.max_steps=1000000", "+trainer.max_time='00:00:00:20'", "trainer.log_every_n_steps=10",
    "~callbacks.quality",
]  # fmt: skip
OVERHEAD_S = 60  # of a row: its calibration, its evaluation, and starting both
OPTIONS = [
    "logger=csv", "print_config=false", "test_after_training=false", "trainer.max_epochs=-1",
    "trainer.limit_val_batches=0", "callbacks=default", "~callbacks.model_checkpoint",
    "~callbacks.best_checkpoint", "~callbacks.sample_grid",
]  # fmt: skip
COLUMNS = ["row", "images", "seconds", *TARGET, "fid_cnn / flagship's"]


def rows(flagship: DictConfig) -> dict[str, list[str]]:
    """The overrides that each row adds to the flagship's, whose numbers they start from."""
    model, batch_size = flagship.model, flagship.datamodule.batch_size
    weight = next(iter(model.penalties.values())).weight

    def penalties(*new: str) -> list[str]:
        gone = [name for name in model.penalties if name not in new]
        return [
            f"model/penalties=[{','.join([*gone, *new])}]",
            *(f"~model.penalties.{name}" for name in gone),
            *(f"model.penalties.{name}.weight={weight}" for name in new),
        ]

    def widths(factor: float) -> list[str]:
        return [
            f"model.{player}.widths={[round(factor * width) for width in model[player].widths]}"
            for player in ("generator", "discriminator")
        ]

    return {
        FLAGSHIP: [],
        "non_saturating": ["model/loss=non_saturating"],
        "hinge": ["model/loss=hinge"],
        "least_squares": ["model/loss=least_squares"],
        "no_r1": penalties("r2"),
        "no_r2": penalties("r1"),
        "finite_differences": penalties("fd_r1", "fd_r2"),
        "no_label_matching": ["model/terms=none"],
        # Which has no logits of classes to match.
        "discriminator_concat": ["model.discriminator.head=concat", "model/terms=none"],
        "generator_concat": ["model.generator.conditioning=concat"],
        "generator_without_norm": ["model.generator.norm=none"],
        "generator_without_hidden": ["model.generator.hidden=0"],
        "discriminator_without_hidden": ["model.discriminator.hidden=0"],
        "no_ema": ["model.ema_halflife_images=null"],
        "constant_lr": ["~model.schedules.lr"],
        "half_width": widths(0.5),
        "double_width": widths(2),
        "half_batch": [f"datamodule.batch_size={batch_size // 2}"],
        "double_batch": [f"datamodule.batch_size={batch_size * 2}"],
        "resnet_generator": ["model/generator=resnet"],
        "style_generator": ["model/generator=style"],
        "translation": ["model/augment=translation"],
    }


def images_per_step(cfg: DictConfig) -> int:
    return cfg.datamodule.batch_size * cfg.model.discriminator_steps


def side_by_side(runs: Mapping[Path, Sequence[str]]) -> None:
    """Run all at once, each on a core of its own."""
    os.environ["OMP_NUM_THREADS"] = "1"  # which the processes inherit
    processes = {folder: start(folder, arguments) for folder, arguments in runs.items()}
    codes = {folder: process.wait() for folder, process in processes.items()}
    failed = [last_words(folder) for folder, code in codes.items() if code]
    if failed:
        raise SubprocessError("; ".join(failed))


def speeds(runs: Mapping[Path, Sequence[str]]) -> list[float]:
    """Images per second of each run, all at once."""
    side_by_side({folder: [*arguments, *CALIBRATION] for folder, arguments in runs.items()})
    return [median_speed(folder / "metrics.csv") for folder in runs]


def median_speed(path: Path) -> float:
    """Of all that was logged, to which neither the first steps nor a pause matter."""
    with path.open() as file:
        logged = [row["images_per_second"] for row in csv.DictReader(file)]
    return median(float(speed) for speed in logged if speed)


def measure(
    folder: Path,
    arguments: Sequence[str],
    flagship: Sequence[str],
    *,
    seconds: float,
    seeds: Sequence[int],
) -> None:
    """Train and judge the seeds that are not there yet, for ``seconds`` of the flagship's each."""
    cfg = compose_in(Path.cwd(), *arguments, "trainer.max_steps=1")
    parts = {part: plain(cfg)[part] for part in ("model", "datamodule", "trainer")}
    recipe = {"seconds": seconds} | parts
    n_images = planned(folder, recipe)
    missing = [seed for seed in seeds if not (folder / f"seed{seed}" / "quality.csv").is_file()]
    if not missing:
        return
    if n_images is None:
        runs = {folder / "calibration": arguments, folder / "calibration_flagship": flagship}
        speed, beside = speeds(runs)
        if folder.name == FLAGSHIP:
            n_images = seconds * speed
        else:
            plan = yaml.safe_load((folder.parent / FLAGSHIP / "plan.yaml").read_text())
            n_images = plan["images"] * speed / beside
        OmegaConf.save(recipe | {"images": n_images}, folder / "plan.yaml")
    length = f"trainer.max_steps={round(n_images / images_per_step(cfg))}"
    side_by_side({folder / f"seed{seed}": [*arguments, length, f"seed={seed}"] for seed in missing})


def planned(folder: Path, recipe: Mapping[str, Any]) -> float | None:
    """The images that the row was given, if it has begun; another recipe is not replaced."""
    path = folder / "plan.yaml"
    if not path.is_file():
        return None
    plan = yaml.safe_load(path.read_text())
    n_images = plan.pop("images")
    if plan != recipe:
        changed = [key for key, value in recipe.items() if plan[key] != value]
        raise InputError(
            f"{folder} was made with other {' and '.join(changed)}: "
            "move it away, or type --folder PATH for another place"
        )
    return n_images


def results(folder: Path, names: Sequence[str], seeds: Sequence[int]) -> dict[str, Curve]:
    """The last row of quality.csv of each seed, none where one is missing."""
    found: dict[str, Curve] = {}
    for name in names:
        curves = [read_curve(folder / name / f"seed{seed}" / "quality.csv") for seed in seeds]
        found[name] = [curve[-1] for curve in curves] if all(curves) else []
    return found


def summarize(results: Mapping[str, Curve]) -> str:
    """A Markdown table: means over the seeds, with their range."""
    return table(COLUMNS, [line(cells(name, results)) for name in results])


def cells(name: str, results: Mapping[str, Curve]) -> list[str]:
    points, flagship = results[name], results[FLAGSHIP]
    if not points:
        return [name, "did not finish", *[""] * (len(COLUMNS) - 2)]
    columns = {"images": 0, "seconds": 0} | {each: METRICS[each].digits for each in TARGET}
    values = [spread([point[column] for point in points], n) for column, n in columns.items()]
    fids = [mean(point["fid_cnn"] for point in each) for each in (points, flagship) if each]
    return [name, *values, f"{fids[0] / fids[1]:.2f}" if len(fids) == 2 else ""]


def spread(values: Sequence[float], digits: int) -> str:
    """The mean, and the range where there is one."""
    low, middle, high = (f"{f(values):,.{digits}f}" for f in (min, mean, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def draw(path: Path, results: Mapping[str, Curve]) -> None:
    """A dot for each seed, a panel for each metric; dotted is the flagship's mean."""
    figure = Figure(figsize=(12, 1.5 + 0.3 * len(results)), layout="constrained")
    panels = figure.subplots(1, len(TARGET), sharey=True)
    for axes, metric in zip(panels, TARGET, strict=True):
        for height, points in enumerate(results.values()):
            axes.plot([point[metric] for point in points], [height] * len(points), "oC0", alpha=0.7)
        if results[FLAGSHIP]:
            middle = mean(point[metric] for point in results[FLAGSHIP])
            axes.axvline(middle, color="gray", linestyle=":")
        axes.set_xlabel(metric)
        if QUALITY[metric]:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_yticks(range(len(results)), list(results))
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiment", default="train_mnist_gan")
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rows", nargs="+", help="the flagship always comes along")
    parser.add_argument("--folder", type=Path, default=Path("logs/ablation"))
    options, overrides = parser.parse_known_args()
    folder, seeds, n_cores = options.folder.absolute(), options.seeds, os.cpu_count() or 1
    if len(seeds) > n_cores:
        raise InputError(f"--seeds names more seeds than there are cores: type {n_cores} at most")
    arguments = [f"experiment={options.experiment}", *overrides]
    every = [*arguments, *OPTIONS]
    offered = rows(compose_in(Path.cwd(), *arguments))
    names = choose(offered, options.rows)
    minutes = len(names) * (options.seconds + OVERHEAD_S) / 60
    print(f"{len(names)} rows take some {minutes:.0f} minutes, less what is there already")
    for n_done, name in enumerate(names, start=1):
        row = [*every, *offered[name]]
        try:
            measure(folder / name, row, every, seconds=options.seconds, seeds=seeds)
        except SubprocessError as error:
            print(f"{name} did not finish: {error}")
        found = results(folder, names[:n_done], seeds)
        (folder / "ablation.md").write_text(f"{summarize(found)}\n")
        draw(folder / "ablation.png", found)
        print(f"\n{summarize(found)}", flush=True)


def choose(offered: Collection[str], wanted: Sequence[str] | None) -> list[str]:
    """The rows to measure, in their order; all others are divided by the flagship's."""
    unknown = set(wanted or ()) - set(offered)
    if unknown:
        raise InputError(f"there is no row {', '.join(unknown)}: choose of {', '.join(offered)}")
    return [name for name in offered if wanted is None or name in (FLAGSHIP, *wanted)]


if __name__ == "__main__":
    with errors_as_sentences():
        main()
