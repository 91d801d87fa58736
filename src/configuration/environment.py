"""The Python and the packages that every run needs, in words that older Pythons read too."""

import sys
from importlib.util import find_spec

OLDEST, NEWEST = (3, 11), (3, 14)
MODULES = (
    "torch", "torchvision", "pytorch_lightning", "hydra", "omegaconf", "wandb", "rich", "numpy",
    "PIL", "matplotlib", "safetensors", "optuna",
)  # fmt: skip


def require_environment() -> None:
    """Exit with 1 and a sentence where this Python will not do, or a package is missing."""
    require_python()
    missing = [name for name in MODULES if find_spec(name) is None]
    if missing:
        sys.exit(
            f"error: {sys.executable} lacks {', '.join(missing)}: type source .venv/bin/activate, "
            "or pip install -r requirements.txt where there is no .venv yet"
        )


def require_python() -> None:
    """Exit with 1 and a sentence on a Python that is too old or too new."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        versions = (OLDEST, NEWEST, sys.version_info)
        oldest, newest, this = (f"{major}.{minor}" for major, minor, *_ in versions)
        sys.exit(
            f"error: Python {oldest} to {newest} is needed, and this is {this}: install with one "
            "of those, as in make PYTHON=python3.12 train, then type source .venv/bin/activate"
        )
