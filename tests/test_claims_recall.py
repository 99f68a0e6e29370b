"""Recall: guessing by place against drawn data, shares over rates and their figures, and what each claim says."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.claims import recall as claims
from memsweep.analysis.claims.claim import MissingTrialsError
from memsweep.analysis.core.arrangement import View
from memsweep.analysis.questions import recall as question
from memsweep.analysis.questions.recall import BEST, BLIND, BY_PLACE, NETWORK, PAIRS, RATE, RECALLED, WIDTH
from memsweep.data import tasks
from memsweep.spec.config import FIELDS
from memsweep.spec.sweep_files import load_sweep
from tests.cases import trial
from tests.claims import sides
from tests.test_analysis import drawn, only

SWEEP = load_sweep("recall")
RATES = sorted({trial.optimizer.learning_rate for trial in SWEEP.trials})
BEST_RATE = 0.003
WIDEST = max(trial.model.width for trial in SWEEP.trials)
CELL, DEEP_CELL, BLOCK, BLOCKS = claims.SHALLOW_CELL, claims.DEEP_CELL, claims.ONE_BLOCK, claims.TWO_BLOCKS
COUNT = 1000


@cache
def fields():
    """Columns of the sweep's trials."""
    return [
        {**{FIELDS[name].column: value for name, value in config.flat().items()}, "trial_id": config.trial_id}
        for config in SWEEP.trials
    ]


def stored(shares, lost=None):
    """Trials of the sweep.  shares: network -> share at its best rate, a number or (width, pairs) -> number.

    lost: network -> share lost at all other rates, 0.2 by default.
    """
    rows = []
    generator = np.random.default_rng(0)
    for columns in fields():
        family = columns["model_cell"] if columns["model_cell"] != "none" else columns["model_family"]
        network = question.name_of(family, columns["model_depth"])
        share = shares[network](columns[WIDTH], columns[PAIRS]) if callable(shares[network]) else shares[network]
        if columns[RATE] != BEST_RATE:
            share -= (lost or {}).get(network, 0.2)
        counts = {"validation_target_count": COUNT, "validation_target_correct_count": COUNT * share}
        noise = 2 * generator.normal()
        counts["validation_target_correct_count"] = float(np.clip(COUNT * share + noise, 0, COUNT))
        rows.append({**columns, **counts, "status": "finished"})
    return pd.DataFrame(rows).assign(sweep="recall")


def as_published():
    """Two blocks recall all, one block guesses, cells gain by width and need their rate."""
    return stored(
        {BLOCKS: 0.98, BLOCK: 0.5, CELL: lambda width, pairs: 0.9 if width == WIDEST else 0.65, DEEP_CELL: 0.7},
        {BLOCKS: 0.05, CELL: 0.3},
    )


def upside_down():
    """One block and one layer do better than two, cells gain by depth, and attention needs its rate."""
    return stored(
        {BLOCKS: 0.9, BLOCK: 0.97, CELL: lambda width, pairs: 0.93, DEEP_CELL: 0.98},
        {BLOCKS: 0.3, CELL: 0.05},
    )


TABLES = {number: sides(as_published, upside_down) for number in (1, 2, 3, 4, 5)}
"""Number of a finding -> function of a side, as `tests.test_verdicts` reads it."""


@pytest.mark.parametrize(("pairs", "steps"), [(2, 8), (3, 12), (2, 20)])
def test_guessing_by_place_is_that_of_drawn_data(pairs, steps):
    """The most frequent pair of each place, in sequences of the task."""
    sizes = {"data__items": pairs, "data__sequence_length": steps, "data__vocabulary": steps + 2}
    data = tasks.load(trial("transformer, recall", **sizes, data__examples=20_000))
    queries = np.asarray(data.inputs)[:, 2 * pairs :]
    keys = np.asarray(data.inputs)[:, : 2 * pairs : 2]
    is_queried = (queries[:, :, None] == keys[:, None]) & (queries[:, :, None] > 0)
    guessed = is_queried.mean(axis=0).max(axis=1).sum() / pairs
    assert question.by_place(pairs, steps) == pytest.approx(guessed, abs=0.01)


