"""The command line without a process: compose what a user types, in a temporary folder."""

import gc
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

# Read when torch is imported, here and in the processes that tests start: the networks are tiny,
# and threads that spin while they wait for each other crawl on a busy machine.
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

import pytest
import torch

from src import train_judge
from src.configuration.prepare import compose_in
from src.datamodules.mnist import MNIST
from src.datamodules.stacked_mnist import StackedMNIST
from src.files import alone_in
from src.images import Labelled
from src.runs.folders import LAST
from tests.toys import BARS, SMALL, TWO_RANKS, Compose, finish, start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what needs judges, and all but the first case of a test that composes."""
    cases: Counter[str] = Counter()
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        test = item.nodeid.partition("[")[0]
        cases[test] += "typed" in fixtures
        if {"judged_data", "exported"} & {*fixtures} or cases[test] > 1:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Seek garbage rarely, and not in what was imported: it takes a third of composing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.fixture
def typed(tmp_path: Path) -> Compose:
    """``typed("seed=7", ...)`` is the config of ``python run.py seed=7 ...``."""
    return partial(compose_in, tmp_path)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder of all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def judged_data(shared: Path) -> Path:
    """A ``data_dir`` with judges of the synthetic bars, quickly trained; treat it as read-only.

    One worker of pytest-xdist trains them, and the others wait.
    """
    folder = shared / "judged"
    with alone_in(shared, patience_s=600):
        if not folder.exists():
            train_judges(folder)
    return folder


@pytest.fixture(scope="session")
def exported(shared: Path) -> Path:
    """The export of the project's own weights, by one worker for all; treat it as read-only."""
    from src.export import export  # which takes seconds

    (home := shared / "exports").mkdir(exist_ok=True)
    with alone_in(home, patience_s=600):
        if not (found := [*home.glob("run/mnist-*")]):
            options = f"run_dir={home / 'run'}", f"data_dir={home / 'data'}"
            found = [export(compose_in(home, "task=export", "ckpt=pretrained", *options))]
    return found[0]


@pytest.fixture(scope="session")
def pair(shared: Path) -> Path:
    """A run of two processes on this machine, by one worker for all; treat it as read-only."""
    (home := shared / "pair").mkdir(exist_ok=True)
    run = home / "run"
    with alone_in(home, patience_s=600):
        if not (run / LAST).is_file():
            finish(start([*SMALL, *TWO_RANKS, f"hydra.run.dir={run}"], home))
    return run


def train_judges(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_judge, "EPOCHS", 4)
        cfg = compose_in(folder, "task=train_judge", *BARS, f"data_dir={folder}", "seed=0")
        train_judge.train_judge(cfg)


def numbered_digits(part: str) -> Labelled:
    """Sixty training images whose every pixel is their number, twenty test images from 100 on."""
    numbers = torch.arange(60) if part == "train" else torch.arange(100, 120)
    images = numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 28, 28).contiguous()
    return Labelled(images, numbers % 10)


@pytest.fixture(scope="module")
def digits() -> Iterator[None]:
    """The numbered digits instead of MNIST's files, fifty for training and ten for validation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MNIST, "prepare", lambda self: None)
        patch.setattr(MNIST, "read", lambda self, part: numbered_digits(part))
        patch.setattr(StackedMNIST, "n_validation_digits", 10)
        yield
