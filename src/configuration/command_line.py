"""Translate the command line before Hydra sees it, and report mistakes in it as sentences."""

import argparse
import hashlib
import os
import re
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException

from src.configuration.guesses import CONFIGS, assignment, choose, is_group
from src.configuration.resolvers import folder_of_run
from src.errors import InputError, StoppedError
from src.reports.terminal import command, quoted, setting, unquoted
from src.runs.folders import LAST, RECORD, newest_run, remove_unused

wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
VALUED = "--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p"
CHOOSING = "--cfg", "-c", "--info", "-i"  # of a few words
COMBINING = (  # groups of which a run takes several options
    "model/augment", "model/penalties", "model/schedules", "model/terms", "callbacks", "logger",
)  # fmt: skip
AMBIGUOUS = r"Ambiguous value for argument '(.*)'\n"  # in Hydra's words
UNCHOSEN = r"Could not override '(\S+)/(\w+)'"
UNLIKE = r"Error merging override (?:\+\+)?(.*)"
PLUGINS = {  # what each launcher needs
    "hydra/launcher/joblib": "requirements.txt",
    "hydra/launcher/submitit_slurm": "requirements-cluster.txt",
    "hydra/launcher/submitit_local": "requirements-cluster.txt",
}
RESUMED = "hydra.job.id=resumed"  # marks a line whose ``resume`` is translated


def translate(arguments: Sequence[str]) -> list[str]:
    """Rewrite the user's overrides so that Hydra takes them all and the schema judges them.

    ``GROUP=null`` and ``~GROUP`` become ``GROUP=none`` (Hydra takes only names there),
    ``key=value`` becomes ``++key=value`` (a key that Hydra does not know reaches the schema, which
    names the nearest), and ``resume=RUN`` becomes what is recorded in RUN, in the same folder.
    A translated line translates to itself: processes that a run starts read it again.
    """
    if {"-sc", "--shell-completion"} & set(arguments):
        return list(arguments)
    flags, overrides = flags_apart(resume(in_torchrun_s_folder(arguments)))
    require_flags(flags)
    require_assignments(overrides)
    # Flags first, for argparse takes none between overrides.
    return [*flags, *filter(None, map(translate_one, overrides))]


def flags_apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide the command line into flags with their values, and overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        before = flags[-1] if flags else ""
        is_value = (before in VALUED and argument not in VALUED) or (
            before in CHOOSING and "=" not in argument
        )
        (flags if argument.startswith("-") or is_value else overrides).append(argument)
    return flags, overrides


def require_flags(flags: Sequence[str]) -> None:
    """Refuse options that are typed like flags, which argparse may take for other flags."""
    known = get_args_parser()._option_string_actions
    for flag in flags:
        name = flag.partition("=")[0]
        is_meant = name.startswith("--") or (name.startswith("-") and "=" in flag)
        if is_meant and name not in known:
            rest = flag.lstrip("-")
            raise InputError(
                f"there is no flag {name}: options have no dashes, type "
                f"{rest if '=' in rest else f'{rest}=VALUE'}"
            )


def require_assignments(overrides: Sequence[str]) -> None:
    """Refuse words that assign and delete nothing."""
    for i, word in enumerate(overrides):
        if "=" not in word[1:] and word[:1] != "~":
            raise InputError(f"{word} is not KEY=VALUE: {assignment(overrides, i)}")


def translate_one(argument: str) -> str:
    """Rewrite one override for Hydra; an empty text leaves it out."""
    argument = readable(argument.removeprefix("++"))
    key, equals, value = argument.removeprefix("~").partition("=")
    group = key.partition("@")[0]
    if not re.fullmatch(r"[A-Za-z_][\w./@]*", key) or key.startswith("hydra"):
        return argument
    if not is_group(group):
        return f"++{argument}" if equals and argument[0] != "~" else argument
    if value not in ("null", "None", "[]") and argument[0] != "~":
        require_names(argument, group)
        return argument
    if (CONFIGS / group / "none.yaml").is_file():
        return f"{key}=none"
    if group in ("experiment", "hparams_search"):
        return ""
    raise InputError(f"{argument} leaves nothing to run with: {choose(group, '')}")


def readable(argument: str) -> str:
    """Quote a value that Hydra's grammar cannot read, such as a path with = or (; expand ~/."""
    key, equals, value = argument.partition("=")
    if value.startswith("~/"):
        value = str(Path(value).expanduser())
    if equals and parsed(f"{key}={value}") is None and value[:1] not in ("[", "{", "'", '"'):
        value = quoted(value)
    return f"{key}{equals}{value}"


def parsed(argument: str) -> Override | None:
    """An override as Hydra reads it; None where its grammar cannot."""
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


