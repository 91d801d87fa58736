"""A checkpoint names classes of known kinds, and no file of somebody else's runs anything."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

import src.datamodules
import src.networks
from src.configuration.check import check_saved_data, check_saved_model
from src.configuration.prepare import compose_in
from src.configuration.trust import OF_CHECKPOINTS, OF_RUNS, is_known
from src.errors import InputError
from src.evaluate import evaluate
from src.generate import generate, load_model
from src.runs.checkpoints import load_checkpoint
from src.train import checkpoint_to_continue, train
from tests.pages import PYTHON
from tests.toys import Compose, Danger

EVERY_PART = [
    "model=small_gan", "model/schedules=[burn_in,decay]", "model/penalties=[r1,fd_r2]",
    "model/terms=[label_matching,feature_matching]", "model/augment=translation",
    "datamodule=synthetic", "datamodule.train_val_test_split=[64,64,64]", "ignore_warnings=true",
    "trainer.max_epochs=1", "logger=null", "test_after_training=false",
]  # fmt: skip
Place = tuple[str | int, ...]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What task=train saves, of a model with a part of every kind."""
    folder = tmp_path_factory.mktemp("run")
    train(compose_in(folder, *EVERY_PART))
    return load_checkpoint(folder / "checkpoints" / "last.ckpt")


@pytest.fixture(scope="module")
def bare(honest: dict[str, Any]) -> dict[str, Any]:
    """The same without weights, for files that are to be refused before these are read."""
    return honest | {"state_dict": {}, "optimizer_states": [], "callbacks": {}}


def attacks(folder: Path) -> list[dict[str, Any]]:
    """Targets that leave a file ``folder / "trace"`` if they are called."""
    trace = folder / "trace"
    write = f"open({str(trace)!r}, 'w')"
    (folder / "hubconf.py").write_text(f"{write}\ndef entry(): {write}\n")
    (folder / "src_evil.py").write_text(write)
    torch.save(Danger(trace), folder / "pickle.pt")
    shell = {"command": f"touch {trace}"}
    from_file = {"f": str(folder / "pickle.pt"), "weights_only": False}
    hub = {"repo_or_dir": str(folder), "model": "entry", "source": "local"}
    source = {"name": "x", "cpp_sources": "", "build_directory": str(trace)}
    calls = [
        ("torch.hub.load", hub),
        ("torch.load", from_file),
        ("torch.utils.collect_env.run", shell),
        ("torch.utils.cpp_extension.load_inline", source),
        ("torch.utils.cpp_extension.subprocess.getoutput", {"cmd": shell["command"]}),
        ("builtins.exec", {"_args_": [write]}),
        ("builtins.eval", {"_args_": [write]}),
        ("builtins.open", {"_args_": [str(trace), "w"]}),
        ("os.mkdir", {"path": str(trace)}),
        ("pathlib.Path.touch", {"_args_": [{"_target_": "pathlib.Path", "_args_": [str(trace)]}]}),
        ("src.files.os.system", shell),
        ("src.files.write_through", {"path": str(trace), "content": ""}),
        ("src.models.gan.model.torch.load", from_file),
        ("src.networks.mlp.torch.hub.load", hub),
        ("src.networks.mlp.torch.utils.collect_env.run", shell),
        ("torch.nn.modules.module.torch.utils.collect_env.run", shell),
        ("torch.nn.functional.torch.load", from_file),
        ("torch.optim.optimizer.torch.load", from_file),
    ]
    return [{"_target_": name, **arguments} for name, arguments in calls]


