# Everything runs in a virtual environment of its own, .venv; `make help` lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
VENV := .venv
BIN := $(VENV)/bin
TORCH := 2.13.0
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
EXTRAS := play,box2d,dev
GAME ?= TetrisDirect-v0

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup train test lint typecheck docs wheel clean

help:  ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1 - \2/p' $(MAKEFILE_LIST)

train: setup  ## train DREAM on Tetris for about ten minutes, then show what it learned (run again: resumes)
	$(BIN)/python -m sb3_dream quickstart --env $(GAME)

test: setup  ## run the tests, in two processes
	$(BIN)/python -m pytest -q -n 2

lint: setup  ## check the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: setup  ## check the types
	$(BIN)/mypy

docs: setup $(VENV)/.docs  ## build the documentation into site/
	$(BIN)/sphinx-build -q -W -b html docs site
	@echo "open site/index.html"

wheel: setup  ## build the wheel into dist/
	$(BIN)/python -m build --wheel

setup: $(VENV)/.installed  ## create .venv with the pinned versions of constraints.txt

# PyTorch's default wheel for Linux brings gigabytes of CUDA libraries. The CPU build is looked for where pip is
# configured to look, then on PyTorch's own index; macOS has only the plain wheel.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python found: install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: $(PYTHON) is too old: Python 3.11 or newer is needed (make PYTHON=/path/to/python)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing torch $(TORCH) for the CPU"
	@$(BIN)/pip install -q "torch==$(TORCH)+cpu" 2>/dev/null \
		|| $(BIN)/pip install -q --extra-index-url $(TORCH_CPU_INDEX) "torch==$(TORCH)+cpu" 2>/dev/null \
		|| $(BIN)/pip install -q "torch==$(TORCH)"
	$(BIN)/pip install -q --use-pep517 -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/pip install -q --use-pep517 -c constraints.txt -e ".[$(EXTRAS),docs]"
	@touch $@

clean:  ## remove .venv and what was built (never runs/ or logs/)
	rm -rf $(VENV) build dist site
