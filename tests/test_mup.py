"""What the module on learning rates by width says of hand-made trials."""

import numpy as np
import pytest

from memsweep.analysis.core import frames
from memsweep.analysis.questions import mup
from tests.test_analysis import drawn, only, trials

POWERS = range(-8, -2)


def losses(seed, best, width=32, kind="mup", **fields):
    """Trials of all rates whose log losses are a parabola with its vertex at log2 rate = best."""
    rows = [
        {
            **{"seed": seed, "model_width": width, "model_parametrization": kind, "train_count": 10},
            **{"optimizer_learning_rate": 2.0**power, "train_loss_sum_nats": 10 * np.exp((power - best) ** 2 - 1)},
            **fields,
        }
        for power in POWERS
    ]
    return rows


def test_the_best_rate_is_a_geometric_mean_over_seeds_of_vertices():
    rows = trials(*losses(0, -5.25), *losses(1, -4.75))
    assert mup.best_rates(rows)["log_rate"].tolist() == pytest.approx([-5.25, -4.75])
    summary = mup.summarize(rows)
    best = only(summary, quantity=mup.BEST)
    assert best["estimate"] == pytest.approx(2.0**-5) and (best["seeds"], best["at_end"]) == (2, 0)
    at = only(summary, quantity=mup.LOSS, optimizer_learning_rate=2.0**-5)
    assert at["estimate"] == pytest.approx(np.exp(0.0625 - 1))


def test_a_best_rate_at_an_end_is_counted_and_not_interpolated():
    best = only(mup.summarize(trials(*losses(0, -9.0), *losses(1, -8.0))), quantity=mup.BEST)
    assert best["estimate"] == pytest.approx(2.0**-8) and best["at_end"] == 2


def test_a_seed_without_all_rates_has_no_best_rate():
    rows = trials(*losses(0, -5.0), *losses(1, -5.0, status=frames.MISSING))
    best = only(mup.summarize(rows), quantity=mup.BEST)
    assert (best["seeds"], best["missing"]) == (1, 1)


def test_the_narrowest_networks_rate_is_used_at_every_width():
    moved = mup.transferred(trials(*losses(0, -4.0), *losses(0, -6.0, width=64)))
    wide = moved[moved["model_width"] == 64].iloc[0]
    assert wide["rate"] == 2.0**-4 and np.log(wide["loss"] / wide["least"]) == pytest.approx(4)


def test_the_figures_are_drawn():
    several = [losses(seed, -4 - (kind == "standard") * width / 32, width, kind) for seed in range(3)
               for width in (32, 64) for kind in ("standard", "mup")]  # fmt: skip
    summary = mup.summarize(trials(*(row for rows in several for row in rows)))
    for figure in mup.FIGURES:
        assert drawn(figure.draw, summary)["data"] and len(figure.rows(summary))
        drawn(figure.draw, summary.iloc[:0])
        drawn(figure.draw, mup.summarize(trials(*losses(0, -5.0))))
    assert drawn(mup.draw, mup.summarize(trials(*losses(0, -5.0, status=frames.MISSING)))) is not None
