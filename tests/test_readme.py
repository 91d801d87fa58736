"""What the README and the pages of docs/ print works: snippets, commands and links."""

import re
import shlex
import sys
import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from PIL import Image

import src.generate
import src.models.gan.losses
import src.train
from src.configuration.build import build_model
from src.configuration.check import accepted
from src.configuration.prepare import compose_in
from src.datamodules.in_memory import InMemoryDataModule
from src.metrics.panel import require_enough
from src.models.gan.losses import Logits
from tests.pages import PAGES, PYTHON, README, ROOT, TEXT

YAML = {
    path: (command, content)
    for path, command, content in re.findall(
        r"```yaml\n# ([\w/.]+), then: ([^\n]*)\n(.*?)```", TEXT, re.S
    )
}

# Commands: code in a line, and lines of blocks that name no language.
CODE = re.sub(r"^```\w.*?^```$", "", TEXT, flags=re.S | re.M)
SPANS = re.findall(r"`([^`]+)`", re.sub(r"^```$.*?^```$", "", CODE, flags=re.S | re.M))
BLOCKS = re.findall(r"^```$(.*?)^```$", CODE, re.S | re.M)
IS_COMMAND = re.compile(r"(\w+=\S+ )*(python|torchrun \S+) run\.py\b")
RUN = "logs/runs/2026-11-22/06-07-18"
PLACEHOLDERS = {"RUN": RUN, "FILE.npz": "images.npz", "FOLDER": "folder", "NAME": "synthetic",
                "PICTURES": "pictures", "hands/Dataset": "pictures"}  # fmt: skip
NOT_COMPOSED = "--help", "datamodule=noise"  # Hydra's own, and the snippet's
COMMANDS = sorted(
    line
    for line in {" ".join(line.split()) for line in [*SPANS, *"".join(BLOCKS).splitlines()]}
    if IS_COMMAND.match(line) and not any(word in line for word in NOT_COMPOSED)
)


def section(name: str) -> str:
    """A section of the README, without its heading."""
    return README.read_text().partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def module(path: str, **names: object) -> ModuleType:
    made = ModuleType(Path(path).stem)
    sys.modules[made.__name__] = made  # where dataclasses look up their annotations
    made.__dict__.update(names)
    exec(PYTHON[path], made.__dict__)
    return made


def node(path: str) -> dict[str, object]:
    return yaml.safe_load(YAML[path][1])


def test_the_loss_is_the_minimax_game() -> None:
    loss = module("src/models/gan/losses.py", **vars(src.models.gan.losses)).Minimax()
    logits = Logits(real=torch.tensor([0.5]), fake=torch.tensor([-0.25], requires_grad=True))
    (slope,) = torch.autograd.grad(loss.generator(logits), logits.fake)
    (opposite,) = torch.autograd.grad(loss.discriminator(logits), logits.fake)
    assert slope == -opposite


def test_the_network_makes_images() -> None:
    generator = module("src/networks/linear.py").Generator(n_classes=10, latent_dim=4, img_size=28)
    assert generator(torch.randn(3, 4), torch.arange(3)).shape == (3, 1, 28, 28)


def test_the_data_set_loads_and_can_be_judged() -> None:
    dataset = module("src/datamodules/noise.py").Noise()
    arguments = node("configs/datamodule/noise.yaml") | {"img_size": 28, "seed": 0}
    arguments.pop("_target_")
    datamodule = InMemoryDataModule(**arguments | {"dataset": dataset})
    datamodule.setup("fit")
    parts = datamodule.train_set, datamodule.val_set, datamodule.test_set
    assert [len(part) for part in parts] == arguments["train_val_test_split"]
    names = dataset.class_names
    require_enough(datamodule.test_set.labels, class_names=names, what="the test split")


@pytest.mark.parametrize("path", YAML)
def test_each_yaml_names_what_the_snippet_defines(path: str) -> None:
    arguments = node(path)
    arguments = arguments.get("dataset", arguments)
    file, _, name = str(arguments.pop("_target_")).rpartition(".")
    source = file.replace(".", "/") + ".py"
    names = vars(src.models.gan.losses) if source == "src/models/gan/losses.py" else {}
    assert set(arguments) <= set(accepted(getattr(module(source, **names), name)))


@pytest.mark.parametrize("path", YAML)
def test_the_command_of_each_yaml_chooses_its_file(path: str) -> None:
    group = Path(path).relative_to("configs").with_suffix("")
    assert YAML[path][0].split()[-1] == f"{group.parent}={group.name}"


