# Two commands are all most people need: make run, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
N ?= 10000

.PHONY: help run test test-core simulate chaos check lint types bench clean

help:  ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

run: $(VENV)/installed  ## Start the hub with its own database and one local worker, and print the address
	@$(BIN)/python -m store.system --install
	@exec $(BIN)/python -m hub run --local-worker --first-admin

test: $(VENV)/installed-dev  ## Run every test, on the real database (browser tests where there is a Chromium)
	@$(BIN)/python -m store.system --install
	$(BIN)/python -m pytest $(ARGS)
	@if command -v node >/dev/null; then node --test tests/static/*.test.js; \
	else echo "skipped: tests/static, because there is no node"; fi

test-core: $(VENV)/installed-dev  ## Run the core's tests alone (seconds)
	$(BIN)/python -m pytest tests/hub

simulate: $(VENV)/installed-dev  ## Run N simulated bad days (make simulate N=10000)
	$(BIN)/python -m tests.simulation --schedules $(N)

chaos: $(VENV)/installed-dev  ## Kill, stop and cut off real processes for half an hour
	@$(BIN)/python -m store.system --install
	$(BIN)/python -m pytest -m chaos -s $(ARGS)

lint: $(VENV)/installed-dev  ## Look for mistakes in style
	$(BIN)/python -m flake8

types: $(VENV)/installed-dev  ## Check all types
	$(BIN)/python -m mypy

check: lint types test  ## What must be green before a change is taken

bench: $(VENV)/installed-dev  ## Measure, quickly; each line is one JSON result
	$(BIN)/python -m bench.dispatch --quick
	$(BIN)/python -m bench.fanout --quick
	$(BIN)/python -m bench.upload --quick
	$(BIN)/python -m bench.download --quick

clean:  ## Remove what can be made again (no data)
	rm -rf $(VENV) .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
