"""The picture of a search."""

import math
from collections.abc import Sequence
from io import BytesIO
from itertools import accumulate
from pathlib import Path

from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from src.files import write_atomically


def draw_search(
    path: Path, trials: Sequence[FrozenTrial], *, metric: str, is_lower_better: bool
) -> None:
    """Draw the values of trials in their order, and over each option; pruned ones as crosses."""
    ended = {
        state: [
            t for t in trials if t.state == state and t.value is not None and math.isfinite(t.value)
        ]
        for state in (TrialState.COMPLETE, TrialState.PRUNED)
    }
    names = list(ended[TrialState.COMPLETE][0].params)
    figure = Figure(figsize=(4 * (len(names) + 1), 3.6), layout="constrained")
    first, *others = figure.subplots(1, len(names) + 1, sharey=True)
    for state, marker in {TrialState.COMPLETE: "o", TrialState.PRUNED: "x"}.items():
        values = [trial.value for trial in ended[state]]
        look = {"marker": marker, "color": "C0" if marker == "o" else "gray"}
        first.scatter(
            [trial.number for trial in ended[state]], values, label=state.name.lower(), **look
        )
        for axes, name in zip(others, names, strict=True):
            axes.scatter([trial.params[name] for trial in ended[state]], values, **look)
    done = ended[TrialState.COMPLETE]
    best = accumulate((t.value for t in done), min if is_lower_better else max)
    first.step([t.number for t in done], list(best), where="post", color="C1", label="best so far")
    first.set(xlabel="trial", ylabel=metric)
    first.legend()
    for axes, name in zip(others, names, strict=True):
        distribution = done[0].distributions[name]
        axes.set_xlabel(name)
        if not isinstance(distribution, CategoricalDistribution) and distribution.log:
            axes.set_xscale("log")
    content = BytesIO()
    figure.savefig(content, dpi=110)
    write_atomically(path, content.getvalue())
