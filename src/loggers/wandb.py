"""A wandb logger that goes offline by itself and only ever warns."""

import os
import secrets
import shlex
import shutil
import ssl
import sys
import threading
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from lightning_fabric.loggers.logger import rank_zero_experiment
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from typing_extensions import override

from src.errors import InputError

if TYPE_CHECKING:
    from wandb import Run, Settings

MODES = {
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
PROBE_TIMEOUT_S = 10.0
INIT_TIMEOUT_S = 20.0
FINISH_TIMEOUT_S = 60.0
LOW_DISK_BYTES = 500e6


def open_wandb(
    *,
    save_dir: str,
    project: str = "conditional-gan",
    name: str | None = None,
    offline: bool = False,
    id: str | None = None,  # noqa: A002  users' key
    log_model: Literal["all"] | bool = False,
    job_type: str = "train",
    group: str | None = None,
    tags: Sequence[str] = (),
) -> WandbLogger:
    """The wandb logger of run folder ``save_dir``; its run opens at first use, on rank 0 only."""
    init: dict[str, Any] = {"project": project, "name": name, "save_dir": save_dir, "id": id}
    init |= {"log_model": log_model, "job_type": job_type, "group": group}
    return SturdyWandbLogger(init | {"tags": list(tags)}, mode=requested_mode(offline=offline))


def close_wandb(*, exit_code: int = 0) -> None:
    """Finish the open run and wandb's service: the next job of this process starts afresh."""
    if "wandb" not in sys.modules:
        return
    with Forgiving("closing the run"):
        _wandb().finish(exit_code=exit_code)
    with Forgiving("closing wandb"):
        _wandb().teardown()


class SturdyWandbLogger(WandbLogger):
    """WandbLogger that goes offline by itself, continues the folder's run, and only warns."""

    def __init__(self, init: Mapping[str, Any], *, mode: str) -> None:
        super().__init__(**init)
        self._wandb_init.pop("anonymous")  # its mere presence makes wandb warn
        self._mode = mode
        self._warned: set[str] = set()

    @property
    @override
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = self._open()
        return self._experiment

    def _open(self) -> "Run":
        root = Path(self._save_dir or ".").absolute()
        _warn_of_little_space(root)
        self._wandb_init["id"] = (
            self._id
            or os.environ.get("WANDB_RUN_ID")
            or newest_run_id(root)
            or secrets.token_hex(4)
        )
        run = self._start()
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        if run.offline:
            self._log_model = False  # an offline artifact would be copied into the home folder
            _tell_how_to_review(run, root)
        elif run.url:
            _wandb().termlog(f"online run {run.url}")
        return run

    def _start(self) -> "Run":
        """Start a run in the wanted mode, or in the next humbler one that works."""
        modes = ["online", "offline", "disabled"]
        for mode in modes[modes.index(self._wanted()) :]:
            with Forgiving(f"{mode} logging", self._warned):
                if mode == "online":
                    require_server()
                run: Run = _wandb().init(**self._wandb_init, mode=mode, settings=_settings(mode))
                return run
            _wandb().teardown()  # frees the run id
        raise AssertionError("a disabled run always starts")

    def _wanted(self) -> str:
        """The configured mode, but offline where there are no usable credentials."""
        try:
            wanted = _configured(self._mode)
            with Forgiving("reading the API key", self._warned):
                if wanted != "online" or has_key():
                    return wanted
                _wandb().termlog("no API key, so the run stays here; `wandb login` stores one")
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"wandb refuses its settings ({reason}): correct the WANDB_ variables, "
                "or type logger=csv"
            ) from error
        return "offline"

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with Forgiving("logging", self._warned):
            super().log_metrics(metrics, step)

    @override
    @rank_zero_only
    def log_image(
        self, key: str, images: list[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        with Forgiving("logging images", self._warned):
            super().log_image(key, images, step, **kwargs)

    @override
    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        with Forgiving("logging hyper-parameters", self._warned):
            super().log_hyperparams(params)

    @override
    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        with Forgiving("uploading a checkpoint", self._warned):
            super().after_save_checkpoint(checkpoint_callback)

    def log_folder(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Log ``folder`` as an artifact of type model, named like it.

        Its files are not copied: offline, the run refers to them where they are until it is synced.
        """
        with Forgiving("logging an artifact", self._warned):
            run = self.experiment
            artifact = _wandb().Artifact(folder.name, type="model", metadata={**metadata})
            artifact.add_dir(str(folder), policy="immutable", skip_cache=True)
            run.log_artifact(artifact)

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Keep the run open after success, since a test may follow: ``close_wandb`` ends it.

        Lightning says that a job is finished before SLURM queues it again, and trains on till then.
        """
        with Forgiving("finishing", self._warned):
            super().finalize(status)
        if status not in ("success", "finished"):
            close_wandb(exit_code=1)


def requested_mode(*, offline: bool) -> str:
    """What WANDB_MODE and the config ask for: online, offline, disabled, or "" for no wish."""
    wish = os.environ.get("WANDB_MODE", "")
    if wish and wish not in MODES:
        raise InputError(f"WANDB_MODE={wish} is none of {', '.join(MODES)}: unset WANDB_MODE")
    mode = MODES.get(wish, "")
    return "offline" if offline and mode != "disabled" else mode


def newest_run_id(root: Path) -> str | None:
    """Id of the latest wandb run under ``root``: a resumed training continues it."""
    logs = sorted(root.glob("wandb/*run-*/run-*.wandb"), key=lambda log: _started(log.parent))
    return logs[-1].stem.removeprefix("run-") if logs else None


def _started(folder: Path) -> str:
    return folder.name.removeprefix("offline-").removeprefix("run-")


def has_key() -> bool:
    """Whether this machine has credentials; never asks the terminal."""
    # Without the viewer query, which retries for five seconds when there is no network.
    _wandb().setup(_wandb().Settings(x_disable_viewer=True, quiet=True))
    return bool(_wandb().login(prompt=False, verify=False))


def require_server() -> None:
    """Raise unless the server answers in time."""
    wandb = _wandb()
    settings = wandb.setup().settings
    if settings.http_proxy or settings.https_proxy:
        return  # a route that only wandb knows
    if silence := unreachable(f"{settings.base_url}/graphql", timeout_s=PROBE_TIMEOUT_S):
        raise wandb.errors.CommError(f"{settings.base_url} cannot be reached: {silence}")


def unreachable(url: str, *, timeout_s: float) -> str:
    """Why the GraphQL server at ``url`` cannot be used, or "" if it answers in time."""
    findings = [f"no answer in {timeout_s:g} s"]
    # A thread, because a name look-up knows no timeout.
    knock = threading.Thread(target=lambda: findings.append(_knock(url, timeout_s)), daemon=True)
    knock.start()
    knock.join(timeout_s)
    return findings[-1]


def _knock(url: str, timeout_s: float) -> str:
    # Any certificate will do: nothing secret is sent, and wandb checks it afterwards.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    query = Request(url, b'{"query": "{__typename}"}', {"Content-Type": "application/json"})
    try:
        urlopen(query, timeout=timeout_s, context=context).close()
    except HTTPError as answer:
        return f"HTTP {answer.code}" if answer.code >= 500 else ""
    except (OSError, HTTPException) as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class Forgiving:
    """Turn wandb's own errors and those of disk or network into one warning per kind."""

    doing: str
    warned: set[str] = field(default_factory=set)

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> bool:
        if kind is None or not (issubclass(kind, OSError) or kind.__module__.startswith("wandb")):
            return False
        if self.doing not in self.warned:
            self.warned.add(self.doing)
            reason = str(error) or kind.__name__
            _wandb().termwarn(f"{self.doing} failed, training goes on: {reason}")
        return True


def _configured(mode: str) -> str:
    """The mode that was asked for, else that of wandb's settings (``wandb offline``)."""
    return mode or MODES[_wandb().setup().settings.mode]


def _settings(mode: str) -> "Settings":
    """Settings of one run: quiet, and without looking at the machine, the code or git."""
    settings: Settings = _wandb().Settings(
        init_timeout=INIT_TIMEOUT_S,
        finish_timeout=FINISH_TIMEOUT_S,
        reinit="finish_previous",
        console="off",
        quiet=True,
        silent=mode != "online",
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    return settings


def _warn_of_little_space(root: Path) -> None:
    existing = next(folder for folder in (root, *root.parents) if folder.is_dir())
    if (free := shutil.disk_usage(existing).free) < LOW_DISK_BYTES:
        _wandb().termwarn(f"only {free / 1e6:.0f} MB free for {root}: wandb may lose data silently")


def _tell_how_to_review(run: "Run", root: Path) -> None:
    folder = Path(run.settings.sync_dir)
    if not folder.is_relative_to(root):
        _wandb().termwarn(f"{root} is not writable: wandb writes to {folder}")
    parts = sorted(folder.parent.glob(f"offline-run-*-{run.id}*"), key=_started)
    upload = shlex.join(str(part) for part in parts)
    review = shlex.quote(str(folder))
    _wandb().termlog(f"offline run\n  upload: wandb sync {upload}\n  review: wandb leet {review}")


def _wandb() -> ModuleType:
    """Import wandb on demand, so that runs with other loggers start without it."""
    import wandb  # noqa: PLC0415

    return wandb