@pytest.mark.parametrize(
    ("snippet", "name", "count"), [("five.py", "five", 1), ("from_one_to_another.py", "images", 9)]
)
def test_a_few_lines_of_python_generate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snippet: str, name: str, count: int
) -> None:
    asked_for = []

    def load_model(path: str) -> torch.nn.Module:
        asked_for.append(path)
        return build_model(compose_in(tmp_path))

    monkeypatch.setattr(src.generate, "load_model", load_model)
    images = getattr(module(snippet), name)
    assert asked_for == ["RUN"]
    assert (images.shape, images.dtype) == ((count, 1, 28, 28), torch.uint8)


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


def arguments_of(command: str) -> list[str]:
    """What is typed after ``run.py``, with something in the placeholders' places."""
    words = shlex.split(command, comments=True)
    typed = words[next(i for i, word in enumerate(words) if word.endswith("run.py")) + 1 :]
    pattern = "|".join(rf"\b{re.escape(name)}\b" for name in PLACEHOLDERS)
    if find_spec("submitit") is None:  # of requirements-cluster.txt
        typed = [
            word for word in typed if not word.startswith(("hydra/launcher=slurm", "hydra.la"))
        ]
    return [re.sub(pattern, lambda found: PLACEHOLDERS[found[0]], word) for word in typed]


def jobs(arguments: Sequence[str]) -> list[list[str]]:
    """The command lines that ``-m`` makes of one: here, of one swept key."""
    if "-m" not in arguments:
        return [list(arguments)]
    rest = [each for each in arguments if each != "-m" and "," not in each]
    (swept,) = (each for each in arguments if "," in each)
    key, _, values = swept.partition("=")
    return [[*rest, f"{key}={value}"] for value in values.split(",")]


TYPED = sorted({tuple(arguments_of(command)) for command in COMMANDS})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder, as RUN and ``latest`` mean one, below the folder where commands are typed."""
    folder = tmp_path / RUN
    for path, content in {
        ".hydra/overrides.yaml": "[experiment=train_mnist_gan, seed=7]",
        "checkpoints/last.ckpt": "",
    }.items():
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(content)
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        Image.new("L", (4, 4), i).save(tmp_path / "pictures" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return folder


def test_there_are_commands_to_try() -> None:
    assert {"python run.py", "python run.py resume=latest"} <= set(COMMANDS)
    assert sum(command.startswith("torchrun") for command in COMMANDS) == 1
    assert len(COMMANDS) > 40


@pytest.mark.slow
@pytest.mark.parametrize("arguments", TYPED, ids=" ".join)
def test_the_command_composes_and_its_networks_fit(arguments: Sequence[str], run: Path) -> None:
    for job in jobs(arguments):
        cfg = compose_in(Path.cwd(), *job)
        if any(word.startswith("resume=") for word in job):
            assert cfg.seed == 7
        if cfg.task == "train":
            build_model(cfg)


def test_everyday_commands_can_be_pasted_whole() -> None:
    rows = re.findall(r"^\| .* \| `(.*)` \|$", section("Everyday commands"), re.M)
    assert len(rows) == 10
    assert all(row.startswith("python run.py ") and "..." not in row for row in rows)


def test_scripts_and_targets_of_make_exist() -> None:
    scripts = re.findall(r"python (benchmarks/\w+\.py)", TEXT)
    assert scripts
    assert all((ROOT / script).is_file() for script in scripts)
    targets = re.findall(r"(?:^|`)make (\w+)", TEXT, re.M)
    assert {"train", "test"} <= set(targets)
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)$", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "benchmarks/README.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    assert set(re.findall(r"\]\((docs/[\w-]+\.md)", text)) == {
        str(page.relative_to(ROOT)) for page in PAGES[1:]
    }


def test_the_layout_has_a_line_for_every_folder_of_src() -> None:
    lines = section("Layout").splitlines()
    for folder in (ROOT / "src").iterdir():
        if (folder / "__init__.py").is_file():
            assert sum(line.startswith(f"src/{folder.name}/ ") for line in lines) == 1, folder


def test_the_citation_is_of_this_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = section("Citation, and the [MIT license](LICENSE)")
    citation = dict(re.findall(r"(\w+) = \{(.*?)\}", text))
    assert citation["title"] == project["description"]
    assert citation["version"] == project["version"]
