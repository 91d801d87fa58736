"""Translate the command line before Hydra sees it, and report mistakes in it as sentences."""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException

from src.configuration.resolvers import unused
from src.errors import InputError
from src.reports.terminal import quoted, setting, unquoted
from src.runs.folders import RECORD, newest_run

wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
CONFIGS = Path(__file__).parents[2] / "configs"
VALUED = "--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p"
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
    arguments = resume(in_torchrun_s_folder(arguments))
    arguments = [argument.removeprefix("++") for argument in flags_first(arguments)]
    return [*filter(None, map(translate_one, arguments))]


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Move flags and their values before the overrides: argparse takes no flag between them."""
    flags: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        is_value = bool(flags) and flags[-1] in VALUED and argument not in VALUED
        (flags if argument.startswith("-") or is_value else overrides).append(argument)
    return [*flags, *overrides]


def translate_one(argument: str) -> str:
    """Rewrite one override for Hydra; an empty text leaves it out."""
    key, equals, value = argument.removeprefix("~").partition("=")
    group = key.partition("@")[0]
    if not re.fullmatch(r"[A-Za-z_][\w./@]*", key) or key.startswith("hydra"):
        return argument
    if not (CONFIGS / group).is_dir():
        return f"++{argument}" if equals and argument[0] != "~" else argument
    if value not in ("null", "None") and argument[0] != "~":
        return argument
    if (CONFIGS / group / "none.yaml").is_file():
        return f"{key}=none"
    if group in ("experiment", "hparams_search"):
        return ""
    raise InputError(f"{argument} leaves nothing to run with: choose one of {choices(group)}")


def choices(group: str) -> str:
    """The names that ``GROUP=NAME`` may give, in one line."""
    return ", ".join(sorted(path.stem for path in (CONFIGS / group).glob("*.yaml")))


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
    if typed("resume", arguments) is not None:
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
    # Here, because importing torch takes seconds that other starts can spare.
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    port = int(os.environ["MASTER_PORT"])
    store = TCPStore(os.environ["MASTER_ADDR"], port, is_master=False)
    if rank == 0 and not store.check(["run_folder"]):
        now = datetime.now().astimezone()
        folder = named or unused(f"logs/runs/{now:%Y-%m-%d/%H-%M-%S}")
        store.set("run_is_ours", str(not (Path(folder) / RECORD).exists()))
        store.set("run_folder", folder)
    folder = store.get("run_folder").decode()
    return Path(folder), store.get("run_is_ours") == b"True"


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


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Report a mistake in one sentence and exit with 1; HYDRA_FULL_ERROR=1 asks for a traceback."""
    try:
        yield
    except (InputError, HydraException, OSError) as error:
        if wants_traceback:
            raise
        sys.stderr.write(f"error: {sentence(error)}\n")
        raise SystemExit(1) from None


def sentence(error: Exception) -> str:
    """Say in one line what is wrong, and what to type instead where that is known."""
    match error:
        case MissingConfigException(missing_cfg_file=str(name)) if "/" in name:
            group, _, choice = name.rpartition("/")
            known = choices(group)
            nearest = get_close_matches(Path(choice).stem, known.split(", "), n=1, cutoff=0.5)
            guess = f"did you mean {nearest[0]}? " if nearest else ""
            return f"there is no {group}={choice}: {guess}choose one of {known}"
        case OverrideParseException(override=str(override)):
            return f"{override.removeprefix('++')} is not KEY=VALUE: quote it, as in 'KEY=[1,2]'"
        case OSError(strerror=str(reason), filename=str(name)):
            return (
                f"{name} cannot be used ({reason}): name another folder, as in hydra.run.dir=PATH"
            )
        case _:
            return " ".join(str(error).split())
