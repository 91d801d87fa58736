"""The picture and the table of a search."""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from src.files import write_atomically
from src.reports.figures import label_values

LOOKS: dict[TrialState, dict[str, Any]] = {
    TrialState.COMPLETE: {"marker": "o", "color": "C0", "label": "trained to the end"},
    TrialState.PRUNED: {"marker": "x", "color": "gray", "label": "stopped early"},
}


def draw_search(
    path: Path,
    trials: Sequence[FrozenTrial],
    levels: Mapping[str, float],
    *,
    metric: str,
    sign: int,
) -> None:
    """Draw the values of trials in their order, with the best so far, and over each option.

    Args:
        levels: values to draw a line at, by what to call them.
        metric: the name of the values.
        sign: 1 where a lower value is better, and else -1.
    """
    ended = [t for t in trials if t.value is not None and math.isfinite(t.value)]
    done = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    names = [*done[0].params]
    figure = Figure(figsize=(3.5 * (len(names) + 1), 3.5), layout="constrained")
    axes = figure.subplots(1, len(names) + 1, sharey=True, squeeze=False)[0]
    scatter(axes[0], ended, [trial.number for trial in ended])
    best = accumulate((sign * (trial.value or 0) for trial in done), min)
    numbers = [trial.number for trial in done]
    axes[0].step(numbers, [sign * value for value in best], where="post", color="C1", label="best")
    for name, level in levels.items():
        for panel in axes:
            panel.axhline(level, color="gray", linestyle=":", linewidth=1, label=name)
    axes[0].set_xlabel("trial")
    label_values(axes[0], metric.removeprefix("val/"))
    axes[0].legend(fontsize=8)
    for panel, name in zip(axes[1:], names, strict=True):
        scatter(panel, ended, places(ended, name))
        panel.set_xlabel(name)
        if getattr(done[0].distributions[name], "log", False):
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_locator(NullLocator())
    content = io.BytesIO()
    figure.savefig(content, dpi=110)
    write_atomically(path, content.getvalue())


def places(trials: Sequence[FrozenTrial], name: str) -> list[Any]:
    """What was tried of an option, as a plot takes it: choices in words, for None may be one."""
    tried = [trial.params[name] for trial in trials]
    is_choice = isinstance(trials[0].distributions[name], CategoricalDistribution)
    return [*map(str, tried)] if is_choice else tried


def scatter(axes: Axes, trials: Sequence[FrozenTrial], places: Sequence[Any]) -> None:
    for state, look in LOOKS.items():
        mine = [i for i, trial in enumerate(trials) if trial.state == state]
        axes.scatter([places[i] for i in mine], [float(trials[i].value or 0) for i in mine], **look)


def search_table(
    order: Mapping[str, FrozenTrial], again: Mapping[int, Sequence[float]], *, metric: str
) -> Table:
    """A row for each trial, with what its options scored with other seeds.

    Args:
        order: the trials by their names, the best first.
        again: the scores with other seeds, by the number of the trial.
        metric: the name of what is scored.
    """
    sheet = Table()
    for heading in ("trial", metric, "with other seeds", *next(iter(order.values())).params):
        sheet.add_column(heading, justify="right")
    for name, trial in order.items():
        scores = again.get(trial.number, ())
        has_spread = len(scores) > 1 and all(map(math.isfinite, scores))
        spread = f" ± {stdev(scores):.3g}" if has_spread else ""
        anew = f"{mean(scores):.4g}{spread}" if scores else ""
        point = (
            f"{each:.4g}" if isinstance(each, float) else str(each)
            for each in trial.params.values()
        )
        sheet.add_row(name, f"{trial.value:.4g}", anew, *point)
    return sheet
