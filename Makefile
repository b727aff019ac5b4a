# `make demo` and `make test` each work as the very first command: they make .venv once, then use it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := .venv-extras
FUZZ := .venv-fuzz
SECONDS_EACH ?= 20
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-extras test-long fuzz check format bench lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

venv: $(VENV)/.ready ## make .venv with everything in it, for `. .venv/bin/activate`

demo: $(VENV)/.ready ## seal two models, attest, infer, and watch five attacks fail
	@$(BIN)/strongroom demo

test: $(VENV)/.ready ## run the tests
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup

test-extras: $(EXTRAS)/.ready ## run the tests of the PyTorch and Keras exporters, in an environment of their own
	@KERAS_BACKEND=torch $(EXTRAS)/bin/python -m pytest -m extras tests/manifests/test_extras.py

test-long: $(VENV)/.ready ## run the tests that take minutes
	@$(BIN)/pytest -n $(WORKERS) -m long --timeout 3600

fuzz: $(VENV)/.ready $(FUZZ)/.ready ## fuzz every parser, guided by coverage, and flip every bit of collateral; writes tests/fuzz/RESULTS.md
	@PYTHONPATH=. $(FUZZ)/bin/python -m tests.fuzz.guided --seconds $(SECONDS_EACH)
	@$(BIN)/python -m tests.fuzz.bits

check: $(VENV)/.ready ## check format, lint, types and layout
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest tests/test_layout.py tests/test_codes.py

format: $(VENV)/.ready ## rewrite the sources in the one format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: $(VENV)/.ready ## measure, and write benchmarks/results/
	@$(BIN)/python -m benchmarks

lock: $(VENV)/.ready ## pin every dependency anew, with hashes and without any index's address
	@$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install -q uv
	@for set in dev extras fuzz; do .venv-lock/bin/uv pip compile --upgrade --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header -q $$([ $$set = fuzz ] && echo -c requirements/dev.lock) \
	  requirements/$$set.in -o requirements/$$set.lock; done
	@rm -r .venv-lock

clean: ## remove what the other targets made
	@rm -rf $(VENV) $(EXTRAS) $(FUZZ) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

$(VENV)/.ready: requirements/dev.lock pyproject.toml
	@echo "Setting up $(VENV), once: about a minute on an ordinary connection."
	@$(PYTHON) -c 'import sys; sys.exit("Strongroom needs Python 3.11 or newer; found " + sys.version if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { echo "The venv module is missing: apt-get install python3-venv"; exit 1; }
	@$(BIN)/pip --disable-pip-version-check install --require-hashes -r requirements/dev.lock \
	  | sed -u -n -E 's/^Collecting ([^ ]+).*/  fetching \1/p; s/^(Installing collected|Successfully).*/  installing/p'
	@$(BIN)/python -c 'import onnxruntime, cryptography' || { echo "The installation did not finish; run make clean and try again."; exit 1; }
	@$(BIN)/pip --disable-pip-version-check install -q --no-deps --no-build-isolation -e .
	@touch $@

$(EXTRAS)/.ready: requirements/extras.lock pyproject.toml
	@echo "Setting up $(EXTRAS) for the PyTorch and Keras exporters, once."
	@$(PYTHON) -m venv $(EXTRAS)
	@$(EXTRAS)/bin/pip --disable-pip-version-check install -q --require-hashes -r requirements/extras.lock
	@$(EXTRAS)/bin/pip --disable-pip-version-check install -q torch==2.13.0
	@$(EXTRAS)/bin/pip --disable-pip-version-check install -q --no-deps --no-build-isolation -e .
	@touch $@

$(FUZZ)/.ready: requirements/fuzz.lock
	@echo "Setting up $(FUZZ) for coverage-guided fuzzing, once."
	@$(PYTHON) -m venv $(FUZZ)
	@$(FUZZ)/bin/pip --disable-pip-version-check install -q --require-hashes -r requirements/fuzz.lock
	@touch $@
