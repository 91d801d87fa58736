"""A Python or an environment that will not do is one sentence; argparse of Python 3.14 will do."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from src.configuration import environment
from tests.pages import ROOT
from tests.toys import assert_says, finish, start

MODULE_OF = {"hydra-core": "hydra", "pytorch-lightning": "pytorch_lightning", "pillow": "PIL"}
ONLY_SOME_NEED = {
    "pytest",
    "pytest-xdist",
    "tensorboard",
    "onnx",
    "onnxscript",
    "hydra-joblib-launcher",
}

# What argparse does with each option since Python 3.14, for the older ones.
AS_3_14 = """
import argparse

def check_help(self, action):
    if action.help and "%" in action.help:
        action.help % {}

def add(self, *names, add_argument=argparse.ArgumentParser.add_argument, **options):
    action = add_argument(self, *names, **options)
    self._check_help(action)
    return action

argparse.ArgumentParser._check_help = check_help
argparse.ArgumentParser.add_argument = add
"""


def test_hydra_s_help_passes_the_check_of_python_3_14(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(AS_3_14)
    help_of_hydra = finish(start(["--hydra-help"], tmp_path))
    assert_says(help_of_hydra, "--config-name,-cn", "--shell-completion,-sc : Install or Uninstall")


def test_no_environment_is_one_sentence() -> None:
    """As ``python3 run.py`` before .venv is activated: -I -S hides all packages."""
    code = (
        "import runpy, sys; sys.path.insert(0, '.'); runpy.run_path('run.py', run_name='__main__')"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stdout) == (1, "")
    assert_says(said.stderr, "error: ", "lacks torch, ", "hydra, ", "source .venv/bin/activate")
    assert said.stderr.count("\n") == 1


def test_any_other_package_that_is_missing_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['yaml'] = None\n")
    said = finish(start(["debug=true"], tmp_path), code=1)
    assert_says(said, "Traceback", "ModuleNotFoundError: import of yaml halted")


def test_the_modules_are_those_of_the_requirements_that_every_run_has() -> None:
    names = re.findall(r"^\w[\w-]*", (ROOT / "requirements.txt").read_text(), re.M)
    needed = [MODULE_OF.get(name, name) for name in names if name not in ONLY_SOME_NEED]
    assert sorted(environment.MODULES) == sorted(needed)


@pytest.mark.parametrize("version", [(3, 9, 2), (3, 10, 14), (3, 15, 0)])
def test_other_pythons_are_one_sentence(
    version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit) as caught:
        environment.require_python()
    this = f"{version[0]}.{version[1]}"
    assert_says(str(caught.value.code), f"3.11 to 3.14 is needed, and this is {this}: install")


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 14, 6)])
def test_the_pythons_that_are_promised_will_do(
    version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    environment.require_python()


@pytest.mark.parametrize("path", ["run.py", "src/configuration/environment.py"])
def test_old_pythons_can_read_what_refuses_them(path: str) -> None:
    ast.parse((ROOT / path).read_text(), feature_version=(3, 8))


def test_all_pages_promise_the_same_pythons() -> None:
    oldest, newest = ("{}.{}".format(*each) for each in (environment.OLDEST, environment.NEWEST))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={oldest},<3.{environment.NEWEST[1] + 1}"
    assert f"Python {oldest} to {newest}" in (ROOT / "README.md").read_text()
