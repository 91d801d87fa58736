"""No value of any key ends in a traceback: it trains, or one sentence says what to type."""

import random
import shutil
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.configuration.guesses import choices
from src.configuration.prepare import compose_raw, prepare
from src.errors import InputError
from src.train import train

VALUES = [
    "0", "-1", "1", "1.5", "-0.0", "1e-30", "1e9", "nan", "inf", "99999999999999999999",
    "null", "true", "abc", "''", "'a b/(c)=d'", "${nothing}", "${debug}",
    "[]", "[1,2,3]", "[null]", "[abc,0.5]", "{}", "{a:1}",
]  # fmt: skip
PER_KEY = 4  # of them, drawn anew in every run of the tests
TINY = [
    "datamodule.train_val_test_split=[50,10,20]", "datamodule.batch_size=5", "logger=csv",
    "trainer.max_epochs=1", "trainer.limit_train_batches=2", "ignore_warnings=true",
]  # fmt: skip


def keys(node: DictConfig, *, above: str = "") -> Iterator[str]:
    """Every key of a configuration that is not resolved yet, groups and their contents."""
    for key in node:
        yield f"{above}{key}"
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            yield from keys(child, above=f"{above}{key}.")


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DictConfig]:
    """A tiny run of every experiment, by each key that no experiment before it has."""
    found: dict[str, DictConfig] = {}
    folder = tmp_path_factory.mktemp("bad") / "run"
    wide = "cifar10", "sign_digits"  # last, for they are slow, and of three widths or four
    for experiment in sorted(choices("experiment"), key=lambda name: name.startswith(wide)):
        size = ["model.img_size=32"] if experiment.startswith(wide) else []
        cfg = compose_raw(folder, f"experiment={experiment}", *TINY, *size)
        found |= dict.fromkeys((key for key in keys(cfg) if key not in found), cfg)
    return found


def refusal(cfg: DictConfig, key: str, value: str) -> str:
    """The sentence that refuses the value; an empty text if it trains."""
    run = Path(cfg.work_dir)
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    cfg = deepcopy(cfg)
    try:
        typed = OverridesParser.create().parse_override(f"{key}={value}").value()
        OmegaConf.update(cfg, key, typed, merge=False, force_add=True)
        prepare(cfg)
        train(cfg)
    except (InputError, HydraException, OmegaConfBaseException, OSError) as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.usefixtures("digits")
def test_a_bad_value_trains_or_is_refused_in_a_sentence(
    composed: dict[str, DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # for paths such as abc
    seed = random.randrange(10_000)  # another one each time: put the printed one here
    draw = random.Random(seed)
    print(f"{seed=}")
    trained, refused = 0, 0
    for key, cfg in composed.items():
        for value in draw.sample(VALUES, PER_KEY):
            print(f"{key}={value}")  # the last one printed is what failed
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                said = refusal(cfg, key, value)
            trained, refused = trained + (not said), refused + bool(said)
    assert trained + refused == PER_KEY * len(composed)
    assert trained > len(composed) // 10
    assert refused > trained
