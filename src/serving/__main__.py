"""Serve an exported folder: ``python -m src.serving FOLDER``."""

import argparse
import logging
import sys
from pathlib import Path

import uvicorn

from src.serving.app import make_app
from src.serving.bundle import Bundle, BundleError
from src.serving.settings import SettingsError, settings_of_environment


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m src.serving", description=__doc__)
    parser.add_argument("folder", type=Path, help="what python run.py task=export has written")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for every network interface")
    parser.add_argument("--port", default=8000, type=int)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        app = make_app(Bundle(options.folder), settings_of_environment())
    except (BundleError, SettingsError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    uvicorn.run(
        app, host=options.host, port=options.port, log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=30,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
