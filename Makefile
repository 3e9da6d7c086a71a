# Every target sets itself up in .venv. `make train` and `make test` are all a newcomer needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Processes that share out the tests; what must not run beside itself stays in one of them.
WORKERS ?= 2
# Errors alone: some machines' settings of pip give hundreds of warnings, none of them ours.
PIP := $(BIN)/pip --disable-pip-version-check -qq
READY := .venv/.ready

.PHONY: train test test-long test-gpu setup lint check format reference clean

train: setup ## trains gpt3_nano on four ranks of this machine
	$(BIN)/phalanx train

test: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder --durations=25

test-long: setup ## the tests that take minutes each, on a SLURM of this machine
	$(BIN)/python -m pytest -m long

test-gpu: setup ## proves this machine's GPUs: gpu-kit.json, and gpu-kit.html to read
	$(BIN)/phalanx doctor device=cuda
	$(BIN)/python -m pytest tests/gpu -m gpu

setup: $(READY)

# torch comes first: the packages built from source here look at it.
$(READY): pyproject.toml constraints.txt
	@echo "phalanx: installing into .venv, once; a few minutes and 2 GB of disk"
	@echo "phalanx: 1 of 4, a Python environment"
	@$(PYTHON) -m venv .venv
	@echo "phalanx: 2 of 4, what builds packages"
	@$(PIP) install --constraint constraints.txt pip setuptools wheel packaging ninja py-cpuinfo
	@echo "phalanx: 3 of 4, torch, the largest (silent for a minute or two)"
	@$(PIP) install --constraint constraints.txt torch==2.13.0 numpy
	@echo "phalanx: 4 of 4, Megatron-core, DeepSpeed and the rest, parts of which are compiled (silent again)"
	@$(PIP) install --constraint constraints.txt --no-build-isolation --editable ".[dev]"
	@touch $(READY)
	@echo "phalanx: installed; the command is $(BIN)/phalanx"

lint: setup ## format, lint and types, in order of cost
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test ## the whole gate

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: setup ## writes docs/reference/settings.md anew from configs/
	$(BIN)/python -m launcher.command_line.reference

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
