PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SONA_DATA ?= $(abspath ../shared/data)
# Matrices here are small: threads of BLAS wait for each other longer than they work.
OMP_NUM_THREADS ?= 1
export SONA_DATA OMP_NUM_THREADS

.PHONY: setup demo test lint fix bench docs check sanitize wheel clean

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

# The kernel with every warning an error; then its tests, and those of the rooms it computes for, under the sanitizers.
SANITIZED := build/sanitize
STRICT := -Wall -Wextra -Werror
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all
SANITIZED_TESTS := $(addprefix tests/unit/test_,kernel_*.py adapters_*.py retention_*.py patterns_*.py memory_votes.py \
	memory_recall.py memory_activation.py guard_sequence.py) tests/property/test_kernel_laws.py

sanitize: setup
	rm -rf $(SANITIZED)
	for compiler in gcc clang; do \
		command -v $$compiler > /dev/null || { echo "$$compiler: not installed, not tried"; continue; }; \
		CC=$$compiler SONA_CFLAGS="$(STRICT)" $(BIN)/python setup.py -q build_ext \
			--build-temp $(SANITIZED)/$$compiler --build-lib $(SANITIZED)/$$compiler || exit 1; \
		echo "$$compiler: no warnings"; \
	done
	CC=gcc SONA_CFLAGS="$(STRICT) -O1 -g -fno-omit-frame-pointer $(SANITIZERS)" SONA_LDFLAGS="$(SANITIZERS)" \
		$(BIN)/python setup.py -q build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	libraries="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)"; \
	for level in baseline avx2 avx512; do ( \
		export SONA_KERNEL=$$level PYTHONPATH=$(SANITIZED)/lib PYTHONMALLOC=malloc LD_PRELOAD="$$libraries" \
			ASAN_OPTIONS=detect_leaks=0:log_path=$(CURDIR)/$(SANITIZED)/report \
			UBSAN_OPTIONS=print_stacktrace=1:log_path=$(CURDIR)/$(SANITIZED)/report; \
		if [ $$level != baseline ] && ! $(BIN)/python -c "import sona.kernel" 2> /dev/null; then \
			echo "$$level: not on this machine, not tried"; exit 0; fi; \
		$(BIN)/python tests/integration/kernel_smoke.py && \
		$(BIN)/python -m pytest -p no:cacheprovider -n auto --hypothesis-profile=ci $(SANITIZED_TESTS) ) || { cat $(SANITIZED)/report.*; exit 1; }; \
	done

# sdist and wheel in dist/, and the wheel in an empty environment, away from the sources.
wheel: setup
	rm -rf dist build/wheel
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd build/wheel && bin/python $(CURDIR)/tests/integration/kernel_smoke.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info
