# `make demo` and `make test` prepare everything they need; `make help` lists the rest.
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
PINS := setup.cfg pyproject.toml constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

.PHONY: help demo test test-all format lint type bench docs opengl
.DEFAULT_GOAL := help

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s%s\n", $$1, $$2}' Makefile

demo: $(VENV)/core opengl  ## Imitate a running walker from observations, in about ten minutes
	$(BIN)/aime-gym demo

test: lint type opengl  ## Lint, types and tests: what a change must pass
	$(PYTEST)

test-all: $(VENV)/expert $(VENV)/ray lint type opengl  ## The same with the slow tests, and those of SBX and Ray
	$(PYTEST) -m "slow or not slow"

format: $(VENV)/dev  ## Format the code and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(VENV)/dev  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/dev  ## Check types
	$(BIN)/mypy

bench: $(VENV)/core  ## Measure speed: environments, updates, evaluation, start-up, growth
	$(BIN)/python benchmarks/environments.py
	$(BIN)/python benchmarks/updates.py
	$(BIN)/python benchmarks/updates.py --cells rssm --setups visual --batch-size 25 --sequence-length 25 \
		--rounds 2 --out benchmarks/results/updates-visual.json
	$(BIN)/python benchmarks/together.py
	$(BIN)/python benchmarks/drawing.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/figure.py

docs: $(VENV)/docs  ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

opengl: $(VENV)/core  ## Try OpenGL; with INSTALL=1, install it where it is missing
	@INSTALL=$(INSTALL) scripts/opengl.sh $(BIN)/python

# A stamp a set of packages; they are installed anew when the pins change.
$(BIN)/python:
	scripts/python.sh -m venv $(VENV)

$(VENV)/core: $(PINS) | $(BIN)/python
	@echo "Installing into $(VENV); the first time takes a few minutes."
	$(PIP) -e .
	@touch $@

$(VENV)/dev $(VENV)/docs $(VENV)/expert $(VENV)/ray: $(VENV)/%: $(VENV)/core
	$(PIP) -e '.[$*]'
	@touch $@
