"""Search the options of a run for the best ones, in many runs that several workers share."""

import json
import logging
import math
import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import TrialPruned
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.table import Table

from src.callbacks.losses import DivergenceError
from src.callbacks.pruning import PRUNED
from src.compare import without_places
from src.configuration.build import build_dataset, make
from src.configuration.check import find_family
from src.configuration.container import plain
from src.configuration.nested import nested
from src.configuration.prepare import options_as_typed
from src.configuration.slurm import n_tasks
from src.errors import InputError, StoppedError
from src.files import locked
from src.metrics.panel import METRICS
from src.reports.searches import draw_search
from src.reports.terminal import quoted, show
from src.runs.folders import RECORD
from src.runs.studies import STORAGE, address, first_number, hand_over, open_storage, take_over
from src.train import train

log = logging.getLogger(__name__)
SHOWN = 20  # rows of the table
# Of several workers each sees what the others try.
TPE = {"_target_": "optuna.samplers.TPESampler", "constant_liar": True}


@dataclass(frozen=True)
class Plan:
    """What all trials of a search share."""

    metric: str
    settings: dict[str, Any]  # the ``search`` group
    typed: list[str]  # the options of each trial that are not tried
    filed: list[str]  # and those by which wandb finds it
    space: dict[str, BaseDistribution]
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


def search(cfg: DictConfig) -> float:
    """Train until ``search.n_trials`` have ended, judge the winners anew, and say what was found.

    The same command again goes on where this one, or any other worker's, was stopped.
    """
    plan = make_plan(cfg)
    study, winners = open_studies(plan)
    try:
        work(study, lambda trial: try_options(plan, trial), n=cfg.search.n_trials)
        enqueue_winners(plan, study, winners)
        work(winners, lambda trial: judge_winner(plan, study, trial), n=None)
    except KeyboardInterrupt:
        log.info("\nstopped: type the same line again to go on")
        raise StoppedError(130) from None
    return report(plan, study, winners)


# --- before the first trial -----------------------------------------------------------------------


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
    return Plan(cfg.optimized_metric, settings, typed, filed, space, folder)


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


def open_studies(plan: Plan) -> tuple[optuna.Study, optuna.Study]:
    """The study of the search, and that of its winners, made by the worker that comes first."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings = plan.settings
    if settings["pruner"] is not None:
        built(settings["pruner"], BasePruner, at="pruner")
    plan.folder.mkdir(parents=True, exist_ok=True)
    with locked(plan.folder / "lock"):  # for a database's tables are made in several steps
        storage = open_storage(
            address(settings["storage"], plan.folder),
            heartbeat_s=settings["heartbeat_s"],
            grace_s=settings["grace_s"],
        )
        study, winners = (
            optuna.create_study(
                storage=storage, study_name=name, direction=settings["direction"],
                load_if_exists=True,
            )
            for name in (settings["study"], f"{settings['study']}: winners")
        )  # fmt: skip
        require_own_folder(plan, study)
        require_same_experiment(plan, study)
        study.sampler = sampler(settings, n_begun=len(study.trials))
    return study, winners


def require_own_folder(plan: Plan, study: optuna.Study) -> None:
    """Refuse to begin a study in a folder that holds the trials of another."""
    name = plan.settings["study"]
    if not study.trials and any(plan.folder.glob(f"[0-9]*/{RECORD}")):
        raise InputError(
            f"{plan.folder} holds trials, and search.study={name} knows none: type "
            "search.study=NAME for a new one, or the search.storage that they were begun with"
        )


def sampler(settings: Mapping[str, Any], *, n_begun: int) -> BaseSampler:
    """Build the sampler; one that is seeded draws nothing twice, here or in another worker."""
    node = dict(settings["sampler"] or TPE)
    if node.get("seed") is not None:
        node["seed"] += n_begun + 1_000_000 * settings["worker"]
    return built(node, BaseSampler, at="sampler")


def require_same_experiment(plan: Plan, study: optuna.Study) -> None:
    """Put on record what the trials share, or refuse to mix them with those of another record."""
    with nested(plan.folder, plan.typed) as cfg:
        places = str(cfg.run_dir), str(cfg.data_dir), str(cfg.work_dir)
        shared = {key: plan.settings[key] for key in ("space", "direction", "epoch")}
        now = flat(without_places(plain(cfg), places) | {"search": shared})
    line = shlex.join(["python", "run.py", *plan.typed])
    if "experiment" not in study.user_attrs:
        study.set_user_attr("line", line)
        study.set_user_attr("experiment", now)
    before = study.user_attrs["experiment"]
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        raise InputError(
            f"search.study={study.study_name} holds trials of {study.user_attrs['line']}, where "
            f"{key}={before.get(key)}, and these are of {line}, where {key}={now.get(key)}: type "
            "search.study=NAME for a study of their own, or the options of the first"
        )


def flat(node: Mapping[str, Any], *, above: str = "") -> dict[str, Any]:
    """Every value in a configuration by its full key."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        is_inner = isinstance(value, Mapping)
        found |= flat(value, above=f"{above}{key}.") if is_inner else {f"{above}{key}": value}
    return found


