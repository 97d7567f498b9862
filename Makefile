# make demo   the sample workspace in the browser      make test   all tests
# make check  linter and types                         make help   the rest

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKSPACE ?= workspace
PORT ?= 8501

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check checkpoints clean

help:
	@echo "make demo         write the sample workspace (once) and open it in the browser"
	@echo "make test         run all tests but the slow ones"
	@echo "make test-slow    run the slow tests, too"
	@echo "make check        linter and type checker"
	@echo "make checkpoints  train the sample runs again (some hours on 2 cores)"
	@echo "make clean        remove the environment; the workspace stays"

# The environment is made under another name's stamp, so an interrupted install is repeated.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "FusionLens needs Python 3.11 or newer; name one with make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	@test -d $(WORKSPACE)/runs || $(BIN)/fusionlens sample $(WORKSPACE)
	@$(BIN)/fusionlens app --workspace $(WORKSPACE) --port $(PORT)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m 'slow or not slow'

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

checkpoints: $(VENV)/.installed
	$(BIN)/python -m sample_data.build_checkpoints

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
