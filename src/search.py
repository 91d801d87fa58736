"""Search the options of a run for the best ones, in many runs that several workers share."""

import json
import logging
import math
import os
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import optuna
import torch
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import TrialPruned
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.table import Table

from src.callbacks.losses import DivergenceError
from src.callbacks.pruning import PRUNED
from src.compare import without_places
from src.configuration.build import build_dataset, make
from src.configuration.check import find_family
from src.configuration.command_line import translate
from src.configuration.container import plain
from src.configuration.prepare import compose_run, options_as_typed, prepare
from src.errors import InputError
from src.files import locked
from src.metrics.panel import METRICS
from src.reports.searches import draw_search
from src.reports.terminal import quoted, show
from src.runs.folders import RECORD
from src.runs.studies import (
    STORAGE,
    address,
    first_number,
    hand_over,
    open_storage,
    take_over,
    unwarned,
)  # fmt: skip
from src.train import train

log = logging.getLogger(__name__)
ENDED = TrialState.COMPLETE, TrialState.PRUNED


@dataclass(frozen=True)
class Plan:
    """What all trials of a search share."""

    cfg: DictConfig
    typed: list[str]  # the options of every trial
    space: dict[str, BaseDistribution]
    pruner: dict[str, Any] | None
    folder: Path

    @property
    def worst(self) -> float:
        return math.inf if self.cfg.search.direction == "minimize" else -math.inf

    def best(self, values: Sequence[float]) -> float:
        finite = [value for value in values if math.isfinite(value)]
        choose = min if self.worst > 0 else max
        return choose(finite, default=self.worst)


def search(cfg: DictConfig) -> float:
    """Train until ``search.n_trials`` have ended, judge the winners anew, and say what was found.

    The same command again goes on where this one, or any other worker's, was stopped.
    """
    plan = make_plan(cfg)
    study, judged = open_studies(plan)
    os.environ[STORAGE] = address(cfg.search.storage, plan.folder)
    work(study, lambda trial: try_options(plan, trial), n=cfg.search.n_trials)
    enqueue_winners(plan, study, judged)
    work(judged, lambda trial: judge_winner(plan, study, trial), n=None)
    return report(plan, study, judged)


def make_plan(cfg: DictConfig) -> Plan:
    """Check what can be checked before the first trial, every choice of the space included."""
    require_searchable(cfg)
    nodes = plain(cfg)["search"]
    space = {
        key: built(node, BaseDistribution, at=f"space.{key}")
        for key, node in nodes["space"].items()
    }
    if nodes["pruner"]:
        built(nodes["pruner"], BasePruner, at="pruner")
    lines = (line for line in options_as_typed() if not re.match(r"\+*(search|task)\b", line))
    typed = [*lines, "task=train", "search=null"]
    plan = Plan(cfg, typed, space, nodes["pruner"], Path(nodes["folder"]).absolute())
    for point in corners(space):
        with as_typed(plan.folder, [*typed, *options(point)]):
            pass
    return plan


def require_searchable(cfg: DictConfig) -> None:
    """Refuse a search for nothing, and one that more than one of its processes would start."""
    metric = cfg.optimized_metric
    if not cfg.search.space:
        raise InputError(
            "task=search has nothing to try: type hparams_search=NAME of a file with a search.space, as in mnist_tpe"
        )
    if metric is None:
        raise InputError(
            "task=search has nothing to go by: type optimized_metric=val/fid_cnn, or another that is logged"
        )
    if cfg.debug or cfg.trainer.get("fast_dev_run"):
        raise InputError(
            "debug=true measures nothing: type task=train with it to see whether a run works"
        )
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError(
            "task=search starts the ranks of each trial itself: type python run.py in place of torchrun"
        )
    require_metric(cfg, metric)


