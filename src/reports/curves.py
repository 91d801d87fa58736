"""The picture of the losses over epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def draw_curves(
    history: Sequence[Mapping[str, float]], path: Path, *, names: Mapping[str, str]
) -> None:
    """Draw training losses solid and validation losses dashed, one colour for each of ``names``.

    Args:
        history: a row for each epoch with its number, ``train/NAME`` and ``val/NAME``.
        path: of the picture.
        names: of the losses in the rows, and in the legend.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="loss")
    for i, (name, title) in enumerate(names.items()):
        for split, style in {"train": "-", "val": "--"}.items():
            rows = [row for row in history if f"{split}/{name}" in row]
            epochs = [row["epoch"] for row in rows]
            losses = [row[f"{split}/{name}"] for row in rows]
            axes.plot(epochs, losses, style, color=f"C{i}", marker=".", label=f"{title}, {split}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