def require_names(argument: str, group: str) -> None:
    """Refuse what Hydra would fail at: numbers, true and false for a group, several, or none."""
    if argument.endswith("="):
        raise InputError(f"{argument} names nothing: {choose(group, '')}")
    override = parsed(argument)
    if override is None or override.is_sweep_override():
        return  # Hydra refuses or divides it
    names = value if isinstance(value := override.value(), list) else [value]
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        has_none = (CONFIGS / group / "none.yaml").is_file()
        nothing = f"type {group}=null for none of it, or " if has_none else ""
        raise InputError(f"{argument} is not allowed: {nothing}{choose(group, wrong[0])}")
    if len(names) > 1 and group not in COMBINING:
        raise InputError(
            f"{argument} is several, and {group} takes one: type {group}={names[0]}, or -m "
            f"{group}={','.join(map(str, names))} for a run with each"
        )


def typed(key: str, arguments: Sequence[str]) -> str | None:
    """The last value given to ``key``, without quotes; None if none is given, or null."""
    values = [value for name, _, value in (argument.partition("=") for argument in arguments)
              if name.lstrip("+") == key]  # fmt: skip
    value = unquoted(values[-1]) if values else "null"
    return None if value == "null" else value


def resume(arguments: Sequence[str]) -> list[str]:
    """Prepend what RUN was started with, if ``resume=RUN`` is among the arguments.

    Raises:
        InputError: if RUN is no run folder, has a record that may not be trusted, or is to go on in
            another folder.
    """
    name = typed("resume", arguments)
    if name is None or RESUMED in arguments:
        return list(arguments)
    if typed("hydra.run.dir", arguments) is not None:
        raise InputError(
            f"resume={name} goes on in its own folder: leave hydra.run.dir out, or go on in "
            f"another one with the options of that run and {setting('ckpt', name)}"
        )
    run = find_run(name)
    rest = [line for line in arguments if not is_resume(line)]
    recorded = yaml.safe_load((run / RECORD).read_text())
    if not isinstance(recorded, list):
        raise InputError(f"{run / RECORD} does not say what {run} was started with: start anew")
    kept = [line for line in recorded if not is_resume(line)]
    require_own_record(kept, rest=rest, run=run)
    # ``hydra.mode``, because a job of a search goes on alone.
    in_its_folder = [f"hydra.run.dir={quoted(run)}", "hydra.mode=RUN", RESUMED]
    # What follows ``resume`` was typed, and may name what a record may not (see prepare.py).
    return [*kept, f"++resume={quoted(run)}", *rest, *in_its_folder]


def require_own_record(recorded: Sequence[str], *, rest: Sequence[str], run: Path) -> None:
    """Refuse a record that would have Hydra itself read files from elsewhere, or run their code.

    No honest run records such lines, and Hydra would act on them before any other check. Lines that
    are typed again in ``rest`` are the user's own choice.
    """
    trusted = [line.removeprefix("++") for line in rest]
    for line in recorded:
        key, _, value = line.partition("=")
        is_group = (CONFIGS / key.lstrip("+~").partition("@")[0]).is_dir()
        is_path = is_group and re.search(r"[/\\$]", value)
        is_hydra = re.search(r"^[+~]*-|(?<![\w.])hydra\b", key)
        if (is_path or is_hydra) and line.removeprefix("++") not in trusted:
            raise InputError(
                f"{run} has {line} on record, which can run code from elsewhere: if you trust it, "
                "type it again beside resume"
            )


def is_resume(argument: str) -> bool:
    return argument.lstrip("+").startswith("resume=")


def find_run(name: str) -> Path:
    """The run folder that ``resume=name`` means."""
    run = newest_run(Path.cwd() / "logs") if name == "latest" else Path(name).absolute()
    if not (run / RECORD).is_file():
        raise InputError(f"resume={name} is not a run folder: name one, or type resume=latest")
    return run


