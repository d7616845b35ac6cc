# `make help` lists the targets. Everything is installed into .venv, from constraints.txt.
.DEFAULT_GOAL := help
.PHONY: help setup run test check bench chaos quality dispatch-simulation fmt migrate constraints clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := shared services/segment-api services/ingest-worker services/segment-trainer clients/python deploy/local
ARGS ?=
JOBS ?= 2

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F '\t' '{ printf "  make %-20s %s\n", $$1, $$2 }'

setup: $(READY) ## install everything into .venv

$(READY): constraints.txt $(PACKAGES:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d; choose another with: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python has no venv module; install it (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Making the virtual environment ..."; $(PYTHON) -m venv $(VENV); }
	@echo "Installing pinned dependencies (the first time this takes a minute or two) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(PACKAGES:%=--editable %)
	@touch $@

run: $(READY) ## start PostgreSQL, Kafka, worker and API, and replay two years of trade; ARGS="--help" for more
	@exec $(BIN)/local-stack run $(ARGS)

test: $(READY) ## run every test, against real PostgreSQL and real Kafka; ARGS="-k tiers" for some, JOBS=0 in one process
	@exec $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: $(READY) ## ruff, mypy, import contracts, migrations equal to the tables
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy shared/src services/segment-api/src services/ingest-worker/src services/segment-trainer/src clients/python/src clients/python/tests deploy/local/src bench chaos tests
	$(BIN)/lint-imports
	$(BIN)/python migrations/check.py

bench: $(READY) ## measure the figures of docs/benchmarks.md on this machine (ten minutes); ARGS="--help" for more
	@exec $(BIN)/python -m bench $(ARGS)

chaos: $(READY) ## faults against real processes under load, then everything counted again (three minutes); ARGS="--seeds 1-10"
	@exec $(BIN)/python -m chaos $(ARGS)

quality: $(READY) ## compare forecasts on the bundled data, and write docs/quality.md (two minutes)
	@exec $(BIN)/segment-trainer quality --events data/online_retail_ii.ndjson.gz --docs docs

dispatch-simulation: $(READY) ## a day of scarce capacity dispatched three ways: the figures and the plot of docs/dispatch.md
	@exec $(BIN)/python -m bench.dispatch_day --docs docs

fmt: $(READY) ## format the code and mend what ruff can
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

migrate: $(READY) ## bring the database at DATABASE_URL up to date
	$(BIN)/alembic -c migrations/alembic.ini upgrade head

constraints: $(READY) ## pin every dependency anew, with hashes
	$(PYTHON) -m venv $(VENV)-pins && $(VENV)-pins/bin/pip install --quiet uv
	$(VENV)-pins/bin/uv pip compile requirements.in --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --output-file constraints.txt
	rm -rf $(VENV)-pins

clean: ## remove the virtual environment and the local stack's data
	rm -rf $(VENV) .stack .stack-empty
