"""What the trials of a search share, and all that can be said of it before the first one trains."""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from src.configuration.build import build_dataset, make
from src.configuration.check import find_family
from src.configuration.container import plain
from src.configuration.nested import nested
from src.configuration.prepare import options_as_typed
from src.configuration.slurm import n_tasks
from src.errors import InputError
from src.metrics.panel import METRICS
from src.reports.terminal import quoted


@dataclass(frozen=True)
class Plan:
    """What all trials of a search share."""

    metric: str
    settings: dict[str, Any]  # the ``search`` group
    typed: list[str]  # the options of each trial that are not tried
    filed: list[str]  # and those by which wandb finds it
    space: dict[str, BaseDistribution]
    own: dict[str, Any]  # the point where the experiment is as it is; empty if that lies outside
    folder: Path

    @property
    def sign(self) -> int:
        """By which a value is multiplied, so that lower is better."""
        return 1 if self.settings["direction"] == "minimize" else -1

    def best(self, values: Sequence[float]) -> float:
        """The best finite value; infinitely bad without one, as of a run that has diverged."""
        finite = [self.sign * value for value in values if math.isfinite(value)]
        return self.sign * min(finite, default=math.inf)

    def ranked(self, study: optuna.Study) -> list[FrozenTrial]:
        """The trials that ended with a finite value, the best first."""
        ended = study.get_trials(states=(TrialState.COMPLETE,))
        finite = [trial for trial in ended if math.isfinite(score(trial))]
        return sorted(finite, key=lambda trial: self.sign * score(trial))


def score(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def make_plan(cfg: DictConfig) -> Plan:
    """Check all that can be checked, every choice of the space included."""
    require_searchable(cfg)
    settings = plain(cfg)["search"]
    space = {
        key: built(node, BaseDistribution, at=f"space.{key}")
        for key, node in settings["space"].items()
    }
    lines = (line for line in options_as_typed() if not re.match(r"[+~]*(search|task)\b", line))
    typed = [*lines, "task=train", "search=null"]
    group = f"logger.wandb.group={quoted(settings['study'])}"
    filed = [group, "logger.wandb.job_type=search"] if "wandb" in cfg.logger else []
    folder = Path(settings["folder"]).absolute()
    points = [*map(options, corners(space)), *([f"seed={seed}"] for seed in settings["seeds"])]
    for point in points:
        with nested(folder, [*typed, *point]):
            pass
    own = own_point(cfg, space)
    return Plan(cfg.optimized_metric, settings, typed, filed, space, own, folder)


def own_point(cfg: DictConfig, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """What the experiment has for each option that is tried; empty if that is not in ``space``."""
    chosen = HydraConfig.get().runtime.choices
    point = {key: chosen[key] if key in chosen else OmegaConf.select(cfg, key) for key in space}
    return point if all(holds(each, point[key]) for key, each in space.items()) else {}


def holds(each: BaseDistribution, value: Any) -> bool:
    """Whether a distribution may draw this value."""
    try:
        return each._contains(each.to_internal_repr(value))
    except ValueError:
        return False


def require_searchable(cfg: DictConfig) -> None:
    """Refuse a search that has nothing to try or to go by, and one that is many processes."""
    if not cfg.search.space:
        raise InputError(
            "task=search has no search.space to try: type hparams_search=mnist_tpe, or the name of "
            "another file in configs/hparams_search that has one"
        )
    if cfg.optimized_metric is None or cfg.debug or cfg.trainer.get("fast_dev_run"):
        raise InputError(
            "task=search goes by a metric that is measured: type optimized_metric=val/fid_cnn, and "
            "debug=true with task=train alone"
        )
    if "TORCHELASTIC_RUN_ID" in os.environ or n_tasks() > 1:
        raise InputError(
            "task=search starts the ranks of each trial itself: type python run.py, without "
            "torchrun, or srun with one task"
        )
    require_metric(cfg, cfg.optimized_metric)


def require_metric(cfg: DictConfig, metric: str) -> None:
    """Refuse a metric that is mistyped, sought at its wrong end, or a loss that is to prune."""
    config = plain(cfg)
    losses = find_family(config["model"]).loss_names
    measured = []
    if "dataset" in config["datamodule"]:
        evaluation = build_dataset(config["datamodule"]["dataset"]).evaluation
        measured = [f"val/{name}" for name in evaluation.measured]
    known = [*measured, *(f"val/{loss}" for loss in losses)]
    if metric not in known and (near := likely(metric, known)):
        raise InputError(
            f"optimized_metric={metric} is not logged while training: did you mean {near}?"
        )
    name = metric.rpartition("/")[2]
    if name in losses and cfg.search.pruner is not None:
        raise InputError(
            f"optimized_metric={metric} is a loss, by which trials of different objectives do not "
            "compare: type search.pruner=null to prune none"
            + (f", or optimized_metric={measured[0]}" if measured else "")
        )
    better = METRICS[name].better if name in METRICS else ""
    wanted = {"lower": "minimize", "higher": "maximize"}.get(better)
    if wanted and cfg.search.direction != wanted:
        raise InputError(f"{metric} is to {wanted}: type search.direction={wanted}")


def likely(metric: str, known: Sequence[str]) -> str | None:
    """The metric of ``known`` that is meant: of that name, or one that looks much like it."""
    split, _, name = metric.rpartition("/")
    same = [each for each in known if each.rpartition("/")[2] == name]
    if split in ("", "test", "val") and same:
        return same[0]
    near = get_close_matches(metric, known, n=1, cutoff=0.5 if split == "val" else 0.8)
    return near[0] if near else None


def built(node: Mapping[str, Any], kind: type, *, at: str) -> Any:
    """Build what a node of the search names, which must be of a ``kind`` of Optuna's."""
    found = make(node, path=f"search.{at}")
    if not isinstance(found, kind):
        home = ".".join(kind.__module__.split(".")[:2])
        raise InputError(
            f"search.{at}._target_={node['_target_']} does not belong there: type "
            f"search.{at}._target_={home}.NAME"
        )
    return found


def corners(space: Mapping[str, BaseDistribution]) -> list[dict[str, Any]]:
    """As few points of the space as hold each choice, and both ends of each range."""
    ends = {key: extremes(each) for key, each in space.items()}
    longest = max(map(len, ends.values()))
    return [{key: row[i % len(row)] for key, row in ends.items()} for i in range(longest)]


def extremes(each: Any) -> Sequence[Any]:
    """All choices of a distribution, or both ends of its range."""
    return each.choices if isinstance(each, CategoricalDistribution) else (each.low, each.high)


def options(point: Mapping[str, Any]) -> list[str]:
    """A point of the space as it is typed."""
    return [
        f"{key}={each if isinstance(each, str) else json.dumps(each)}"
        for key, each in point.items()
    ]


def as_value(node: Any) -> str:
    """A node as the value of an option that is typed."""
    if isinstance(node, Mapping):
        return f"{{{','.join(f'{key}:{as_value(each)}' for key, each in node.items())}}}"
    if isinstance(node, list):
        return f"[{','.join(map(as_value, node))}]"
    return quoted(node) if isinstance(node, str) else json.dumps(node)
