"""Claims on muP: what each says of invented trials of its sweep."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.claims import mup as claims
from memsweep.analysis.claims.claim import MissingTrialsError
from memsweep.spec.config import FIELDS
from memsweep.spec.sweep_files import load_sweep
from tests.claims import sides

SWEEP = load_sweep("mup")
WIDEST = max(trial.model.width for trial in SWEEP.trials)


@cache
def fields():
    """Columns of the sweep's trials."""
    return [
        {**{FIELDS[name].column: value for name, value in config.flat().items()}, "trial_id": config.trial_id}
        for config in SWEEP.trials
    ]


def stored(slopes=(-0.7, 0.0), gain=0.2, best=2.0**-6):
    """Losses that are parabolas in log rate, with their vertex at best * (width / 32)^slope, standard and muP."""
    rows = []
    for config, columns in zip(SWEEP.trials, fields(), strict=True):
        generator = np.random.default_rng([config.seed, config.model.width])
        doublings = np.log2(config.model.width / 32)
        slope = slopes[config.model.parametrization == "mup"]
        vertex = np.log2(best) + slope * doublings + 0.1 * generator.normal()
        log_loss = 0.3 * (np.log2(config.optimizer.learning_rate) - vertex) ** 2 - gain * doublings
        counts = {"train_count": 1000, "train_loss_sum_nats": 1000 * np.exp(log_loss + 0.01 * generator.normal())}
        rows.append({**columns, **counts, "status": "finished"})
    return pd.DataFrame(rows).assign(sweep="mup")


TABLES = {
    1: sides(stored, lambda: stored((-0.7, -0.7))),
    2: sides(stored, lambda: stored((0.0, 0.0))),
    3: sides(stored, lambda: stored((0.0, -0.7))),
    4: sides(stored, lambda: stored(gain=-0.2)),
}


def test_the_best_rate_is_the_vertex_of_the_parabola():
    slopes = claims.stays(stored((-0.7, 0.1)))[0].values - claims.STAYS
    assert np.median(slopes) == pytest.approx(0.1, abs=0.05)
    assert claims.moves(stored((-0.7, 0.1)))[0].values.mean() == pytest.approx(0.7, abs=0.05)


def test_a_diverged_trial_is_the_worst_and_a_missing_one_leaves_its_seed_out():
    rows = stored()
    fast = rows["optimizer_learning_rate"] == rows["optimizer_learning_rate"].max()
    diverged = rows.assign(
        status=rows["status"].mask(fast, "diverged"), train_loss_sum_nats=rows["train_loss_sum_nats"].mask(fast)
    )
    assert np.allclose(claims.moves(diverged)[0].values, claims.moves(rows)[0].values)
    short = rows.drop(rows.index[(rows["seed"] == 0) & fast])
    assert np.isnan(claims.moves(short)[0].values).sum() == 1


@pytest.mark.parametrize(
    ("diverged", "difference"), [(("mup",), -np.inf), (("standard",), np.inf), (("mup", "standard"), 0.0)]
)
def test_a_network_that_diverges_at_the_transferred_rate_counts_against_its_parametrization(diverged, difference):
    rows = stored()
    widest = (rows["model_width"] == WIDEST) & (rows["seed"] == 0)
    for kind in diverged:
        at = claims.transferred(rows).query(f"model_parametrization == '{kind}' and seed == 0")["rate"].iloc[0]
        of_kind = widest & (rows["model_parametrization"] == kind) & (rows["optimizer_learning_rate"] == at)
        rows.loc[of_kind, "status"] = "diverged"
    assert claims.transfers(rows)[0].values[0] == difference


@pytest.mark.parametrize("number", TABLES)
def test_what_a_claim_lacks_is_named(number):
    rows = stored()
    with pytest.raises(MissingTrialsError):
        claims.PAPER.claims[number - 1].measure(rows[rows["model_width"] == WIDEST].iloc[:0])
