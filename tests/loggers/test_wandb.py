"""wandb in every situation it can meet, metrics.csv across resumes, tensorboard."""

import csv
import gc
import json
import os
import pty
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import wandb
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import src.loggers.wandb as wandb_logger
from src.configuration.guesses import CONFIGS
from src.errors import InputError
from src.loggers.csv import CSVLogger
from src.loggers.wandb import close_wandb, newest_run_id, open_wandb, unreachable

KEY = "0" * 40
# wandb does not wait for its service to end.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


def isolated(home: Path) -> dict[str, str]:
    """Environment in which wandb sees neither the user's key and settings nor the network."""
    kept = {key: value for key, value in os.environ.items() if "WANDB" not in key}
    folders = {key: str(home) for key in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR")}
    folders |= {"WANDB_DATA_DIR": str(home), "NETRC": str(home / "netrc")}
    return kept | folders | {"WANDB_BASE_URL": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    home = tmp_path / "home"
    home.mkdir()
    for key in [key for key in os.environ if "WANDB" in key]:
        monkeypatch.delenv(key)
    for key, value in isolated(home).items():
        monkeypatch.setenv(key, value)
    close_wandb()
    yield
    close_wandb()
    gc.collect()


class Server(BaseHTTPRequestHandler):
    """As much of wandb's server as a run needs; ``status`` other than 200 refuses everything."""

    status = 200

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        reply = {}
        if self.status == 200 and self.path == "/graphql":
            request = json.loads(body)
            reply = {"data": self.answer(request["query"], request.get("variables") or {})}
        elif "file_stream" in self.path:
            self.server.streamed.append(body.decode())
        content = json.dumps(reply).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST  # noqa: N815

    def answer(self, query: str, variables: dict) -> dict:
        project = {"id": "UA==", "name": "p", "entity": {"id": "RQ==", "name": "e"}}
        if "UpsertBucket" in query:
            self.server.runs.append(variables["name"])
            bucket = {"id": "QQ==", "name": variables["name"], "displayName": "n", "config": "{}"}
            return {"upsertBucket": {"bucket": bucket | {"project": project}, "inserted": True}}
        if "RunResumeStatus" in query:
            return {"model": project | {"bucket": None}}
        if "CreateRunFiles" in query:
            url = f"http://127.0.0.1:{self.server.server_address[1]}/upload"
            files = [{"name": name, "uploadUrl": url} for name in variables["files"]]
            return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}
        return {}

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    status = getattr(request, "param", 200)
    handler = type("Handler", (Server,), {"status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.runs, http.streamed = [], []
        threading.Thread(target=http.serve_forever, daemon=True).start()
        go_online(monkeypatch, http.server_address[1])
        yield http
        close_wandb()
        http.shutdown()


def go_online(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")


def history(folder: Path) -> list[dict]:
    """The logged rows of an offline run, as wandb's own reader prints them."""
    return records(folder, "history")


def records(folder: Path, kind: str) -> list[dict]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", str(folder), "--json"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [record for record in map(json.loads, lines) if record.get("type") == kind]


@pytest.mark.slow
def test_without_a_key_it_goes_offline_at_once_and_tells_how_to_review(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before = dict(os.environ)
    logger = open_wandb(save_dir=str(tmp_path / "run"))
    started_at = time.perf_counter()
    logger.log_metrics({"train/g_loss": 1.0}, step=50)
    assert time.perf_counter() - started_at < 20
    folder = logger.experiment.settings.sync_dir
    close_wandb()
    output = capsys.readouterr().err
    assert folder.startswith(str(tmp_path / "run" / "wandb" / "offline-run-"))
    assert "no API key" in output
    assert output.count(f"wandb sync {folder}\n") == output.count(f"wandb leet {folder}\n") == 1
    assert len(output.splitlines()) == 4
    assert dict(os.environ) == before
    assert wandb.run is None


@pytest.mark.slow
def test_a_folder_is_logged_as_a_model_where_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / "mnist-0a1b"
    folder.mkdir()
    for name in ("generator.onnx", "README.md"):
        (folder / name).write_text(name)
    logger = open_wandb(save_dir=str(tmp_path), offline=True)
    logger.log_folder(folder, {"data": "mnist"})
    run = Path(logger.experiment.settings.sync_dir)
    close_wandb()
    [record] = records(run, "artifact")
    artifact = record["artifact"]
    assert (artifact["name"], artifact["type"]) == ("mnist-0a1b", "model")
    assert json.loads(artifact["metadata"]) == {"data": "mnist"}
    files = {entry["path"]: entry["local_path"] for entry in artifact["manifest"]["contents"]}
    assert files == {path.name: str(path) for path in folder.iterdir()}


@pytest.mark.slow
def test_images_and_losses_share_the_axis(tmp_path: Path) -> None:
    logger = open_wandb(save_dir=str(tmp_path), offline=True)
    grid = Image.new("L", (8, 8), color=128)
    for step in (50, 100):
        logger.log_metrics({"train/g_loss": step / 2}, step=step)
        logger.log_image(key="gen_imgs", images=[grid], step=step)
    folder = Path(logger.experiment.settings.sync_dir)
    close_wandb()
    rows = [row["history"]["item"] for row in history(folder)]
    assert [row["trainer/global_step"] for row in rows if "train/g_loss" in row] == [50, 100]
    assert [row["trainer/global_step"] for row in rows if "gen_imgs.count" in row] == [50, 100]
    pictures = sorted((folder / "files" / "media" / "images").glob("gen_imgs_*.png"))
    assert len(pictures) == 2
    with Image.open(pictures[0]) as picture:
        assert picture.getpixel((0, 0)) == 128


def test_online_is_one_run_also_after_a_resume(tmp_path: Path, server: ThreadingHTTPServer) -> None:
    before = dict(os.environ)
    ids = []
    for step in (50, 100):
        logger = open_wandb(save_dir=str(tmp_path / "run"), name="first", tags=["a"])
        logger.log_metrics({"train/g_loss": 1.0}, step=step)
        assert not logger.experiment.offline
        logger.finalize("success")
        logger.log_metrics({"test/g_loss": 1.0}, step=step)
        ids.append(logger.version)
        close_wandb()
    assert ids[0] == ids[1]
    assert set(server.runs) == {ids[0]}
    assert any("test/g_loss" in body for body in server.streamed)
    assert dict(os.environ) == before


@pytest.mark.parametrize("server", [401, 503], indirect=True)
def test_a_refusal_means_offline(tmp_path: Path, server: ThreadingHTTPServer) -> None:
    started_at = time.perf_counter()
    logger = open_wandb(save_dir=str(tmp_path / "run"))
    logger.log_metrics({"train/g_loss": 1.0}, step=1)
    assert time.perf_counter() - started_at < 20
    assert logger.experiment.offline


def test_a_closed_port_means_offline_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    started_at = time.perf_counter()
    assert open_wandb(save_dir=str(tmp_path / "run")).experiment.offline
    assert time.perf_counter() - started_at < 20


def test_a_black_hole_means_offline_in_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        go_online(monkeypatch, hole.getsockname()[1])
        monkeypatch.setattr(wandb_logger, "PROBE_TIMEOUT_S", 1.0)
        started_at = time.perf_counter()
        assert open_wandb(save_dir=str(tmp_path / "run")).experiment.offline
        assert 1 < time.perf_counter() - started_at < 20


def test_a_name_that_nobody_knows_is_unreachable() -> None:
    assert unreachable("http://nowhere.invalid/graphql", timeout_s=5)


@pytest.mark.slow
def test_it_never_prompts_on_a_terminal(tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    code = "from src.loggers.wandb import open_wandb as open;"
    code += f"print(open(save_dir={folder!r}).experiment.offline)"
    terminal, stdin = pty.openpty()
    result = subprocess.run(
        [sys.executable, "-c", code],
        stdin=stdin, stdout=stdin, stderr=stdin, timeout=600, check=False,
        env=isolated(tmp_path / "home"),
    )  # fmt: skip
    os.close(stdin)
    output = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert result.returncode == 0, output
    assert "True" in output
    assert "wandb sync" in output
    assert "Enter your choice" not in output


@pytest.mark.parametrize("mode", ["offline", "dryrun", "disabled"])
def test_wandb_mode_is_obeyed(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ThreadingHTTPServer
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    logger = open_wandb(save_dir=str(tmp_path / "run"))
    logger.log_metrics({"train/g_loss": 1.0}, step=1)
    assert not server.runs
    assert logger.experiment.disabled == (mode == "disabled")
    assert list(tmp_path.glob("run/wandb/offline-run-*")) == [] or mode != "disabled"


def test_the_config_can_ask_for_offline(tmp_path: Path, server: ThreadingHTTPServer) -> None:
    assert open_wandb(save_dir=str(tmp_path / "run"), offline=True).experiment.offline
    assert not server.runs


def test_wandb_offline_command_is_obeyed(tmp_path: Path, server: ThreadingHTTPServer) -> None:
    (tmp_path / "home" / "settings").write_text("[default]\nmode = offline\n")
    assert open_wandb(save_dir=str(tmp_path / "run")).experiment.offline
    assert not server.runs


def test_an_unknown_mode_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(InputError, match="WANDB_MODE=ofline"):
        open_wandb(save_dir=str(tmp_path))


def test_a_resumed_folder_keeps_its_offline_id(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for _ in range(2):
        logger = open_wandb(save_dir=str(tmp_path), offline=True)
        logger.log_metrics({"train/g_loss": 1.0}, step=1)
        close_wandb()
    parts = sorted(tmp_path.glob("wandb/offline-run-*"))
    assert len(parts) == 2
    assert newest_run_id(tmp_path) == logger.version
    assert f"wandb sync {parts[0]} {parts[1]}\n" in capsys.readouterr().err


def test_jobs_of_one_process_have_a_run_each(tmp_path: Path) -> None:
    ids = set()
    for job in ("0", "1"):  # without close_wandb in between
        logger = open_wandb(save_dir=str(tmp_path / job), offline=True)
        logger.log_metrics({"train/g_loss": 1.0}, step=1)
        ids.add(logger.version)
        assert len(list((tmp_path / job).glob("wandb/offline-run-*"))) == 1
    assert len(ids) == 2


def test_other_ranks_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = open_wandb(save_dir=str(tmp_path / "run"), offline=True)
    logger.log_metrics({"train/g_loss": 1.0}, step=1)
    logger.log_image(key="gen_imgs", images=[Image.new("L", (2, 2))], step=1)
    logger.log_hyperparams({"seed": 1})
    logger.experiment.log({"a": 1})
    logger.finalize("success")
    table = CSVLogger(save_dir=str(tmp_path / "run"))
    table.log_metrics({"train/g_loss": 1.0}, step=1)
    assert not (tmp_path / "run").exists()


def test_a_full_disk_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    logger = open_wandb(save_dir=str(tmp_path), offline=True)
    monkeypatch.setattr(type(logger.experiment), "log", full)
    for step in range(3):
        logger.log_metrics({"train/g_loss": 1.0}, step=step)
        logger.log_image(key="gen_imgs", images=[Image.new("L", (2, 2))], step=step)
    output = capsys.readouterr().err
    assert output.count("logging failed, training goes on: [Errno 28]") == 1
    assert output.count("No space left on device") == 1


def test_little_space_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=123e6))
    assert open_wandb(save_dir=str(tmp_path), offline=True).experiment.offline
    assert "only 123 MB free" in capsys.readouterr().err


def test_a_dead_service_costs_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    logger = open_wandb(save_dir=str(tmp_path), offline=True)
    logger.log_metrics({"train/g_loss": 1.0}, step=0)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    core = [pid for pid in children if b"wandb-core" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(core[0]), 9)
    time.sleep(0.2)
    for step in range(1, 4):
        logger.log_metrics({"train/g_loss": 1.0}, step=step)
    logger.log_hyperparams({"seed": 1})
    logger.finalize("success")
    close_wandb()
    assert capsys.readouterr().err.count("logging failed, training goes on") == 1


def test_an_unwritable_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").touch()
    logger = open_wandb(save_dir=str(tmp_path / "file" / "run"), offline=True)
    logger.log_metrics({"train/g_loss": 1.0}, step=1)
    folder = Path(logger.experiment.settings.sync_dir)
    close_wandb()
    shutil.rmtree(folder, ignore_errors=True)
    assert f"is not writable: wandb writes to {folder}" in capsys.readouterr().err


def test_a_mistake_of_the_caller_is_still_an_error(tmp_path: Path) -> None:
    logger = open_wandb(save_dir=str(tmp_path), offline=True)
    with pytest.raises(TypeError):
        logger.log_image(key="gen_imgs", images=torch.zeros(2, 2), step=1)


def test_an_exception_in_training_closes_the_run(tmp_path: Path) -> None:
    logger = open_wandb(save_dir=str(tmp_path), offline=True)
    logger.log_metrics({"train/g_loss": 1.0}, step=1)
    logger.finalize("failed")
    assert wandb.run is None


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_grows_columns_and_keeps_rows(tmp_path: Path) -> None:
    logger = CSVLogger(save_dir=str(tmp_path))
    logger.log_metrics({"train/g_loss": torch.tensor(0.5), "epoch": 0}, step=50)
    logger.log_metrics({"val/g_loss": 0.25, "epoch": 0}, step=60)
    logger.log_metrics({"train/g_loss": 0.125, "epoch": 1}, step=100)
    assert [row["train/g_loss"] for row in rows(tmp_path)] == ["0.5", "", "0.125"]
    assert [row["val/g_loss"] for row in rows(tmp_path)] == ["", "0.25", ""]
    assert [path.name for path in tmp_path.glob("*.*")] == ["metrics.csv"]


def test_csv_continues_where_the_resumed_training_does(tmp_path: Path) -> None:
    killed = CSVLogger(save_dir=str(tmp_path))
    for step in (50, 100, 150, 200):
        killed.log_metrics({"train/g_loss": float(step)}, step=step)
    with killed.path.open("a") as file:
        file.write("250,1.2")  # cut short by SIGKILL
    resumed = CSVLogger(save_dir=str(tmp_path))
    resumed.log_metrics({"train/d_loss": 1.0, "train/g_loss": 0.0}, step=150)
    resumed.log_metrics({"train/g_loss": 0.0}, step=200)
    assert [row["step"] for row in rows(tmp_path)] == ["50", "100", "150", "200"]
    assert [row["train/g_loss"] for row in rows(tmp_path)] == ["50.0", "100.0", "0.0", "0.0"]


def test_csv_of_a_training_survives_a_test_in_its_folder(tmp_path: Path) -> None:
    CSVLogger(save_dir=str(tmp_path)).log_metrics({"train/g_loss": 1.0}, step=50)
    CSVLogger(save_dir=str(tmp_path)).log_metrics({"test/g_loss": 1.0}, step=0)
    assert [row["step"] for row in rows(tmp_path)] == ["50", "0"]


def test_tensorboard_resumes_with_images_on_the_same_step(tmp_path: Path) -> None:
    config = OmegaConf.load(CONFIGS / "logger" / "tensorboard.yaml")
    config.run_dir = str(tmp_path)
    for step in (50, 100):
        logger = instantiate(config.tensorboard)
        logger.log_metrics({"train/g_loss": 1.0}, step=step)
        logger.experiment.add_image("gen_imgs", torch.zeros(1, 4, 4, dtype=torch.uint8), step)
        logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    steps = [event.step for event in events.Scalars("train/g_loss")]
    assert steps == [event.step for event in events.Images("gen_imgs")] == [50, 100]
    assert len(list(tmp_path.glob("tensorboard/events.*"))) == 2


@pytest.mark.parametrize("key", ["abc", "x" * 39])
def test_a_malformed_key_means_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    assert open_wandb(save_dir=str(tmp_path / "run")).experiment.offline


def test_nonsense_settings_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "nonsense")
    with pytest.raises(InputError, match=r"wandb refuses its settings .*or type logger=csv"):
        _ = open_wandb(save_dir=str(tmp_path / "run")).experiment
