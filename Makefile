# papershell: the commands of daily work. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEVICE ?= any
PIP    := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-wheel docs-check lint format bench nightly nightly-data clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt pip setuptools

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[track]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[azure,track,torch,keras,jax,bench,test]'
	@touch $@ $(VENV)/.run

run: $(VENV)/.run  ## install, then run the main job on the embedded data set
	$(BIN)/papershell sweep --data digits

lint: $(VENV)/.test  ## ruff, mypy, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test  ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: lint  ## install what tests need, then lint, types, the examples of the pages and every test that is not slow
	$(BIN)/python -m pytest -m 'not slow and not wheel' -n auto

test-slow: $(VENV)/.test  ## the exhaustive cases
	$(BIN)/python -m pytest -m slow

test-wheel: $(VENV)/.test  ## build wheel and source distribution, install the wheel into a fresh environment, use it
	$(BIN)/python -m pytest -m wheel tests/test_wheel.py

docs-check: $(VENV)/.test  ## run every example of README.md and docs/ and compare its output
	$(BIN)/python -m pytest tests/test_docs.py

bench: $(VENV)/.test  ## benchmarks in short rounds, on the data below PAPERSHELL_DATA (two minutes)
	$(BIN)/papershell bench run --smoke

nightly: $(VENV)/.test  ## all benchmarks into benchmarks/history, page, check; DEVICE=cpu, cuda or any
	$(if $(filter cuda,$(DEVICE)),$(PIP) install -c constraints.txt -e '.[cuda]')
	$(BIN)/papershell bench run --device $(DEVICE) --history benchmarks/history
	$(BIN)/papershell bench report
	$(BIN)/papershell bench check

nightly-data: $(VENV)/.test  ## download what the benchmarks measure on
	$(BIN)/papershell data fetch mnist
	$(BIN)/papershell data fetch cifar10

clean:  ## remove everything that these targets made
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache outputs
