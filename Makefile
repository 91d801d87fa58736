# make train | make speedrun | make quick | make test | make check | make image; a second call starts at once
PYTHON ?= python3
BIN := .venv/bin
PARALLEL := -n auto --dist worksteal
BUILDER ?= $(firstword $(foreach name,docker podman buildah,$(shell command -v $(name))))

train: .venv/installed
	$(BIN)/python run.py experiment=train_mnist_gan.yaml

speedrun: .venv/installed
	$(BIN)/python benchmarks/speedrun.py

quick: .venv/installed
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not network"

test: .venv/installed
	$(BIN)/python -m pytest $(PARALLEL)

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Of the service alone; BUILDER=podman chooses.
image:
	@test -n "$(BUILDER)" || { echo "error: an image needs docker, podman or buildah: install one" >&2; exit 1; }
	$(BUILDER) build -f src/serving/Dockerfile -t digits $(BUILD_ARGS) .

.venv/installed: requirements.txt
	@$(PYTHON) -c "from src.configuration.environment import require_python; require_python()"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install -r requirements-dev.txt
	touch $@

.PHONY: train speedrun quick test check image
