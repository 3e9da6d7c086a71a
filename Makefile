# Every target sets itself up in .venv. `make train` and `make test` are all a newcomer needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check
READY := .venv/.ready

.PHONY: train test test-long setup check format clean

train: setup ## trains gpt3_nano on four ranks of this machine
	$(BIN)/phalanx train

test: setup
	$(BIN)/python -m pytest --durations=25

test-long: setup ## the tests that take minutes each, on a SLURM of this machine
	$(BIN)/python -m pytest -m long

setup: $(READY)

# torch comes first: the packages built from source here look at it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt pip setuptools wheel packaging ninja py-cpuinfo
	$(PIP) install --quiet --constraint constraints.txt torch==2.13.0 numpy
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable ".[dev]"
	touch $(READY)

check: setup ## the whole gate, in order of cost
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
