"""The snippets of the README and of the pages of docs/ work as they are printed."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

import src.generate
import src.losses
import src.train
from src.build import build_model
from src.config import compose_in
from src.losses import Logits
from src.metrics.panel import require_enough
from src.schema import accepted

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
PYTHON = dict(re.findall(r"```python\n# ([\w/.]+)[^\n]*\n(.*?)```", TEXT, re.S))
YAML = {
    path: (command, content)
    for path, command, content in re.findall(
        r"```yaml\n# ([\w/.]+), then: ([^\n]*)\n(.*?)```", TEXT, re.S
    )
}


def module(path: str, **names: object) -> ModuleType:
    made = ModuleType(Path(path).stem)
    sys.modules[made.__name__] = made  # where dataclasses look up their annotations
    made.__dict__.update(names)
    exec(PYTHON[path], made.__dict__)
    return made


def node(path: str) -> dict[str, object]:
    return yaml.safe_load(YAML[path][1])


def test_the_loss_is_the_minimax_game() -> None:
    loss = module("src/losses.py", **vars(src.losses)).Minimax()
    logits = Logits(real=torch.tensor([0.5]), fake=torch.tensor([-0.25], requires_grad=True))
    (slope,) = torch.autograd.grad(loss.generator(logits), logits.fake)
    (opposite,) = torch.autograd.grad(loss.discriminator(logits), logits.fake)
    assert slope == -opposite


def test_the_network_makes_images() -> None:
    generator = module("src/networks/linear.py").Generator(n_classes=10, latent_dim=4, img_size=28)
    assert generator(torch.randn(3, 4), torch.arange(3)).shape == (3, 1, 28, 28)


def test_the_data_set_loads_and_can_be_judged() -> None:
    made = module("src/datamodules/noise.py").NoiseDataModule
    values = {"img_size": 28, "channels": 1, "n_classes": 10, "seed": 0}
    arguments = node("configs/datamodule/noise.yaml") | values
    arguments.pop("_target_")
    datamodule = made(**arguments)
    datamodule.setup("fit")
    parts = datamodule.train_set, datamodule.val_set, datamodule.test_set
    assert [len(part) for part in parts] == arguments["train_val_test_split"]
    require_enough(datamodule.test_set.labels, n_classes=10, what="the test split")


@pytest.mark.parametrize("path", YAML)
def test_each_yaml_names_what_the_snippet_defines(path: str) -> None:
    arguments = node(path)
    file, _, name = str(arguments.pop("_target_")).rpartition(".")
    source = file.replace(".", "/") + ".py"
    names = vars(src.losses) if source == "src/losses.py" else {}
    assert set(arguments) <= set(accepted(getattr(module(source, **names), name)))


@pytest.mark.parametrize("path", YAML)
def test_the_command_of_each_yaml_chooses_its_file(path: str) -> None:
    group = Path(path).relative_to("configs").with_suffix("")
    assert YAML[path][0].split()[-1] == f"{group.parent}={group.name}"


def test_five_lines_of_python_generate_a_five(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for = []

    def load_gan(path: Path) -> torch.nn.Module:
        asked_for.append(path)
        return build_model(compose_in(tmp_path))

    monkeypatch.setattr(src.generate, "load_gan", load_gan)
    five = module("five.py").five
    assert asked_for == [Path("RUN/checkpoints/last.ckpt")]
    assert (five.shape, five.dtype) == ((1, 1, 28, 28), torch.uint8)


def test_a_script_trains_what_a_command_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(src.train, "train", trained.append)
    module("train_mine.py")
    (cfg,) = trained
    assert cfg.model == compose_in(tmp_path, "experiment=train_mnist_gan").model
    assert Path(cfg.run_dir).is_dir()