def in_torchrun_s_folder(arguments: Sequence[str]) -> list[str]:
    """Give all processes of one ``torchrun`` the run folder of rank 0; leave other starts alone.

    What torchrun starts again resumes the run that the first attempt began there.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return list(arguments)
    rank = int(os.environ["RANK"])
    others = [*arguments, *([f"hydra.job.name=train_ddp_process_{rank}"] if rank else [])]
    if (name := typed("resume", arguments)) is not None:
        if RESUMED not in arguments:
            require_same_run(name)
        return others
    named = typed("hydra.run.dir", arguments)
    folder, is_ours = folder_of_rank_zero(rank, named)
    if is_ours and os.environ["TORCHELASTIC_RESTART_COUNT"] != "0" and (folder / RECORD).is_file():
        return [
            *(line for line in others if "hydra.run.dir=" not in line),
            f"resume={quoted(folder)}",
        ]
    return [*others, *([] if named else [f"hydra.run.dir={folder}"])]


def folder_of_rank_zero(rank: int, named: str | None) -> tuple[Path, bool]:
    """The folder of all attempts of this torchrun, and whether it held no run before the first."""
    store = store_of_torchrun()
    if rank == 0 and not store.check(["run_folder"]):
        now = datetime.now().astimezone()
        folder = named or folder_of_run("logs/runs", f"{now:%Y-%m-%d/%H-%M-%S}")
        store.set("run_is_ours", str(not (Path(folder) / RECORD).exists()))
        store.set("run_folder", folder)
    folder = store.get("run_folder").decode()
    return Path(folder), store.get("run_is_ours") == b"True"


def store_of_torchrun() -> Any:
    """What all processes of one torchrun read and write, who wait five minutes for each other."""
    # Here, because importing torch takes seconds that other starts can spare.
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, timeout=timedelta(minutes=5))


def require_same_run(name: str) -> None:
    """Refuse to resume what is not the same on every host, instead of waiting for one another.

    Raises:
        InputError: on each host, that names those which differ from the first.
    """
    store, rank = store_of_torchrun(), os.environ["RANK"]
    ranks, attempt = range(int(os.environ["WORLD_SIZE"])), os.environ["TORCHELASTIC_RESTART_COUNT"]
    store.set(f"run/{attempt}/{rank}", f"{socket.gethostname()} {state_of(name)}")
    try:
        said = [store.get(f"run/{attempt}/{each}").decode().split() for each in ranks]
    except RuntimeError as error:
        raise InputError(f"resume={name}: the other hosts do not answer: start them too") from error
    store.set(f"heard/{attempt}/{rank}", "")
    with suppress(RuntimeError):  # the store ends with the first process that leaves
        store.wait([f"heard/{attempt}/{each}" for each in ranks])
    others = sorted({host for host, state in said if state != said[0][1]})
    if others:
        raise InputError(
            f"resume={name} is not the same run on {', '.join(others)} as on {said[0][0]}: let all "
            "hosts share one file system, or copy the folder of the run from the host that has it"
        )


def state_of(name: str) -> str:
    """What tells the state of a run from others: a digest of its last checkpoint."""
    try:
        last = find_run(name) / LAST
    except InputError:
        return "absent"
    return hashlib.sha256(last.read_bytes()).hexdigest() if last.is_file() else "unsaved"


def have_hydra_raise(*, always: bool) -> None:
    """Have Hydra raise errors, which it would else print in part before it exits.

    Args:
        always: True until the task starts, so that ``errors_as_sentences`` hears of mistakes in
            options. False has Hydra do so only for users who want tracebacks, also in processes
            that the task starts.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1" if always or wants_traceback else "0"


def let_argparse_take_any_help() -> None:
    """Spare the options of Hydra 1.3 a check that Python 3.14 brought; delete this with Hydra 1.4.

    argparse now reads each help text at once, and one of Hydra's becomes a text only when it is
    printed (https://github.com/facebookresearch/hydra/issues/3121).
    """
    argparse.ArgumentParser._check_help = lambda *_: None  # type: ignore[attr-defined]


MISTAKES = InputError, HydraException, OSError  # of the user, who needs no traceback
failures: list[str] = []  # of the jobs of this sweep


class JobError(InputError):
    """What is wrong with one job of a sweep, on the list of ``failures`` wherever it is unpickled.

    That is how the process that started a sweep hears of jobs that ran in others.
    """

    def __init__(self, said: str) -> None:
        super().__init__(said)
        if said not in failures:  # every rank of a job says so
            failures.append(said)


@contextmanager
def errors_of_jobs(name: str, *, folder: Path, has_own_process: bool) -> Iterator[None]:
    """Say what is wrong with the job ``name`` of a sweep, whose other jobs then go on.

    Hydra raises it again after the last job, for ``errors_as_sentences`` to list them all. A folder
    in which nothing is written is removed. A signal ends the sweep, unless it came to a job alone.
    """
    try:
        yield
    except StoppedError as stop:
        if not has_own_process:
            raise
        is_run = (folder / RECORD).is_file()
        go_on = command(resume=folder) if is_run else "type the same line again"
        raise JobError(f"job {name}: a signal has stopped it: {go_on}") from stop
    except Exception as error:
        remove_unused(folder)
        if isinstance(error, MISTAKES):
            said = f"job {name}: {sentence(error)}"
            sys.stderr.write(f"error: {said}\n")
        else:
            said = f"job {name}: {type(error).__name__}: {sentence(error)}"
            traceback.print_exc()
        raise JobError(said) from error


