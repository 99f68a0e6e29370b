# make demo: sets up .venv, launches a real sweep, draws its report.   make test: sets up .venv, runs all checks.
PYTHON ?= python3
BIN := .venv/bin
RESULTS ?= results

SWEEPS := $(filter-out smoke,$(basename $(notdir $(wildcard sweeps/*.py))))

.PHONY: demo test fuzz test-slow test-cluster test-failures node science bench data browser clean

demo: .venv/ready
	$(BIN)/memsweep launch generalization --results $(RESULTS)
	@echo
	$(BIN)/memsweep status --results $(RESULTS)
	@echo
	$(BIN)/memsweep report --results $(RESULTS)
	$(BIN)/memsweep track --results $(RESULTS)
	@echo
	@echo "The report, to open in a browser: $(abspath $(RESULTS))/report.html"
	@echo "MLflow:                           $(BIN)/memsweep ui --results $(RESULTS)"
	@echo "SQL:                              $(BIN)/memsweep query --results $(RESULTS) \"select ...\""

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# random commands, sweeps, parts and notes, for longer than make test tries them: a quarter of an hour
fuzz: .venv/ready
	FUZZ_EXAMPLES=$(or $(EXAMPLES),500) $(BIN)/python -m pytest --timeout 0 tests/test_fuzz.py

# what takes minutes: every program compiled; kills at random
test-slow: .venv/ready
	$(BIN)/python -m pytest -m 'slow and not cluster'

# what breaks while a sweep runs, broken for real; after make test-cluster
test-failures: .venv/ready
	$(BIN)/python -m pytest -m 'cluster and slow' tests/cluster

# what needs servers or several machines, played by this one: an object store, a Ray head that takes jobs, PostgreSQL
test-cluster: .venv/ready
	@ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || command -v initdb > /dev/null || \
	  { apt-get update && apt-get install -y --no-install-recommends postgresql; } > /dev/null 2>&1 < /dev/null || \
	  echo "no PostgreSQL: its tests are skipped"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,cluster,servers]'
	$(BIN)/python -m pytest -m 'cluster and not slow' tests/cluster

# a machine of a cluster: the pinned versions, without what only tests need
node:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cluster]'

# all default sweeps, then the verdicts on the claims; MLflow can be filled later: memsweep track
science: .venv/ready
	$(BIN)/memsweep launch $(SWEEPS) --results $(RESULTS) --tracking-uri none
	$(BIN)/memsweep claims --results $(RESULTS)
	$(BIN)/memsweep report --results $(RESULTS)

bench: .venv/ready
	$(BIN)/python -m tests.bench.work

# the datasets that Debian ships; others go where MEMSWEEP_DATA says, as the Bible's text does: export MEMSWEEP_DATA=data
data:
	apt-get update && apt-get install -y dataset-fashion-mnist bible-kjv
	mkdir -p data/characters
	bible -f gen1:1-rev22:21 < /dev/null | cut -d' ' -f2- > data/characters/king_james_bible.txt

# what the tests of pages need; they skip themselves without it
browser:
	apt-get update && apt-get install -y --no-install-recommends chromium chromium-driver

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "memsweep needs Python 3.11 or newer; found: $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