def require_metric(cfg: DictConfig, metric: str) -> None:
    """Refuse a metric that is another one mistyped, is sought at its wrong end, or prunes by a loss."""
    losses = [
        f"{split}/{name}"
        for split in ("train", "val")
        for name in find_family(plain(cfg.model)).loss_names
    ]
    quality = (
        [
            f"val/{name}"
            for name in build_dataset(plain(cfg.datamodule)["dataset"]).evaluation.measured
        ]
        if "dataset" in cfg.datamodule
        else []
    )
    near = get_close_matches(metric, [*losses, *quality], n=1, cutoff=0.7)
    if near and metric not in (*losses, *quality):
        raise InputError(f"optimized_metric={metric} is not logged: did you mean {near[0]}?")
    if metric in losses and cfg.search.pruner is not None:
        raise InputError(
            f"search.pruner would end trials by optimized_metric={metric}, and losses of different objectives do not compare: type optimized_metric={quality[0]}, or search.pruner=null"
        )
    better = METRICS[name].better if (name := metric.removeprefix("val/")) in METRICS else ""
    wanted = {"lower": "minimize", "higher": "maximize"}.get(better, cfg.search.direction)
    if cfg.search.direction != wanted:
        raise InputError(f"{metric} is better {better}: type search.direction={wanted}")


def built(node: Mapping[str, Any], kind: type, *, at: str) -> Any:
    """Build a node of the search, which must be of a ``kind`` of Optuna's."""
    with unwarned():
        found = make(node, path=f"search.{at}")
    if not isinstance(found, kind):
        raise InputError(
            f"search.{at}._target_={node['_target_']} is none of Optuna's {kind.__module__.split('.')[1]}: type "
            f"search.{at}._target_=optuna.{kind.__module__.split('.')[1]}.NAME"
        )
    return found


def corners(space: Mapping[str, BaseDistribution]) -> list[dict[str, Any]]:
    """As few points of the space as hold each choice, and both ends of each range."""
    ends = {
        key: each.choices if isinstance(each, CategoricalDistribution) else (each.low, each.high)
        for key, each in space.items()
    }
    n_points = max(map(len, ends.values()))
    return [{key: row[i % len(row)] for key, row in ends.items()} for i in range(n_points)]


def options(point: Mapping[str, Any]) -> list[str]:
    """A point of the space as it is typed."""
    return [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in point.items()
    ]


@contextmanager
def as_typed(folder: Path, arguments: Sequence[str]) -> Iterator[DictConfig]:
    """Have this process be ``python run.py ARGUMENTS`` in ``folder``, with the ranks it starts."""
    before, n_threads = (
        (sys.argv[1:], HydraConfig.instance().cfg, dict(os.environ)),
        torch.get_num_threads(),
    )
    notes = logging.FileHandler(folder / "run.log", delay=True)
    try:
        cfg = compose_run(folder, *arguments)
        sys.argv[1:] = translate(arguments)
        logging.getLogger().addHandler(notes)
        prepare(cfg)
        yield cfg
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        logging.getLogger().removeHandler(notes)
        notes.close()
        torch.set_num_threads(n_threads)
        sys.argv[1:], HydraConfig.instance().cfg, environment = before
        os.environ.clear()
        os.environ.update(environment)


