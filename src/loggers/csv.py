"""metrics.csv, which survives being killed and resumed."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger
from torch import Tensor
from typing_extensions import override


class CSVLogger(Logger):
    """One row per logged mapping; after a resume, rows of the lost steps are dropped."""

    def __init__(self, *, save_dir: str, name: str = "", version: str = "") -> None:
        super().__init__()
        self._save_dir, self._name, self._version = save_dir, name, version
        self.path = Path(save_dir, name, version, "metrics.csv")
        self._columns: list[str] = []

    @property
    @override
    def save_dir(self) -> str:
        return self._save_dir

    @property
    @override
    def log_dir(self) -> str:
        return str(self.path.parent)

    @property
    @override
    def name(self) -> str:
        return self._name

    @property
    @override
    def version(self) -> str:
        return self._version

    @override
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run folder already holds the resolved config."""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Tensor | float], step: int | None = None) -> None:
        row = {"step": step} | {
            key: value.item() if isinstance(value, Tensor) else value
            for key, value in metrics.items()
        }
        if not self._columns:
            # A test alone counts no steps, hence says nothing about where a training went on.
            tests = any(key.startswith("test/") for key in row)
            self._widen(row, lost_from=None if tests else step)
        elif row.keys() - set(self._columns):
            self._widen(row, lost_from=None)
        with self.path.open("a", newline="") as file:
            _writer(file, self._columns).writerow(row)

    def _widen(self, row: Mapping[str, Any], *, lost_from: int | None) -> None:
        """Rewrite the file with ``row``'s columns, without the rows from step ``lost_from`` on."""
        columns, rows = _read(self.path)
        kept = [old for old in rows if lost_from is None or int(old["step"] or 0) < lost_from]
        self._columns = list(dict.fromkeys([*columns, *row]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".tmp")
        with draft.open("w", newline="") as file:
            writer = _writer(file, self._columns)
            writer.writeheader()
            writer.writerows(kept)
        draft.replace(self.path)


def _writer(file: TextIO, columns: list[str]) -> "csv.DictWriter[str]":
    return csv.DictWriter(file, columns, lineterminator="\n")


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a metrics file, less a last line that a killed process cut short."""
    text = path.read_text() if path.is_file() else ""
    lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    reader = csv.DictReader(lines)
    return list(reader.fieldnames or []), list(reader)
