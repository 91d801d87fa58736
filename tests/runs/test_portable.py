"""What generates of a model is kept without its training, and read back only as it was written."""

from pathlib import Path
from typing import Any

import pytest
import torch

from src.configuration.build import build_model
from src.errors import InputError
from src.models.generative import GenerativeModel
from src.runs.portable import CONFIG, WEIGHTS, read_portable, write_portable
from tests.toys import Compose


@pytest.fixture
def model(typed: Compose) -> GenerativeModel:
    return build_model(typed("datamodule=synthetic", "model=small_gan"))


def checkpoint_of(model: GenerativeModel) -> dict[str, Any]:
    return {"hyper_parameters": dict(model.hparams), "epoch": 6, "global_step": 7}


@pytest.mark.parametrize(("dtype", "exact"), [(torch.float32, True), (torch.float16, False)])
def test_weights_come_back_as_they_were_or_rounded(
    model: GenerativeModel, tmp_path: Path, dtype: torch.dtype, exact: bool
) -> None:
    model.class_names = [*"abcdefghij"]
    write_portable(tmp_path, model, checkpoint_of(model), dtype=dtype)
    found = read_portable(tmp_path / WEIGHTS)
    assert found["class_names"] == model.class_names
    assert (found["epoch"], found["global_step"]) == (6, 7)
    assert found["hyper_parameters"]["model"] == model.hparams["model"]
    for name, weight in model.sampler.state_dict().items():
        back = found["sampler"][name]
        wanted = weight if exact or not weight.is_floating_point() else weight.half().float()
        assert torch.equal(back, wanted)
        assert back.dtype == weight.dtype


def test_no_path_of_the_machine_goes_along(model: GenerativeModel, tmp_path: Path) -> None:
    dataset = {"_target_": "a.B", "data": "/secret", "data_dir": "/secret/data"}
    model.hparams["datamodule"] = {"_target_": "a.C", "dataset": dataset}
    write_portable(tmp_path, model, checkpoint_of(model), dtype=torch.float32)
    assert "secret" not in (tmp_path / CONFIG).read_text()


def test_what_was_changed_since_is_refused(model: GenerativeModel, tmp_path: Path) -> None:
    write_portable(tmp_path, model, checkpoint_of(model), dtype=torch.float32)
    path = tmp_path / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match=r"has the sha256 .*as config.json says"):
        read_portable(path)
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(InputError, match=r"needs the config.json that task=export writes"):
        read_portable(path)
    (tmp_path / CONFIG).unlink()
    with pytest.raises(InputError, match=r"needs the config.json"):
        read_portable(path)
