"""The report of each sweep that comes with us: its questions are answered, whatever is there of it yet."""

from pathlib import Path

import pytest

from memsweep.analysis.report import report
from memsweep.spec.sweep_files import load_sweep
from tests.test_report import plots, store_of

pytestmark = pytest.mark.usefixtures("svg_alone")

SWEEPS = sorted(path.stem for path in (Path(__file__).parents[1] / "sweeps").glob("[a-z]*.py"))
STORED = 40
"""Trials of a sweep, spread over it."""


@pytest.mark.parametrize("name", SWEEPS)
def test_every_question_is_answered_of_a_sweep_that_is_half_run(tmp_path, name):
    """Every other of some trials is stored; their probes' tables are not there."""
    sweep = load_sweep(name)
    step = max(1, len(sweep.trials) // STORED)
    outcome = {"step_count": 100, "fitted_step": 50, "parameter_count": 500, "input_count": 64}
    trials = [(trial, outcome if i % 2 else None) for i, trial in enumerate(sweep.trials[::step])]
    store_of(tmp_path, name, trials)
    problems = []
    page = report.write(tmp_path, problems.append).read_text()
    assert problems == []
    drawn = plots(page)
    assert (drawn or "Left out: " in page) and all(plot["data"] for plot in drawn.values())