def test_the_best_rate_is_of_a_seed_and_a_missing_rate_leaves_it_out():
    rows = as_published()
    at = (rows["seed"] == 0) & (rows["model_cell"] == "gru") & (rows["model_depth"] == 1)
    at &= (rows[WIDTH] == WIDEST) & (rows[PAIRS] == 2)
    best = question.best(rows)
    place = (best[NETWORK] == CELL) & (best["seed"] == 0) & (best[WIDTH] == WIDEST) & (best[PAIRS] == 2)
    assert best[place][BEST].item() == pytest.approx(0.9, abs=0.02)

    def ended(rate, status):
        return rows.assign(status=rows["status"].mask(at & (rows[RATE] == rate), status))

    short = question.best(ended(0.01, "missing"))
    assert short[BEST].isna().sum() == 1 and short[place][BEST].isna().all()
    assert question.best(ended(0.01, "diverged")).equals(best)  # no result is better than it
    assert question.best(ended(RATES[-1], "missing")).equals(best)  # few settings have this rate


def test_rates_are_counted_at_which_a_network_recalls():
    rows = as_published()
    narrow = claims.windows(rows, (WIDEST, 2))
    assert narrow[CELL].eq(1 / len(RATES)).all() and narrow[BLOCKS].eq(1).all()
    at = (rows["seed"] == 0) & (rows[RATE] == BEST_RATE) & (rows[WIDTH] == WIDEST)
    diverged = claims.windows(rows.assign(status=rows["status"].mask(at, "diverged")), (WIDEST, 2))
    assert diverged[CELL].tolist() == [0.0, *narrow[CELL][1:]]
    missing = claims.windows(rows.assign(status=rows["status"].mask(at, "failed")), (WIDEST, 2))
    assert missing[CELL].isna().sum() == 1


def test_networks_that_solve_a_task_tie():
    solved = stored(dict.fromkeys((BLOCKS, BLOCK, CELL, DEEP_CELL), 1.0))
    assert set(claims.attention_recalls_more(solved)[0].values) == {0.0}


def test_a_wide_network_is_compared_with_a_deep_one():
    cells, attention = claims.width_or_depth(as_published())
    assert np.median(cells.values) == pytest.approx(0.2, abs=0.02)
    assert np.median(attention.values) == pytest.approx(0.48, abs=0.02)


@pytest.mark.parametrize("number", TABLES)
def test_what_a_claim_lacks_is_named(number):
    rows = as_published()
    with pytest.raises(MissingTrialsError, match=r"gru|transformer"):
        claims.PAPER.claims[number - 1].measure(rows[rows[PAIRS] == 1])


def test_figures_are_drawn_with_what_networks_reach_that_read_no_key():
    rows = question.select(as_published())
    summary = question.summarize(rows)
    at = {NETWORK: BLOCKS, WIDTH: WIDEST, PAIRS: 2}
    assert only(summary, quantity=BEST, **at)["estimate"] == pytest.approx(0.98, abs=0.01)
    assert only(summary, quantity=RECALLED, **at, **{RATE: RATES[0]})["estimate"] == pytest.approx(0.93, abs=0.01)
    for figure in question.FIGURES:
        names = {trace["name"] for trace in drawn(figure.draw, summary)["data"]}
        assert {BLOCKS, CELL, BY_PLACE, BLIND} <= names
        drawn(figure.draw, summary, view=View.of(x="model.width", curves="data.items"))
        drawn(figure.draw, question.summarize(rows.iloc[:0]))
        drawn(figure.draw, question.summarize(rows.iloc[:1].assign(status="missing")))


def test_every_trial_of_the_sweep_can_be_made():
    for config in {config.data: config for config in SWEEP.trials}.values():
        assert tasks.check(config) == []