def open_studies(plan: Plan) -> tuple[optuna.Study, optuna.Study]:
    """The study of the search and that of its winners, made by the worker that comes first."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings = plan.cfg.search
    times = {"heartbeat_s": settings.heartbeat_s, "grace_s": settings.grace_s}
    sampler = built(plain(settings.sampler), BaseSampler, at="sampler")
    plan.folder.mkdir(parents=True, exist_ok=True)
    with locked(plan.folder / "lock"):  # for making the tables of a database is no single step
        storage = open_storage(address(settings.storage, plan.folder), **times)
        made = [
            optuna.create_study(
                storage=storage,
                study_name=name,
                direction=settings.direction,
                sampler=sampler,
                load_if_exists=True,
            )
            for name, sampler in (
                (settings.study, sampler),
                (f"{settings.study}, winners", RandomSampler()),
            )
        ]
        require_same_experiment(plan, made[0])
    return made[0], made[1]


def require_same_experiment(plan: Plan, study: optuna.Study) -> None:
    """Refuse to mix trials of different experiments; the first one's is on record."""
    with as_typed(plan.folder, plan.typed) as cfg:
        config = {
            **plain(cfg),
            **{key: plain(plan.cfg)["search"][key] for key in ("space", "direction", "epoch")},
        }
        now = flat(
            without_places(config, tuple(map(str, (cfg.run_dir, cfg.data_dir, cfg.work_dir))))
        )
    line = shlex.join(["python", "run.py", *plan.typed[:-2]])
    known = study.user_attrs.get("experiment")
    if known is None:
        study.set_user_attr("line", line)
        study.set_user_attr("experiment", now)
        return
    changed = [key for key in {**known, **now} if known.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        raise InputError(
            f"search.study={study.study_name} holds trials of {study.user_attrs['line']}, with "
            f"{key}={known.get(key)}, and this is {line}, with {key}={now.get(key)}: type "
            "search.study=NAME for a study of its own, or the options of the first"
        )


def flat(node: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Every leaf of a configuration under its full key."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= (
            flat(value, f"{above}{key}.")
            if isinstance(value, Mapping)
            else {f"{above}{key}": value}
        )
    return found


def work(study: optuna.Study, run: Callable[[Trial], float], *, n: int | None) -> None:
    """Run trials until ``n`` have ended, or all that wait; wait for those of other workers."""
    while True:
        take_over(study)
        states = Counter(trial.state for trial in study.get_trials(deepcopy=False))
        ended, running = sum(states[state] for state in ENDED), states[TrialState.RUNNING]
        missing = states[TrialState.WAITING] if n is None else n - ended - running
        if missing > 0:
            run_one(study, run)
        elif running:
            time.sleep(1)
        else:
            return


def run_one(study: optuna.Study, run: Callable[[Trial], float]) -> None:
    """Run one trial, which goes on later if it is stopped or the disk is full."""
    begun: list[int] = []

    def objective(trial: Trial) -> float:
        begun.append(trial.number)
        return run(trial)

    try:
        study.optimize(objective, n_trials=1)
    except (KeyboardInterrupt, SystemExit):
        hand_over(study, begun[0])
        raise
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            hand_over(study, begun[0])
        raise


def try_options(plan: Plan, trial: Trial) -> float:
    """Train with the options that Optuna suggests."""
    point = {key: suggest(trial, key, each) for key, each in plan.space.items()}
    number = first_number(trial.study.trials[trial.number])
    name = f"{number:04d}"
    log.info(f"trial {name}: {' '.join(options(point))}")
    value = finish(plan, trial, name, options(point), pruner=plan.pruner)
    log.info(f"trial {name}: {plan.cfg.optimized_metric} {value:.4g}")
    return value


def suggest(trial: Trial, key: str, each: BaseDistribution) -> Any:
    if isinstance(each, CategoricalDistribution):
        return trial.suggest_categorical(key, each.choices)
    ask = trial.suggest_float if isinstance(each, FloatDistribution) else trial.suggest_int
    return ask(key, each.low, each.high, step=each.step, log=each.log)


def judge_winner(plan: Plan, study: optuna.Study, trial: Trial) -> float:
    """Train again, with another seed, a winner that is in the queue."""
    number, seed = (trial.suggest_int(key, 0, 2**32) for key in ("winner", "seed"))
    if not trial.study.trials[trial.number].user_attrs:
        raise TrialPruned  # another worker was faster, and Optuna has invented this one
    point = options(study.trials[number].params)
    return finish(
        plan,
        trial,
        f"winners/{first_number(study.trials[number]):04d}-seed{seed}",
        [*point, f"seed={seed}"],
    )


def finish(
    plan: Plan, trial: Trial, name: str, point: Sequence[str], *, pruner: Any = None
) -> float:
    """Train a trial in its folder, or go on where another worker has left it; return its value."""
    frozen, folder = trial.study.trials[trial.number], plan.folder / name
    if PRUNED in frozen.user_attrs:
        raise TrialPruned
    folder.mkdir(parents=True, exist_ok=True)
    watch = {
        "_target_": "src.callbacks.pruning.Pruning",
        "study": trial.study.study_name,
        "trial": trial.number,
        "metric": plan.cfg.optimized_metric,
        "pruner": pruner,
    }
    goes_on = first_number(frozen) != frozen.number and (folder / RECORD).is_file()
    arguments = (
        [f"resume={quoted(folder)}"] if goes_on else [*plan.typed, *point, *always(plan, name)]
    )
    try:
        with as_typed(folder, [*arguments, f"callbacks.pruning={as_value(watch)}"]) as cfg:
            last = train(cfg)
    except DivergenceError as error:
        log.error("%s", error)  # noqa: TRY400 - the others go on
        return plan.worst
    ended = trial.study.trials[trial.number]
    if PRUNED in ended.user_attrs:
        raise TrialPruned
    assert last is not None
    reported = ended.intermediate_values.values() if plan.cfg.search.epoch == "best" else ()
    return plan.best([last, *reported])


def always(plan: Plan, name: str) -> list[str]:
    """The options of a trial that are neither typed nor tried."""
    study = plan.cfg.search.study
    wandb = [
        f"logger.wandb.group={study}",
        f"logger.wandb.name={quoted(name)}",
        "logger.wandb.job_type=search",
    ]
    return [
        "test_after_training=false",
        "print_config=false",
        *(wandb if "wandb" in plan.cfg.logger else []),
    ]


def as_value(node: Any) -> str:
    """Write a node as a value that can be typed."""
    if isinstance(node, Mapping):
        return "{" + ",".join(f"{key}:{as_value(value)}" for key, value in node.items()) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(as_value, node)) + "]"
    return quoted(node) if isinstance(node, str) else json.dumps(node)


