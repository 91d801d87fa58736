"""The command line before Hydra sees it: old spellings, ``resume``, and one folder per torchrun."""

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

from src.errors import InputError
from src.runs import newest_run

wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
CONFIGS = Path(__file__).parents[1] / "configs"


def translate(arguments: Sequence[str]) -> list[str]:
    """Rewrite the user's overrides so that Hydra takes them all and the schema judges them.

    ``GROUP=null`` and ``~GROUP`` become ``GROUP=none`` (Hydra takes only names there),
    ``key=value`` becomes ``++key=value`` (a key that Hydra does not know reaches the schema, which
    names the nearest), and ``resume=RUN`` becomes what is recorded in RUN, in the same folder.
    A translated line translates to itself: processes that a run starts read it again.
    """
    if {"-sc", "--shell-completion"} & set(arguments):
        return list(arguments)
    arguments = [argument.removeprefix("++") for argument in resume(arguments)]
    # Python's argparse takes no flag between overrides.
    arguments.sort(key=lambda argument: argument not in ("-m", "--multirun"))
    return [*filter(None, map(translate_one, arguments)), *torchrun_folder(arguments)]


def translate_one(argument: str) -> str:
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
    raise InputError(f"{argument} leaves nothing to run with: choose one of {options(group)}")


def options(group: str) -> str:
    return ", ".join(sorted(path.stem for path in (CONFIGS / group).glob("*.yaml")))


def resume(arguments: Sequence[str]) -> list[str]:
    """Prepend what RUN was started with, if ``resume=RUN`` is among the arguments."""
    names = [argument for argument in arguments if re.match(r"\+*resume=", argument)]
    is_translated = any(argument.startswith("hydra.run.dir=") for argument in arguments)
    if not names or names[-1].endswith("resume=null") or is_translated:
        return list(arguments)
    rest = [argument for argument in arguments if argument not in names]
    run = find_run(names[-1].partition("=")[2])
    recorded = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text())
    kept = [line for line in recorded if not re.match(r"\+*resume=", line)]
    # A job of a search goes on alone, and the record changes only once the options are accepted.
    hydra = [f"hydra.run.dir='{run}'", "hydra.mode=RUN", "hydra.output_subdir=null"]
    return [*kept, *rest, f"++resume='{run}'", *hydra]


def find_run(name: str) -> Path:
    """The run folder that ``resume=name`` means."""
    name = name.strip("'\"")
    run = (
        newest_run(Path.cwd() / "logs", holding="config.yaml")
        if name == "latest"
        else Path(name).absolute()
    )
    if not (run / ".hydra" / "overrides.yaml").is_file():
        raise InputError(f"resume={name} is not a run folder: name one, or type resume=latest")
    return run


def torchrun_folder(arguments: Sequence[str]) -> list[str]:
    """Overrides that make all processes of one ``torchrun`` share rank 0's run folder."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return []
    rank = int(os.environ["RANK"])
    quiet = [f"hydra.job.name=train_ddp_process_{rank}", "hydra.output_subdir=null"]
    named = any("hydra.run.dir=" in argument for argument in arguments)
    folder = [] if named else [f"hydra.run.dir=logs/runs/{time_of_rank_zero(rank)}"]
    return folder if rank == 0 else folder + quiet


def time_of_rank_zero(rank: int) -> str:
    # Here, because importing torch takes seconds that other starts can spare.
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    port = int(os.environ["MASTER_PORT"])
    store = TCPStore(os.environ["MASTER_ADDR"], port, is_master=False)
    if rank == 0:
        store.set("run_folder", datetime.now().astimezone().strftime("%Y-%m-%d/%H-%M-%S"))
    return str(store.get("run_folder").decode())


@contextmanager
def hydra_raises() -> Iterator[None]:
    """Have Hydra raise its errors instead of printing them, until the task starts."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        report_errors_again()


def report_errors_again() -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1" if wants_traceback else "0"


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
    match error:
        case MissingConfigException(missing_cfg_file=str(name)) if "/" in name:
            group, _, choice = name.rpartition("/")
            known = options(group)
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
