"""Search the options of a run for the best ones, in many runs that several workers share."""

import logging
import os
import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import TrialPruned
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from src.callbacks.losses import DivergenceError
from src.callbacks.pruning import AS_IT_IS, PRUNED
from src.compare import without_places
from src.configuration.container import plain
from src.configuration.nested import nested
from src.configuration.search_plan import Plan, as_value, built, make_plan, options, score
from src.errors import InputError, StoppedError
from src.files import locked
from src.reports.searches import draw_search, search_table
from src.reports.terminal import quoted, show
from src.runs.folders import RECORD
from src.runs.studies import STORAGE, address, first_number, hand_over, open_storage, take_over
from src.train import train

log = logging.getLogger(__name__)
SHOWN = 20  # rows of the table
# Of several workers each sees what the others try.
TPE = {"_target_": "optuna.samplers.TPESampler", "constant_liar": True}


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
        if plan.own and not any(map(is_own, study.trials)):
            study.enqueue_trial(plan.own, user_attrs={AS_IT_IS: True})
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
    name = name_of(trial)
    log.info(f"trial {name}: {' '.join(point)}")
    value = finish(plan, trial, name, point, pruner=plan.settings["pruner"])
    log.info(f"trial {name}: {plan.metric} {value:.4g}")
    return value


def name_of(trial: Trial | FrozenTrial) -> str:
    """The name of a trial's folder, which it keeps where another worker goes on with it."""
    return f"{first_number(trial):04d}"


def is_own(trial: Trial | FrozenTrial) -> bool:
    return AS_IT_IS in trial.user_attrs


def suggest(trial: Trial, key: str, each: Any) -> Any:
    """What Optuna has chosen of a distribution."""
    if isinstance(each, CategoricalDistribution):
        return trial.suggest_categorical(key, each.choices)
    ask = trial.suggest_float if isinstance(each, FloatDistribution) else trial.suggest_int
    return ask(key, each.low, each.high, step=each.step, log=each.log)


def enqueue_winners(plan: Plan, study: optuna.Study, winners: optuna.Study) -> None:
    """Queue the best trials, and the experiment as it is, with each seed, unless that is done."""
    ranked, n = plan.ranked(study), plan.settings["winners"]
    with locked(plan.folder / "lock"):
        known = [each.user_attrs for each in winners.trials if each.state != TrialState.FAIL]
        for trial in [*ranked[:n], *filter(is_own, ranked[n:])] if n else []:
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
    name = f"winners/{name_of(winner)}-seed{seed}"
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
    shown = [*order[:SHOWN], *filter(is_own, order[SHOWN:])]
    show(search_table({title(each): each for each in shown}, again, metric=plan.metric))
    if len(order) > 2:
        shares = optuna.importance.get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator()
        )
        log.info("importance: " + ", ".join(f"{key} {share:.2f}" for key, share in shares.items()))
    line = shlex.join(["python", "run.py", *plan.typed, *options(best.params)])
    log.info(f"best, of trial {title(best)}: {line}")
    own = {title(each): score(each) for each in order if is_own(each)}
    draw_search(plan.folder / "search.png", study.trials, own, metric=plan.metric, sign=plan.sign)
    log.info(f"in {plan.folder}: search.png, and a run folder for each trial")
    return mean(again.get(best.number, [score(best)]))


def title(trial: FrozenTrial) -> str:
    return f"{name_of(trial)}, {AS_IT_IS}" if is_own(trial) else name_of(trial)