# --- trials ---------------------------------------------------------------------------------------


def work(study: optuna.Study, run: Callable[[Trial], float], *, n: int | None) -> None:
    """Run trials until ``n`` have ended, or none waits; those of other workers are waited for."""
    while True:
        take_over(study)
        count = Counter(trial.state for trial in study.get_trials(deepcopy=False))
        running = count[TrialState.RUNNING]
        ended = count[TrialState.COMPLETE] + count[TrialState.PRUNED]
        missing = count[TrialState.WAITING] if n is None else n - ended - running
        if missing > 0:
            run_one(study, run)
        elif running:
            time.sleep(1)
        else:
            return


def run_one(study: optuna.Study, run: Callable[[Trial], float]) -> None:
    """Run one trial, which waits to go on if it is stopped, or if the disk is full."""
    begun: list[int] = []

    def objective(trial: Trial) -> float:
        begun.append(trial.number)
        return run(trial)

    try:
        study.optimize(objective, n_trials=1)
    except (KeyboardInterrupt, SystemExit, InputError) as error:
        if begun and (not isinstance(error, InputError) or isinstance(error.__cause__, OSError)):
            hand_over(study, begun[0])
        raise
    except ValueError as error:
        if "Cannot tell a FAIL trial" not in str(error):
            raise
        raise InputError(
            "another worker has taken over this trial, for this one did not answer: type the same "
            "line again, with a longer search.grace_s"
        ) from error


def try_options(plan: Plan, trial: Trial) -> float:
    """Train with the options that Optuna suggests."""
    point = options({key: suggest(trial, key, each) for key, each in plan.space.items()})
    name = f"{first_number(trial):04d}"
    log.info(f"trial {name}: {' '.join(point)}")
    value = finish(plan, trial, name, point, pruner=plan.settings["pruner"])
    log.info(f"trial {name}: {plan.metric} {value:.4g}")
    return value


def suggest(trial: Trial, key: str, each: Any) -> Any:
    """What Optuna has chosen of a distribution."""
    if isinstance(each, CategoricalDistribution):
        return trial.suggest_categorical(key, each.choices)
    ask = trial.suggest_float if isinstance(each, FloatDistribution) else trial.suggest_int
    return ask(key, each.low, each.high, step=each.step, log=each.log)


def enqueue_winners(plan: Plan, study: optuna.Study, winners: optuna.Study) -> None:
    """Queue the best trials with each seed, where no other worker has done so."""
    with locked(plan.folder / "lock"):
        known = [each.user_attrs for each in winners.trials if each.state != TrialState.FAIL]
        for trial in plan.ranked(study)[: plan.settings["winners"]]:
            for seed in plan.settings["seeds"]:
                pair = {"trial": trial.number, "seed": seed}
                if pair not in known:
                    winners.enqueue_trial(pair, user_attrs=pair)
                    known.append(pair)


def judge_winner(plan: Plan, study: optuna.Study, trial: Trial) -> float:
    """Train a winner that waits in the queue again, with another seed."""
    number, seed = (trial.suggest_int(key, 0, 2**32) for key in ("trial", "seed"))
    if not trial.user_attrs:
        raise TrialPruned  # another worker has taken the last one, and Optuna has made this up
    winner = study.trials[number]
    name = f"winners/{first_number(winner):04d}-seed{seed}"
    return finish(plan, trial, name, [*options(winner.params), f"seed={seed}"], pruner=None)


