# Every target sets itself up in .venv. `make train` and `make test` are all a newcomer needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Processes that share out the tests; what must not run beside itself stays in one of them.
WORKERS ?= 2
# Errors alone: some machines' settings of pip give hundreds of warnings, none of them ours.
PIP := $(BIN)/pip --disable-pip-version-check -qq
READY := .venv/.ready

# Which build of torch: CUDA's where an NVIDIA GPU or its driver's tool is, the CPU's elsewhere.
NVIDIA ?= $(firstword $(wildcard /dev/nvidia0) $(shell command -v nvidia-smi 2>/dev/null))
TORCH ?= $(if $(NVIDIA),cuda,cpu)
$(if $(filter cpu cuda,$(TORCH)),,$(error TORCH=$(TORCH): cpu or cuda))
WHY := $(if $(filter file,$(origin TORCH)),because $(if $(NVIDIA),$(NVIDIA) is here,no NVIDIA GPU is here),as you say)
# PyPI has the build for CUDA. Where pip also sees one that is called 2.13.0+cpu, it takes that.
TORCH_FROM ?= $(if $(filter cpu,$(TORCH)),--extra-index-url https://download.pytorch.org/whl/cpu)
PINS := $(if $(filter cuda,$(TORCH)),constraints-cuda.txt,constraints.txt)
# Transformer Engine is compiled, for which CUDA's toolkit has to be there.
NVCC ?= $(firstword $(wildcard $(or $(CUDA_HOME),/usr/local/cuda)/bin/nvcc) $(shell command -v nvcc 2>/dev/null))
COMMA := ,
EXTRAS := dev$(if $(and $(filter cuda,$(TORCH)),$(NVCC)),$(COMMA)cuda)

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

setup: $(READY) ## make setup TORCH=cpu or TORCH=cuda says which torch; else this machine does
	@has=$$(cat $(READY)); if [ "$(origin TORCH)" != file ] && [ -n "$$has" ] && [ "$$has" != $(TORCH) ]; then \
	  echo "phalanx: TORCH=$(TORCH), but .venv has torch for $$has; nearest: make clean, and again"; exit 1; fi

# torch comes first: the packages built from source here look at it.
$(READY): pyproject.toml constraints.txt constraints-cuda.txt
	@echo "phalanx: installing into .venv, once; a few minutes and 2 GB of disk, for CUDA some more"
	@echo "phalanx: torch for $(TORCH), $(WHY); TORCH=$(if $(filter cpu,$(TORCH)),cuda,cpu) takes the other"
	@echo "phalanx: 1 of 4, a Python environment"
	@$(PYTHON) -m venv .venv
	@echo "phalanx: 2 of 4, what builds packages"
	@$(PIP) install --constraint $(PINS) pip setuptools wheel packaging ninja py-cpuinfo
	@echo "phalanx: 3 of 4, torch, the largest (silent for a minute or two)"
# Alone and with few retries: pip asks every index for every package, and this one may be out of reach, of which
# pip would warn although PyPI then has it.
	@$(if $(TORCH_FROM),$(PIP) -q --retries 1 install --no-deps --constraint $(PINS) $(TORCH_FROM) torch==2.13.0,:)
	@$(PIP) install --constraint $(PINS) torch==2.13.0 numpy
ifeq ($(TORCH),cuda)
	@$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.version.cuda else f"phalanx: pip took torch {torch.__version__}, which is not for CUDA; TORCH_FROM=--index-url=URL says where it is")'
	@$(if $(NVCC),:,echo "phalanx: no nvcc on the PATH or in CUDA_HOME, so without Transformer Engine")
endif
	@echo "phalanx: 4 of 4, Megatron-core, DeepSpeed and the rest, parts of which are compiled (silent again)"
	@$(PIP) install --constraint $(PINS) --no-build-isolation --editable ".[$(EXTRAS)]"
	@echo $(TORCH) > $(READY)
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
