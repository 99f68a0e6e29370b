# make demo: sets up .venv, launches a real sweep, says where to look next.   make test: sets up .venv, runs all checks.
PYTHON ?= python3
BIN := .venv/bin
RESULTS ?= results

.PHONY: demo test bench data clean

demo: .venv/ready
	$(BIN)/memsweep launch generalization --results $(RESULTS)
	$(BIN)/memsweep status --results $(RESULTS)
	@echo
	@echo "Memorized and generalized by noise fraction, over all weight decays and seeds:"
	$(BIN)/memsweep query --results $(RESULTS) "select data_noise_fraction as noise, \
	  round(avg(train_correct_count * 1.0 / train_count), 3) as train, \
	  round(avg(validation_correct_count * 1.0 / validation_count), 3) as validation, \
	  round(sum(memorized_count) * 1.0 / nullif(sum(label_changed_count), 0), 3) as memorized, \
	  round(sum(recovered_count) * 1.0 / nullif(sum(label_changed_count), 0), 3) as recovered \
	  from trials group by 1 order by 1"
	@echo
	@echo "Next: $(BIN)/memsweep query \"select ...\" --results $(RESULTS); every verb: $(BIN)/memsweep --help"

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench: .venv/ready
	$(BIN)/python -m tests.bench.work_a

# the datasets that Debian ships; others go where MEMSWEEP_DATA says
data:
	apt-get update && apt-get install -y dataset-fashion-mnist

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "memsweep needs Python 3.11 or newer; found: $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