@contextmanager
def errors_as_sentences(folder: Path | None = None) -> Iterator[None]:
    """Report a mistake in one sentence and exit with 1; HYDRA_FULL_ERROR=1 asks for a traceback.

    Ctrl-C exits with 130, as shells expect. A ``folder`` in which nothing is written is removed.
    """
    try:
        yield
    except BrokenPipeError:  # as of ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MISTAKES as error:
        leave(1, f"error: {summary_of_jobs() or sentence(error)}", folder=folder)
    except KeyboardInterrupt:
        is_sweep = {"-m", "--multirun"} & {*sys.argv}
        done = "stopped: what a job has saved goes on with python run.py resume=FOLDER"
        leave(130, done if is_sweep else "stopped before anything was done", folder=folder)
    except Exception as error:
        if not (said := of_launcher(error)):
            raise
        leave(1, f"error: {said}", folder=folder)


def leave(code: int, message: str, *, folder: Path | None) -> None:
    """Exit with a ``message``, or raise the error that is handled for who wants its traceback."""
    if folder is not None:
        remove_unused(folder)
    if wants_traceback:
        raise  # noqa: PLE0704
    sys.stderr.write(f"{message}\n")
    raise SystemExit(code) from None


def summary_of_jobs() -> str:
    """List the failed jobs of a sweep; an empty text if there are none."""
    if not failures:
        return ""
    lines = "".join(f"\n  {failure}" for failure in failures)
    return f"{len(failures)} of the sweep's jobs failed, the others are done:{lines}"


def sentence(error: Exception) -> str:
    """Say in one line what is wrong, and what to type instead where that is known."""
    match error:
        case MissingConfigException(missing_cfg_file=str(name)) if name in PLUGINS:
            needs = f"a package that is not installed: type pip install -r {PLUGINS[name]}"
            return f"hydra/launcher needs {needs}"
        case MissingConfigException(missing_cfg_file=str(name)) if "/" in name:
            parents = [path.as_posix() for path in Path(name).parents]
            group = next((parent for parent in parents if is_group(parent)), ".")
            choice = name.removeprefix(f"{group}/")
            return f"there is no {group}={choice}: {choose(group, choice)}"
        case OverrideParseException(override=str(override)):
            return f"{override.removeprefix('++')} is not KEY=VALUE: quote it, as in 'KEY=[1,2]'"
        case HydraException():
            return of_hydra(str(error))
        case OSError(strerror=str(reason), filename=str(name)):
            return (
                f"{name} cannot be used ({reason}): name another folder, as in hydra.run.dir=PATH"
            )
        case _:
            return " ".join(str(error).split())


def of_hydra(message: str) -> str:
    """Say what Hydra's ``message`` means, where that is known."""
    if found := re.search(AMBIGUOUS, message):
        return of_several_values(found[1].removeprefix("++"))
    if found := re.search(UNCHOSEN, message):
        return of_another_choice(found[1], found[2])
    if found := re.search(UNLIKE, message):
        return f"{found[1]} is of another kind than what is there: see it with --cfg job"
    return " ".join(message.split())


def of_launcher(error: Exception) -> str:
    """Say what a launcher's own ``error`` means; an empty text for others."""
    said = sentence(error)
    match type(error).__module__.partition(".")[0]:
        case "submitit":
            return (
                f"SLURM refuses the jobs ({said}): give it what it asks for, as in "
                "hydra.launcher.partition=NAME"
            )
        case "joblib":
            return (
                f"a process of the sweep was killed, and the others with it ({said}): go on with "
                "resume=FOLDER for each job, and leave more memory with hydra.launcher.n_jobs=1"
            )
        case _:
            return ""


def of_another_choice(group: str, part: str) -> str:
    """Say with which options of ``group`` there is a ``part``, for what is chosen has none."""
    defaults = re.compile(rf"^ *- (override )?{part}:", re.MULTILINE)
    files = sorted((CONFIGS / group).glob("*.yaml"))
    owners = [f"{group}={file.stem}" for file in files if defaults.search(file.read_text())]
    return f"this {group} has no {part}: add {' or '.join(owners)}"


def of_several_values(argument: str) -> str:
    """Say what to type for ``KEY=A,B``, which is a sweep, but without -m."""
    key, _, value = argument.partition("=")
    decimal = value.replace(",", ".")
    number = f"{key}={decimal} for a number, " if re.fullmatch(r"-?0,\d+", value) else ""
    if is_group(key) and key not in COMBINING:
        return f"{argument} is several values, and {key} takes one: type -m for a run with each"
    return (
        f"{argument} is several values: type {number}'{key}=[{value}]' for a list, or -m for a run "
        "with each"
    )
