"""The README's snippets work as they are printed."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

import src.losses
from src.losses import Logits
from src.schema import accepted

README = (Path(__file__).parents[1] / "README.md").read_text()
PYTHON = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", README, re.S))
YAML = dict(re.findall(r"```yaml\n# (\S+), then: .*?\n(.*?)```", README, re.S))


def module(path: str, **names: object) -> ModuleType:
    made = ModuleType(Path(path).stem)
    sys.modules[made.__name__] = made  # where dataclasses look up their annotations
    made.__dict__.update(names)
    exec(PYTHON[path], made.__dict__)
    return made


def test_the_loss_is_the_minimax_game() -> None:
    loss = module("src/losses.py", **vars(src.losses)).Minimax()
    logits = Logits(real=torch.tensor([0.5]), fake=torch.tensor([-0.25], requires_grad=True))
    (slope,) = torch.autograd.grad(loss.generator(logits), logits.fake)
    (opposite,) = torch.autograd.grad(loss.discriminator(logits), logits.fake)
    assert slope == -opposite


def test_the_network_makes_images() -> None:
    generator = module("src/networks/linear.py").Generator(n_classes=10, latent_dim=4, img_size=28)
    assert generator(torch.randn(3, 4), torch.arange(3)).shape == (3, 1, 28, 28)


def test_the_data_set_loads() -> None:
    made = module("src/datamodules/noise.py").NoiseDataModule
    values = {"img_size": 28, "channels": 1, "n_classes": 10, "seed": 0}
    node = yaml.safe_load(YAML["configs/datamodule/noise.yaml"]) | values
    node.pop("_target_")
    datamodule = made(**node)
    datamodule.setup("fit")
    assert [len(s) for s in (datamodule.train_set, datamodule.val_set, datamodule.test_set)] == (
        node["train_val_test_split"]
    )


@pytest.mark.parametrize("path", YAML)
def test_each_yaml_names_what_the_snippet_defines(path: str) -> None:
    node = yaml.safe_load(YAML[path])
    file, _, name = node.pop("_target_").rpartition(".")
    source = file.replace(".", "/") + ".py"
    names = vars(src.losses) if source == "src/losses.py" else {}
    assert set(node) <= set(accepted(getattr(module(source, **names), name)))
