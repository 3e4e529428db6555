# Each target sets up what it needs; a second call skips what is there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUTPUT ?= demo

PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist worksteal
RELEASES := 3.12 3.13 3.14

.DEFAULT_GOAL := help
.PHONY: help demo check test static nightly nightly-tests nightly-pythons nightly-newest lint bench benchall lab docs notebooks clean

help:  ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/'

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hasa_opt needs Python 3.11 or newer: call make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## score, allocate, compare, train six policies, write demo/report.html
	$(BIN)/hasa-opt study --seeds 3 --output $(OUTPUT)

check: static  ## for daily work: lint, types, contracts of imports, fast tests
	$(PYTEST) -m "not slow and not fuzz and not nightly"

test: static  ## lint, types, contracts of imports, and all tests but the nightly ones
	$(PYTEST) --cov --cov-report=term:skip-covered --durations=10

nightly: nightly-tests nightly-pythons nightly-newest  ## what takes long; make -k nightly goes on after a failure

nightly-tests: $(VENV)/installed  # many random problems, large networks, eighty real ones
	@# Without what pytorchcv asks for: torch is all that its networks need, and another build of
	@# torchvision would break transformers. Where it cannot be had, its networks are skipped.
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--constraint constraints.txt pytorchcv
	TIMES=20 $(PYTEST) -m "fuzz or nightly" --durations=10

nightly-pythons:  # the allocation side on other releases of Python, those that are installed
	tests/nightly/other_pythons $(RELEASES)

nightly-newest:  # all tests with the newest releases of all dependencies
	tests/nightly/newest_releases $(PYTHON)

static: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

lint: $(VENV)/installed  ## format, lint and type-check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

bench: $(VENV)/installed  ## measure the exact solver beside HiGHS and CBC, at a million clients; federated rounds
	$(BIN)/python benchmarks/bench_first_use.py
	$(BIN)/python benchmarks/bench_exact.py
	$(BIN)/python benchmarks/bench_scale.py
	$(BIN)/python benchmarks/bench_rounds.py
	$(BIN)/python benchmarks/bench_loop.py

benchall: bench  ## also every backend, further limits, rosters, what scores measure, and Flower
	$(BIN)/python benchmarks/bench_backends.py
	$(BIN)/python benchmarks/bench_limits.py
	$(BIN)/python benchmarks/bench_several.py
	$(BIN)/python benchmarks/bench_files.py
	$(BIN)/python benchmarks/bench_rosters.py
	$(BIN)/python benchmarks/bench_scores.py
	$(BIN)/python benchmarks/bench_flower.py

lab: $(VENV)/installed  ## open the example notebooks in JupyterLab
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lab]'
	$(BIN)/jupyter lab examples

docs: $(VENV)/installed  ## write the documentation to docs/_build/html
	rm -rf docs/generated
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

notebooks: $(VENV)/installed  ## run the notebooks and store what they print
	$(BIN)/python examples/store_outputs.py

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(VENV)-* demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage \
		docs/_build docs/generated
