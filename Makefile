# The ways in. Every target sets up what it needs in .venv (VENV=... for another place).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: setup demo serve test lint types imports pytest train-testbed results clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[transformers,demo,dev]"
	touch $@

demo: setup           ## start the service, ask about held-out images and photographs, print the table, stop
	$(BIN)/vlm-gate demo

serve: setup          ## serve the embedded model on 127.0.0.1:8080 until interrupted
	$(BIN)/vlm-gate serve

test: lint types imports pytest   ## everything that CI runs

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

pytest: setup
	$(BIN)/pytest --cov --cov-report=term --cov-fail-under=85

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage
