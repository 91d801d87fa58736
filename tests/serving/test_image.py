"""The container's image holds what the service needs of the house, and no more."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.pages import ROOT


def test_what_the_image_holds_checks_a_folder(exported: Path, tmp_path: Path) -> None:
    kept = (ROOT / "src/serving/Dockerfile.dockerignore").read_text().splitlines()
    for name in (line[1:] for line in kept if line.startswith("!")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "src.serving.check", str(exported)]
    subprocess.run(command, cwd=tmp_path, check=True)
