# Everything sets itself up in .venv; nothing needs to be activated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
DEMO := build/demo

.PHONY: demo test check lint types format torch wheel clean

demo: $(VENV)/ready
	@mkdir -p $(DEMO)
	$(BIN)/convcli edge sample_images/coffee.jpg --range abs -o $(DEMO)/coffee-edge.png -f
	@echo "The result is $(DEMO)/coffee-edge.png"

test: $(VENV)/ready-test
	$(BIN)/python -m pytest -n 2

check: lint types

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/ready-dev
	$(BIN)/mypy

format: $(VENV)/ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

torch: $(VENV)/ready-test  # the peer of some tests, which are skipped without it
	$(PIP) install --group torch

wheel: $(VENV)/ready-dev
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# pip learned dependency groups in 25.1; compiled modules keep the first start quick
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install 'pip>=25.1'
	$(PIP) install --editable .
	$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/ready-test: $(VENV)/ready
	$(PIP) install --group test
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready-test
	$(PIP) install --group dev
	@touch $@
