PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SONA_DATA ?= $(abspath ../shared/data)
# Matrices here are small: threads of BLAS wait for each other longer than they work.
OMP_NUM_THREADS ?= 1
export SONA_DATA OMP_NUM_THREADS

.PHONY: setup demo test lint fix bench docs check clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml setup.py $(wildcard src/sona/kernel/native/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m compileall -q src
	touch $@

demo: setup
	$(BIN)/sona demo

test: setup
	$(BIN)/python -m pytest -m "not server" -n auto

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	for file in bench/quality_*.py bench/speed_*.py; do $(BIN)/python $$file || exit 1; done

check: lint test

clean:
	rm -rf $(VENV) build dist src/*.egg-info
