# What people type. Everything runs from the environment in .venv, which `install` makes from Python alone.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
export VIRTUAL_ENV := $(CURDIR)/.venv
WORKERS ?= 2

.PHONY: help install demo test storm portions check format lint types definitions dbt generate lock clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

install: .venv/installed ## Environment in .venv from the lock file

.venv/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(0 if ok else "Python 3.11 to 3.13 is needed, this is %d.%d; name one with: make install PYTHON=python3.12" % sys.version_info[:2])'
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@[ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

demo: install ## Services, schema, data, marts and the Dagster UI
	$(BIN)/penguin demo

test: install ## The whole test suite
	$(BIN)/penguin manifest
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

storm: install ## The long proofs of ingestion: storms, mutants, kills (ARGS="--help" lists options)
	PYTHONPATH=tests $(BIN)/python -m storm $(or $(ARGS),--seconds 45 --writers 24 --seeds 1 2 3 --mutants all --kills 20)

portions: install ## The long proof of the marts: 20 late portions equal one full rebuild (ARGS="--help" lists options)
	PYTHONPATH=tests $(BIN)/python -m portions $(ARGS)

check: format lint types definitions dbt test ## All that must be green before a commit

format: install
	$(BIN)/ruff format --check penguin_pipelines tests

lint: install
	$(BIN)/ruff check penguin_pipelines tests
	$(BIN)/sqlfluff lint --disable-progress-bar --processes $(WORKERS) penguin_pipelines/migrations
	$(BIN)/penguin render --check

types: install
	$(BIN)/pyright

definitions: install
	$(BIN)/penguin manifest
	home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT; echo 'telemetry: {enabled: false}' > "$$home/dagster.yaml"; \
	DAGSTER_HOME="$$home" PYTHONWARNINGS=ignore::FutureWarning $(BIN)/dagster definitions validate -m penguin_pipelines.definitions --log-level warning

dbt: install
	$(BIN)/penguin manifest

generate: install ## Derived files: .env.example, dbt sources, schema snapshots (needs `penguin up` and migrated tiers)
	$(BIN)/penguin render
	$(BIN)/penguin migrate snapshot

lock: install ## Resolve the lock file again
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --quiet -o requirements.lock

clean: ## Remove the environment; data under PENGUIN_HOME stay
	rm -rf .venv build *.egg-info