def finish(
    plan: Plan, trial: Trial, name: str, point: Sequence[str], *, pruner: dict[str, Any] | None
) -> float:
    """Train a trial in its folder, or go on where another worker has left it; return its value."""
    folder = plan.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    watch = as_value({
        "_target_": "src.callbacks.pruning.Pruning", "study": trial.study.study_name,
        "trial": trial.number, "metric": plan.metric, "pruner": pruner,
    })  # fmt: skip
    arguments = [*plan.typed, *point, "test_after_training=false", "print_config=false"]
    if plan.filed:
        arguments += [*plan.filed, f"logger.wandb.name={quoted(name)}"]
    # A new trial must not go on with what was left there by a study that is gone.
    is_begun = name.startswith("winners/") or first_number(trial) != trial.number
    if is_begun and (folder / RECORD).is_file():
        arguments = [f"resume={quoted(folder)}"]
    values: list[float] = []
    if PRUNED not in trial.user_attrs:  # or else its worker was killed right then
        try:
            with nested(folder, [*arguments, f"callbacks.pruning={watch}"]) as cfg:
                os.environ[STORAGE] = address(plan.settings["storage"], plan.folder)
                last = train(cfg)
                assert last is not None
                values.append(last)
        except DivergenceError as error:
            log.error("%s", error)  # noqa: TRY400 - one trial, whose like go on
            return plan.best([])
    ended = trial.study.trials[trial.number]
    if PRUNED in ended.user_attrs:
        raise TrialPruned
    reported = ended.intermediate_values.values() if plan.settings["epoch"] == "best" else ()
    return plan.best([*values, *reported])


def as_value(node: Any) -> str:
    """A node as the value of an option that is typed."""
    if isinstance(node, Mapping):
        return f"{{{','.join(f'{key}:{as_value(each)}' for key, each in node.items())}}}"
    if isinstance(node, list):
        return f"[{','.join(map(as_value, node))}]"
    return quoted(node) if isinstance(node, str) else json.dumps(node)


# --- after the last trial -------------------------------------------------------------------------


def report(plan: Plan, study: optuna.Study, winners: optuna.Study) -> float:
    """Show the trials, what mattered, and the command of the best; return what that scored."""
    order = plan.ranked(study)
    if not order:
        raise InputError(
            "no trial has ended with a number: type search.study=NAME with another search.space"
        )
    again: dict[int, list[float]] = {}  # scores with other seeds, those that diverged included
    for trial in winners.get_trials(states=(TrialState.COMPLETE,)):
        again.setdefault(trial.params["trial"], []).append(score(trial))
    judged = [trial for trial in order if trial.number in again] or order
    best = min(judged, key=lambda each: plan.sign * mean(again.get(each.number, [score(each)])))
    show(table(plan, order, again))
    if len(order) > 2:
        shares = optuna.importance.get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator()
        )
        log.info("importance: " + ", ".join(f"{key} {share:.2f}" for key, share in shares.items()))
    line = shlex.join(["python", "run.py", *plan.typed, *options(best.params)])
    log.info(f"best, of trial {first_number(best):04d}: {line}")
    draw_search(plan.folder / "search.png", study.trials, metric=plan.metric, sign=plan.sign)
    log.info(f"in {plan.folder}: search.png, and a run folder for each trial")
    return mean(again.get(best.number, [score(best)]))


def table(plan: Plan, order: Sequence[FrozenTrial], again: Mapping[int, list[float]]) -> Table:
    """A row for each of the best trials, with what its options scored with other seeds."""
    sheet = Table()
    for heading in ("trial", plan.metric, "with other seeds", *plan.space):
        sheet.add_column(heading, justify="right")
    for trial in order[:SHOWN]:
        scores = again.get(trial.number, [])
        has_spread = len(scores) > 1 and all(map(math.isfinite, scores))
        spread = f" ± {stdev(scores):.3g}" if has_spread else ""
        anew = f"{mean(scores):.4g}{spread}" if scores else ""
        point = (
            f"{each:.4g}" if isinstance(each, float) else str(each)
            for each in trial.params.values()
        )
        sheet.add_row(f"{first_number(trial):04d}", f"{score(trial):.4g}", anew, *point)
    return sheet
