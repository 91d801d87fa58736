# make train | make test | make check; a second call starts at once
PYTHON ?= python3
BIN := .venv/bin

train: .venv/installed
	$(BIN)/python run.py experiment=train_mnist_gan.yaml

test: .venv/installed
	$(BIN)/python -m pytest

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install -r requirements-dev.txt
	touch $@

.PHONY: train test check
