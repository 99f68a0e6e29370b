# make help tells what there is.
PYTHON ?= python3
BIN := .venv/bin
RESULTS ?= results

# Python keeps compiled code, whatever the environment says: each process of pytest and each command would compile anew
export PYTHONDONTWRITEBYTECODE :=

PARALLEL := --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder \
  --ignore tests/cluster --ignore tests/slurm
# one part of each room, without launches
QUICK := answers config docstrings hints layout needs packing prose replay schedules schema seeds statistics status \
  streams sweep tally trainer
# phenomena beside the claims of the papers on memorization, in make science-more
MORE := double_descent exposure grokking memorization mup recall string_capacity tempered
SWEEPS := $(filter-out smoke $(MORE),$(basename $(notdir $(wildcard sweeps/[a-z]*.py))))

.PHONY: help demo lint test test-launches test-quick docs docs-serve fuzz coverage test-slow test-cluster test-slurm test-failures node science science-more bench gpu bench-scale data browser clean

help: ## what there is
	@grep -hE '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 15

demo: .venv/ready ## a real sweep and its report; sets up .venv
	$(BIN)/memsweep launch memorization_map --results $(RESULTS)
	@echo
	$(BIN)/memsweep status --results $(RESULTS)
	@echo
	$(BIN)/memsweep report --results $(RESULTS)
	$(BIN)/memsweep track --results $(RESULTS)
	@echo
	@echo "The report, to open in a browser: $(abspath $(RESULTS))/report.html"
	@echo "MLflow:                           $(BIN)/memsweep ui --results $(RESULTS)"
	@echo "SQL:                              $(BIN)/memsweep query --results $(RESULTS) \"select ...\""

lint: .venv/ready ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/typed/memsweep
	ln -sfn $(CURDIR)/memsweep/__init__.py $(CURDIR)/analysis $(CURDIR)/sweeps build/typed/memsweep
	$(BIN)/mypy

test: lint ## lint, types and tests; sets up .venv
	$(BIN)/python -m pytest -m 'not (launches or alone or slow or cluster or slurm)' $(PARALLEL)

test-launches: .venv/ready ## pages word for word, older results, the wheel, kills; after make test
	$(BIN)/python -m pytest -m 'launches and not (alone or slow or cluster or slurm)' $(PARALLEL)
	$(BIN)/python -m pytest -m 'alone and not (slow or cluster or slurm)'

test-quick: .venv/ready ## a part of the tests, under a minute, for the loop while editing
	$(BIN)/python -m pytest -m 'not (launches or alone or slow or cluster or slurm)' --numprocesses logical --maxprocesses 8 \
	  $(QUICK:%=tests/test_%.py)

# NO_MKDOCS_2_WARNING: without Material's announcement of its successor
docs: .venv/ready ## the pages of commands, tables and fields from the program, then the site of all pages, in site/
	$(BIN)/python -m docs.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The site: $(CURDIR)/site/index.html"

docs-serve: .venv/ready ## the site at 127.0.0.1:8000, built again when a page changes
	$(BIN)/python -m docs.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --strict

coverage: .venv/ready ## which lines no default test runs, in commands and workers too; takes twice as long as make test
	rm -f .coverage .coverage.*
	$(BIN)/python -m coverage run -m pytest --timeout 900
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

fuzz: .venv/ready ## random commands, sweeps, parts and notes, for five minutes; EXAMPLES=1500: for fifteen
	FUZZ_EXAMPLES=$(or $(EXAMPLES),500) $(BIN)/python -m pytest --timeout 0 tests/test_fuzz.py

test-slow: .venv/ready ## what takes minutes: every program compiled; kills at random
	$(BIN)/python -m pytest -m 'slow and not cluster'

test-failures: .venv/ready ## what breaks while a sweep runs, broken for real; after make test-cluster
	$(BIN)/python -m pytest -m 'cluster and slow' tests/cluster

test-cluster: .venv/ready ## what needs servers or machines, played by this one: object stores, a Ray head, PostgreSQL
	@ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || command -v initdb > /dev/null || \
	  { apt-get update && apt-get install -y --no-install-recommends postgresql; } > /dev/null 2>&1 < /dev/null || \
	  echo "no PostgreSQL: its tests are skipped"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,cluster,servers]'
	$(BIN)/python -m pytest -m 'cluster and not slow' tests/cluster

test-slurm: .venv/ready ## jobs of a real SLURM, whose nodes are namespaces of this machine; needs root
	@command -v slurmctld munged ip > /dev/null || \
	  { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge iproute2; } > /dev/null 2>&1 < /dev/null || \
	  echo "no SLURM: its tests are skipped"
	$(BIN)/python -m pytest -m slurm tests/slurm

node: ## a machine of a cluster: the pinned versions, without what only tests need
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cluster]'

science: .venv/ready ## the sweeps of the first papers, then the verdicts on the claims; MLflow later: memsweep track
	$(BIN)/memsweep launch $(SWEEPS) --results $(RESULTS) --tracking-uri none
	$(BIN)/memsweep claims --results $(RESULTS)
	$(BIN)/memsweep report --results $(RESULTS)

science-more: .venv/ready ## further phenomena: their sweeps, then all verdicts and the report
	$(BIN)/memsweep launch $(MORE) --results $(RESULTS) --tracking-uri none
	$(BIN)/memsweep claims --results $(RESULTS)
	$(BIN)/memsweep report --results $(RESULTS)

bench: .venv/ready ## what the targets of speed are about, half an hour; SCIENCE=results: of make science, too; writes the tables of docs/benchmarks.md
	$(BIN)/python -m tests.bench $(if $(SCIENCE),--science '$(SCIENCE)')

gpu: .venv/ready ## exactness, a kill, memory and the targets of speed on a GPU, in 25 minutes; writes docs/benchmarks.md
	$(BIN)/python -m tests.bench.gpu

bench-scale: .venv/ready ## 100,000 and 1,000,000 trials with an engine that sleeps: time and memory of the driver
	$(BIN)/python -m tests.bench.planning
	$(BIN)/python -m tests.bench.scale --engines sleep --members 512 --sizes 100000 1000000

# others go where MEMSWEEP_DATA says, as the Bible's text does: export MEMSWEEP_DATA=data
data: ## the datasets that Debian ships
	apt-get update && apt-get install -y dataset-fashion-mnist bible-kjv
	mkdir -p data/characters
	bible -f gen1:1-rev22:21 < /dev/null | cut -d' ' -f2- > data/characters/king_james_bible.txt

browser: ## Chromium, for the tests of pages, which skip themselves without it
	apt-get update && apt-get install -y --no-install-recommends chromium chromium-driver

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "memsweep needs Python 3.11 or newer; found: $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean: ## no .venv, no caches
	rm -rf .venv build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
