# Set up once, then everything runs from .venv: `make demo` and `make test` do it themselves.
#
# The set-up is repeated only when what it depends on changes: the stamp's name is a checksum of
# those files, so neither a fresh clone's time stamps nor a switch of branches repeats it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SET_UP_BY := setup.cfg pyproject.toml constraints.txt overrides.txt
STAMP := $(VENV)/set-up-$(firstword $(shell cat $(SET_UP_BY) | cksum))

# torchattacks' wheel holds an old copy of RobustBench, and whichever is installed last wins.
PUT_BACK := $(BIN)/uv pip install --no-deps --reinstall-package robustbench 'robustbench >= 1.1.1'

# One thread per process: the tests run in several processes, and bits must not depend on threads.
SINGLE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(SINGLE) $(BIN)/python -m pytest -n logical --maxprocesses 4

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-min mutants coverage dist-check check format evidence \
	api bench bench-gpu

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / - /'

setup: $(STAMP)  ## create .venv and install everything into it

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "robustkit needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; \
		exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python -e '.[dev]' -c constraints.txt --override overrides.txt
	$(PUT_BACK) --python $(BIN)/python
	@rm -f $(VENV)/set-up-* && touch $@

demo: $(STAMP)  ## evolve a network on embedded data; ends with where the report is
	@n=1; while [ -e runs/demo-$$n ]; do n=$$((n + 1)); done; out=runs/demo-$$n; \
	$(BIN)/robustkit evolve --data digits --population 8 --generations 5 --seed 0 \
		--executor processes --workers 2 --reference small --lam 1.0 --eps 0.15 --promote 2 \
		--out $$out && \
	echo "The report: $(CURDIR)/$$out/report.html"

test: $(STAMP)  ## the tests, without the slow ones
	@$(PYTEST) -m 'not slow'

test-all: $(STAMP)  ## every test, with other and more random examples each time
	@HYPOTHESIS_PROFILE=search $(PYTEST)

# The oldest versions that setup.cfg admits, in an environment of their own (5 GB).
test-min: $(STAMP)  ## the same tests with the oldest versions that setup.cfg admits
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-min
	$(BIN)/uv pip install --quiet --python .venv-min/bin/python -e '.[dev]' \
		--resolution lowest-direct --override overrides.txt
	$(PUT_BACK) --quiet --python .venv-min/bin/python
	@$(SINGLE) .venv-min/bin/python -m pytest -n logical --maxprocesses 4 -m 'not slow'

mutants: $(STAMP)  ## mistakes made on purpose, each noticed by a test
	@$(SINGLE) $(BIN)/python -m tests.mutants

# Faults strike whatever a process writes, what measures it too.
coverage: $(STAMP)  ## the share of lines that the tests run; ends with the files below 80 %
	@$(BIN)/coverage erase
	@$(SINGLE) $(BIN)/coverage run -m pytest -n logical --maxprocesses 4 -m 'not slow' \
		--ignore tests/faults
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report | awk '/%$$/ && ($$NF + 0 < 80 || $$1 == "TOTAL")'
	@$(BIN)/coverage report --format=total >/dev/null

dist-check: $(STAMP)  ## build wheel and sdist, install each elsewhere, and use it
	@$(BIN)/python -m tests.packaging

check: $(STAMP)  ## lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(STAMP)  ## put lint and format right
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

evidence: $(STAMP)  ## docs/evidence.md and every comparison.md anew, from the committed summaries
	$(BIN)/python -m experiments.studies.evidence

api: $(STAMP)  ## write the API reference, docs/api, from the docstrings
	$(BIN)/python docs/reference.py

bench: $(STAMP)  ## every value about speed, beside other libraries; ends in runs/bench-N.json
	$(SINGLE) $(BIN)/robustkit bench

bench-gpu: $(STAMP)  ## what a GPU makes of steps, attacks and maps; ends in bench-gpu.json
	$(SINGLE) $(BIN)/robustkit bench gpu --out bench-gpu.json
