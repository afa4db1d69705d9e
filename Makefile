# Two commands do everything: `make demo` (Python >= 3.11) and `make test` (also a JDK >= 21 and Maven).
PYTHON ?= python3
BIN := .venv/bin
SOURCES := ashiato collector ingest query retention tests bench

.PHONY: help install demo check test bench services-up services-down clean

help: ## List the commands.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: .venv/.installed ## Make .venv with everything that the other commands need.

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Ashiato needs Python 3.11 or newer: make $@ PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev]'
	@touch $@

demo: install ## Replay an incident through all four processes and print the dead pod's timeline.
	$(BIN)/ashiato demo

check: install ## Formatter, linter, types, and the borders between the rooms.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install ## All tests, those against a real Kafka, OpenSearch and S3 server included.
	$(BIN)/pytest

bench: install ## Every benchmark, in short.
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script --quick || exit 1; done

services-up: install ## Start Kafka, OpenSearch and SeaweedFS on loopback and free ports.
	$(BIN)/python -m tests.parts up

services-down: ## Stop them.
	$(BIN)/python -m tests.parts down

clean: ## Remove what the commands above made.
	rm -rf .venv .parts .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache ashiato-demo bench/out
