"""Checkpoint files: whole or not there, loaded without running anything, of the same model."""

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from src.errors import InputError
from src.runs.checkpoints import AtomicCheckpointIO, load_checkpoint, require_same_model
from tests.toys import Danger

MODEL = {
    "_target_": "a.GAN", "lr": 0.1, "latent_dim": 8, "generator": {"_target_": "a.G", "width": 4}
}  # fmt: skip


def checkpoint(value: float = 1.0) -> dict[str, Any]:
    return {
        "state_dict": {"weight": torch.full((4,), value)},
        "hyper_parameters": {"model": MODEL, "seed": 3},
        "global_step": 7,
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a run keeps its last checkpoint."""
    return tmp_path / "run" / "checkpoints" / "last.ckpt"


def assert_holds(loaded: dict[str, Any], value: float) -> None:
    """``loaded`` is ``checkpoint(value)``."""
    expected = checkpoint(value)
    assert torch.equal(loaded.pop("state_dict")["weight"], expected.pop("state_dict")["weight"])
    assert loaded == expected


def save(path: str | Path, content: dict[str, Any]) -> None:
    AtomicCheckpointIO().save_checkpoint(content, path)


def test_what_is_saved_is_loaded(path: Path) -> None:
    save(path, checkpoint())
    assert_holds(load_checkpoint(path), 1.0)
    assert [*path.parent.iterdir()] == [path]


def test_lightning_reads_the_same(path: Path) -> None:
    save(str(path), checkpoint(2.0))
    loaded = AtomicCheckpointIO().load_checkpoint(path, weights_only=True)
    assert_holds(loaded, 2.0)


def test_the_newer_replaces_the_older(path: Path) -> None:
    save(path, checkpoint(1.0))
    save(path, checkpoint(2.0))
    assert_holds(load_checkpoint(path), 2.0)


@pytest.mark.parametrize("prefix", ["", "file://", "local://", "dir::local://"])
@pytest.mark.parametrize("victim", ["folder", "folder/file.txt", "named.ckpt"])
def test_nothing_but_a_checkpoint_is_removed(tmp_path: Path, prefix: str, victim: str) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("folder/file.txt", "named.ckpt"):
        (tmp_path / name).touch()
    AtomicCheckpointIO().remove_checkpoint(f"{prefix}{tmp_path / victim}")
    assert (tmp_path / "folder" / "file.txt").is_file()
    assert (tmp_path / "named.ckpt").is_file() == (prefix != "" or victim != "named.ckpt")


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["os.fsync", "pathlib.Path.open", "pathlib.Path.replace"])
def test_a_full_disk_leaves_the_previous_checkpoint_whole(
    path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(path, checkpoint(1.0))
    before = path.read_bytes()
    with monkeypatch.context() as disk:
        disk.setattr(place, full_disk)
        with pytest.raises(InputError) as caught:
            save(path, checkpoint(2.0))
    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]
    message = str(caught.value)
    assert message.startswith(f"checkpoint {path} could not be written (No space left on device)")
    assert message.endswith(f"python run.py resume={path.parents[1]}")


def test_content_is_on_disk_before_it_takes_the_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    rename, flush = Path.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("flush"), flush(fd)))
    monkeypatch.setattr(
        Path, "replace", lambda old, new: (events.append(f"rename to {new.name}"), rename(old, new))
    )
    save(path, checkpoint())
    assert events == ["flush", "rename to last.ckpt"]


@pytest.mark.parametrize(
    "write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))]
)
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, write) -> None:
    path, trace = tmp_path / "evil.ckpt", tmp_path / "trace"
    write(checkpoint() | {"extra": Danger(trace)}, path)
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(path: Path, kept: float) -> None:
    save(path, checkpoint())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"ckpt={path} cannot be read: the file is truncated")
    assert "name another one" in str(caught.value)


# torch reads any text as a legacy pickle: the first letters decide which error it ends in.
@pytest.mark.parametrize(
    "content", [b"hello world\n", b"epoch,step\n1,2\n", b"seed: 1\n", b"{}", b"\x89PNG\r\n\x1a\n"]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        {"weight": torch.zeros(2)},
        [torch.zeros(2)],
        torch.zeros(2),
        {"hyper_parameters": {"lr": 0.1}, "state_dict": {}},
        {"hyper_parameters": None, "state_dict": {}},
        {"hyper_parameters": {"model": "resnet50"}, "state_dict": {}},
    ],
    ids=["weights", "list", "tensor", "lightning", "no hyper-parameters", "its own model key"],
)
def test_a_foreign_checkpoint_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "foreign.ckpt"
    torch.save(content, path)
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    assert f"ckpt={path} was not written by this project" in str(caught.value)
    assert "task=train" in str(caught.value)


def test_a_checkpoint_from_before_models_named_their_class_says_so(path: Path) -> None:
    old = {key: value for key, value in MODEL.items() if key != "_target_"}
    save(path, checkpoint() | {"hyper_parameters": {"model": old}})
    with pytest.raises(InputError, match=r"is of version 0.1, .*: use it with the code"):
        load_checkpoint(path)


def test_the_same_model_is_accepted(path: Path) -> None:
    require_same_model(checkpoint(), dict(MODEL), path=path)


def test_parts_that_the_checkpoint_does_not_know_must_be_empty(path: Path) -> None:
    require_same_model(checkpoint(), MODEL | {"penalties": {}}, path=path)


def test_another_way_of_computing_the_family_is_no_other_model(path: Path) -> None:
    saved = checkpoint() | {"hyper_parameters": {"model": MODEL | {"_target_": "a.gan.model.GAN"}}}
    require_same_model(saved, MODEL | {"_target_": "a.gan.graph.GAN"}, path=path)
    with pytest.raises(InputError, match=r"trained with model._target_=a.gan.model.GAN, not a.vae"):
        require_same_model(saved, MODEL | {"_target_": "a.vae.model.VAE"}, path=path)


def test_schedules_may_be_stretched(path: Path) -> None:
    schedules = {"lr": {"_target_": "a.Linear", "points": [[5, 1.0], [10, 0.0]]}}
    require_same_model(checkpoint(), MODEL | {"schedules": schedules}, path=path)


@pytest.mark.parametrize(
    ("change", "key", "saved"),
    [
        ({"latent_dim": 9}, "latent_dim", 8),
        ({"latent_dim": 9, "lr": 0.2}, "lr", 0.1),
        ({"generator": {"_target_": "a.G", "width": 5}}, "generator", MODEL["generator"]),
        ({"penalties": {"r1": {}}}, "penalties", {}),
    ],
)
def test_another_model_is_refused_by_its_first_difference(
    path: Path, change: dict[str, Any], key: str, saved: Any
) -> None:
    wanted = MODEL | change
    with pytest.raises(InputError) as caught:
        require_same_model(checkpoint(), wanted, path=path)
    message = str(caught.value)
    assert message.startswith(
        f"ckpt={path} was trained with model.{key}={saved}, not {wanted[key]}"
    )
    assert "resume=RUN" in message