def enqueue_winners(plan: Plan, study: optuna.Study, judged: optuna.Study) -> None:
    """Queue the best trials with each seed, where no other worker has done so."""
    with locked(plan.folder / "lock"):
        known = [each.user_attrs for each in judged.trials if each.state != TrialState.FAIL]
        for trial in ranked(plan, study)[: plan.cfg.search.winners]:
            for seed in plan.cfg.search.seeds:
                pair = {"winner": trial.number, "seed": seed}
                if pair not in known:
                    judged.enqueue_trial(pair, user_attrs=pair)


def ranked(plan: Plan, study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have a finite value, the best first."""
    trials = study.get_trials(states=(TrialState.COMPLETE,))
    finite = [trial for trial in trials if math.isfinite(trial.value)]
    return sorted(finite, key=lambda trial: trial.value, reverse=plan.worst < 0)


def report(plan: Plan, study: optuna.Study, judged: optuna.Study) -> float:
    """Show the trials, what mattered, and the best one's command; return its value."""
    order = ranked(plan, study)
    if not order:
        raise InputError(
            "no trial of this search has ended with a number: try another search.space"
        )
    again = scores_of_winners(judged)
    best = min(
        order,
        key=lambda trial: (
            trial.number not in again,
            (1 if plan.worst > 0 else -1) * mean(again.get(trial.number, [trial.value])),
        ),
    )
    show(table(plan, study, again))
    weights = importances(study)
    for name, weight in weights.items():
        log.info(f"importance of {name}: {weight:.2f}")
    picture = plan.folder / "search.png"
    draw_search(
        picture, study.trials, metric=plan.cfg.optimized_metric, is_lower_better=plan.worst > 0
    )
    line = shlex.join(["python", "run.py", *plan.typed, *options(best.params)])
    log.info(f"in {plan.folder}: search.png, and a run folder for each trial")
    log.info(f"best, of trial {first_number(best):04d}: {line}")
    return mean(again.get(best.number, [best.value]))


def scores_of_winners(judged: optuna.Study) -> dict[int, list[float]]:
    """What each winner scored with other seeds."""
    scores: dict[int, list[float]] = {}
    for trial in judged.get_trials(states=(TrialState.COMPLETE,)):
        scores.setdefault(trial.params["winner"], []).append(trial.value)
    return scores


def importances(study: optuna.Study) -> dict[str, float]:
    """How much of the differences each option explains; nothing where trials are too few."""
    with unwarned():
        try:
            return optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        except (ValueError, RuntimeError):
            return {}


def table(plan: Plan, study: optuna.Study, again: Mapping[int, Sequence[float]]) -> Table:
    """A row for each of the best trials, with what its options scored with other seeds."""
    sheet = Table()
    for heading in ("trial", plan.cfg.optimized_metric, "with other seeds", *plan.space):
        sheet.add_column(heading, justify="right")
    for trial in ranked(plan, study)[:20]:
        scores = again.get(trial.number, [])
        spread = f" ± {stdev(scores):.3f}" if len(scores) > 1 else ""
        sheet.add_row(
            f"{first_number(trial):04d}", f"{trial.value:.4g}",
            f"{mean(scores):.4g}{spread}" if scores else "",
            *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in trial.params.values()),
        )  # fmt: skip
    return sheet