def places(node: Any, at: Place = ()) -> Iterator[Place]:
    """Of every value, at any depth."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield (*at, key)
            yield from places(value, (*at, key))


def with_attack(checkpoint: dict[str, Any], at: Place, attack: Any) -> dict[str, Any]:
    copy = deepcopy(checkpoint)
    *parents, key = at
    node = copy["hyper_parameters"]
    for parent in parents:
        node = node[parent]
    node[key] = attack
    return copy


def assert_nothing_ran(folder: Path, task: Callable[[DictConfig], Any], cfg: DictConfig) -> str:
    with pytest.raises(InputError) as caught:
        task(cfg)
    assert not (folder / "trace").exists()
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "group"),
    [("generate", "model"), ("evaluate", "model"), ("evaluate", "datamodule")],
)
def test_no_target_in_any_place_of_a_checkpoint_runs(
    honest: dict[str, Any],
    bare: dict[str, Any],
    typed: Compose,
    tmp_path: Path,
    task: str,
    group: str,
) -> None:
    checkpoint = bare if group == "model" else honest
    path, evil = tmp_path / "evil.ckpt", attacks(tmp_path)
    cfg = typed(f"task={task}", f"ckpt={path}", "n=1", "labels=5")
    found = [(group, *at) for at in places(honest["hyper_parameters"][group])]
    found = [at for at in found if at[-1] != "_target_"]
    assert len(found) > {"model": 80, "datamodule": 8}[group]
    for i, at in enumerate([(group,), *found]):
        torch.save(with_attack(checkpoint, at, evil[i % len(evil)]), path)
        name = evil[i % len(evil)]["_target_"]
        assert name in assert_nothing_ran(tmp_path, globals()[task], cfg), at


@pytest.mark.slow
def test_generating_calls_nothing_of_the_data(
    honest: dict[str, Any], typed: Compose, tmp_path: Path
) -> None:
    path, evil = tmp_path / "evil.ckpt", attacks(tmp_path)
    cfg = typed("task=generate", f"ckpt={path}", "n=1", "labels=5")
    for attack in evil:
        torch.save(with_attack(honest, ("datamodule",), attack), path)
        generate(cfg)
        assert not (tmp_path / "trace").exists()


@pytest.mark.slow
def test_no_attack_runs_in_any_task(bare: dict[str, Any], typed: Compose, tmp_path: Path) -> None:
    path, tasks = tmp_path / "evil.ckpt", (generate, evaluate, train)
    cfgs = [typed(*EVERY_PART, f"task={task.__name__}", f"ckpt={path}") for task in tasks]
    for attack in attacks(tmp_path):
        torch.save(with_attack(bare, ("model", "loss"), attack), path)
        for task, cfg in zip(tasks, cfgs, strict=True):
            assert attack["_target_"] in assert_nothing_ran(tmp_path, task, cfg)


@pytest.mark.slow
def test_training_from_a_checkpoint_calls_nothing_that_it_names(
    bare: dict[str, Any], typed: Compose, tmp_path: Path
) -> None:
    path, evil = tmp_path / "evil.ckpt", attacks(tmp_path)
    cfg = typed(*EVERY_PART, f"ckpt={path}")
    for i, at in enumerate(places(bare["hyper_parameters"])):
        torch.save(with_attack(bare, at, evil[i % len(evil)]), path)
        with suppress(InputError):  # of another model; the rest is not read
            checkpoint_to_continue(cfg)
        assert not (tmp_path / "trace").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["${oc.env:HOME}", "${oc.decode:'{_target_: os.mkdir}'}", "a${part_of_run:1}", "${seed}"],
)
@pytest.mark.parametrize("at", [("model", "lr"), ("seed",), ("trainer", "x"), ("datamodule", "x")])
def test_nothing_in_a_checkpoint_is_evaluated(
    bare: dict[str, Any], tmp_path: Path, text: str, at: Place
) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save(with_attack(bare, at, [{"a": (text,)}]), path)
    with pytest.raises(InputError, match="would be evaluated here"):
        load_model(path)


@pytest.mark.parametrize(
    "name",
    [
        "src.networks.mlp.Generator", "src.networks.layers.Pointwise",
        "src.models.gan.losses.Hinge", "src.models.gan.penalties.ZeroCentered",
        "src.models.gan.terms.FeatureMatching", "src.models.schedules.Linear",
        "src.models.gan.augment.Translation", "src.datamodules.mnist.MNIST",
        "src.datamodules.in_memory.InMemoryDataModule",
        "torch.nn.Identity",
        "torch.nn.modules.container.Sequential", "torch.optim.Adam", "torch.optim.adamw.AdamW",
    ],
)  # fmt: skip
def test_parts_of_a_model_are_known(name: str) -> None:
    assert is_known(name, OF_CHECKPOINTS)


@pytest.mark.parametrize(
    "name",
    [
        "", "torch", "torch.nn", "os.system", "src.networks", "src.networks.", "src.networks..mlp",
        "src.networks.\0.x", "src.networks.mlp", "src.networks.mlp:nn.Linear",
        "src.models.gan.losses",
        "src.networks.mlp.nn.Linear", "src.networks.mlp.Tensor", "src.networks.mlp.leaky",
        "src.networks.mlp.Generator.load_state_dict", "src.networks.layers.leaky",
        "src.models.gan.losses.dataclass", "src.models.gan.losses.F.relu",
        "src.models.gan.losses.Tensor",
        "src.models.gan.terms.FeatureMatching.generator", "src.datamodules.mnist.fetch",
        "src.datamodules.sources.Folder", "src.datamodules.mnist.Path",
        "src.files.write_atomically", "src.callbacks.quality.Quality", "torch.nn.functional.relu",
        "torch.nn.Linear.register_module",
        "torch.nn.utils.prune", "torch.nn.Parameter", "torch.nn.TripletMarginWithDistanceLoss",
        "torch.nn.modules.module.OrderedDict", "torch.nn.modules.module.torch",
        "torch.optim.optimizer.torch.load", "torch.optim.lr_scheduler.LambdaLR",
        "torch.optim.swa_utils.AveragedModel", "torch.nn_evil.Linear", "hydra.utils.get_method",
    ],
)  # fmt: skip
def test_nothing_else_is(name: str) -> None:
    assert not is_known(name, OF_CHECKPOINTS)


@pytest.mark.parametrize(
    ("package", "file", "name"),
    [
        (src.networks, "src/networks/linear.py", "src.networks.linear.Generator"),
        (src.datamodules, "src/datamodules/noise.py", "src.datamodules.noise.Noise"),
    ],
)
def test_what_the_readme_adds_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: Any, file: str, name: str
) -> None:
    assert not is_known(name, OF_CHECKPOINTS)
    (tmp_path / Path(file).name).write_text(PYTHON[file])
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    assert is_known(name, OF_CHECKPOINTS)
    assert not is_known(name.rpartition(".")[0] + ".torch.load", OF_CHECKPOINTS)
    del sys.modules[name.rpartition(".")[0]]


def test_what_is_no_text_is_no_target(honest: dict[str, Any]) -> None:
    for target in (print, None, 3, b"os.system", ["os.system"], {"_target_": "os.system"}):
        hidden = {"points": ({"_args_": [{"_partial_": True, "_target_": target}]},)}
        with pytest.raises(InputError, match="which is none of"):
            check_saved_model(honest["hyper_parameters"]["model"] | {"loss": hidden})


def test_a_module_is_not_imported_to_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacks(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("hubconf.entry", "src_evil.x", "src.networks.hubconf.entry"):
        assert not is_known(name, OF_CHECKPOINTS)
    assert not (tmp_path / "trace").exists()


def test_data_that_the_user_names_too_are_trusted() -> None:
    node = {"_target_": "collections.UserDict"}
    check_saved_data(node, trusted=["collections.UserDict"])
    with pytest.raises(InputError, match="if you trust it, type datamodule=NAME"):
        check_saved_data(node, trusted=["src.datamodules.mnist.MNIST"])


def test_runs_may_name_lightning_s_callbacks_and_loggers() -> None:
    names = ["pytorch_lightning.callbacks.EarlyStopping", "pytorch_lightning.loggers.CSVLogger"]
    names += ["src.callbacks.best_checkpoint.BestCheckpoint", "src.loggers.csv.CSVLogger"]
    assert all(is_known(name, OF_RUNS) and not is_known(name, OF_CHECKPOINTS) for name in names)
    assert not is_known("pytorch_lightning.callbacks.callback.Any", OF_RUNS)
    assert not is_known("pytorch_lightning.trainer.Trainer", OF_RUNS)
