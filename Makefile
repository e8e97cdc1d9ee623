# papershell: the commands of daily work. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEVICE ?= any
HISTORY := papershell/benchmarks/history
PASSED = nightly-passed-$(DEVICE)
PIP    := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test test-slow control-scripts test-hostile test-wheel docs-check figures lint format bench nightly nightly-data clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt pip setuptools

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[track]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[azure,files,notebook,onnx,track,torch,keras,jax,bench,test]'
	@touch $@ $(VENV)/.run

run: $(VENV)/.run  ## install, then run the main job on the embedded data set
	$(BIN)/papershell sweep --data digits

figures: run  ## run the main job and keep its figure for the README
	cp outputs/accuracy_by_rate.png docs/

lint: $(VENV)/.test  ## ruff, mypy, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test  ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: lint  ## lint, then every test that is not slow; with them the examples of the pages
	$(BIN)/python -m pytest -m 'not slow and not wheel and not hostile' -n auto

test-slow: $(VENV)/.test  ## the exhaustive cases
	$(BIN)/python -m pytest -m slow

control-scripts: $(VENV)/.test  ## control scripts as written for Azure, one for each part of the SDK, on the loopback workspace
	$(BIN)/python -m pytest -m 'slow or not slow' tests/orchestration/test_control_scripts.py

test-hostile: $(VENV)/.test  ## mutated requests, kills, memory; an hour (REQUESTS=2000 KILLS=10 FITS=100 RUNS=20 for less)
	FROM='$(FROM)' REQUESTS='$(REQUESTS)' KILLS='$(KILLS)' FITS='$(FITS)' RUNS='$(RUNS)' FIGURE='$(FIGURE)' \
		$(BIN)/python -m pytest -m hostile tests/hostile

test-wheel: $(VENV)/.test  ## build the distributions, install the wheel into a fresh environment, use it
	$(BIN)/python -m pytest -m wheel tests/test_wheel.py

docs-check: $(VENV)/.test  ## run every example of the pages and compare its output
	$(BIN)/python -m pytest -m 'not slow' -n auto tests/test_docs.py

bench: $(VENV)/.test  ## benchmarks in short rounds, on the data below PAPERSHELL_DATA (two minutes)
	$(BIN)/papershell bench run --smoke

nightly: $(VENV)/.test  ## all benchmarks, history, page, check against the last night that passed; DEVICE=cpu, cuda or any
	$(if $(filter cuda,$(DEVICE)),$(PIP) install -c constraints.txt -e '.[cuda]')
	$(BIN)/papershell bench run --device $(DEVICE) --history $(HISTORY)
	$(BIN)/papershell bench report --history $(HISTORY)
	if git rev-parse --quiet --verify $(PASSED) >/dev/null; then \
		$(BIN)/papershell bench check --against $(PASSED) --device $(DEVICE); fi
	git tag --force $(PASSED)

nightly-data: $(VENV)/.test  ## download the data sets of the benchmarks
	$(BIN)/papershell data fetch mnist
	$(BIN)/papershell data fetch cifar10

clean:  ## remove all that these targets made, but for the history
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks outputs
