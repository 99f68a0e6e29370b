"""Claims of Mallinar et al. (2022) on curves of validation error made up by noise, examples and time."""

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.core import figures
from memsweep.analysis.questions import tempered
from memsweep.analysis.questions.tempered import FITTED, STOPPED
from tests.claims import seeds_of, sides

SEEDS = seeds_of("tempered")
NOISES, SIZES, COUNT, CLEAN = (0.0, 0.1, 0.2, 0.3, 0.4), (250, 500, 1000), 10_000, 0.15


def curves(fitted, stopped=lambda noise, examples: 0.02 * noise):
    """Measurements at four steps: of no training, at the best time, beyond it, and where all labels are fitted.

    fitted, stopped: (noise, examples) -> excess error.
    """
    rng, rows = np.random.default_rng(0), []
    for examples in SIZES:
        for noise in NOISES:
            for seed in range(SEEDS):
                best, last = stopped(noise, examples) - 0.01, fitted(noise, examples)
                errors = CLEAN + np.array([0.6, best, max(best, last) + 0.02, last]) + 0.001 * rng.normal(size=4)
                rows += [
                    {
                        **{"trial_id": f"{examples}-{noise}-{seed}", "seed": seed, "status": "finished", "sweep": "s"},
                        **{"setting_id": "", "data_examples": examples, "data_noise_fraction": noise},
                        **{"step": 20 * i, "class_count": 10, "train_count": examples, "validation_count": COUNT},
                        **{"train_correct_count": examples if i == 4 else 0},
                        **{"validation_correct_count": COUNT * (1 - error)},
                    }
                    for i, error in enumerate(errors, 1)
                ]
    return pd.DataFrame(rows)


def linear(slope):
    return lambda noise, examples: slope * noise


def by_size(slopes):
    return lambda noise, examples: dict(zip(SIZES, slopes, strict=True))[examples] * noise


TABLES = {
    1: sides(lambda: curves(linear(0.4)), lambda: curves(linear(-0.2))),
    2: sides(lambda: curves(linear(0.4)), lambda: curves(linear(0.4), linear(0.35))),
    3: sides(
        lambda: curves(linear(0.4), by_size((0.3, 0.2, 0.1))), lambda: curves(by_size((0.8, 0.4, 0.2)), linear(0.1))
    ),
    4: sides(lambda: curves(linear(0.4)), lambda: curves(lambda noise, examples: 3 * noise**3)),
}


def test_a_trial_counts_where_it_is_fitted_and_where_the_other_seeds_are_best():
    errors = tempered.errors(curves(linear(0.4)))
    means = errors[errors["noise"] == 0.4].groupby("kind")["error"].mean()
    assert means[FITTED] == pytest.approx(CLEAN + 0.16, abs=0.001)
    assert means[STOPPED] == pytest.approx(CLEAN - 0.002, abs=0.001)
    never = curves(linear(0.4)).assign(train_correct_count=0)
    assert tempered.errors(never).groupby("kind")["error"].count().to_dict() == {FITTED: 0, STOPPED: len(errors) / 2}
    assert tempered.slopes(errors).groupby("kind")["slope"].mean()[FITTED] == pytest.approx(0.4, abs=0.01)


def test_figures_are_drawn():
    summary = tempered.summarize(curves(linear(0.4)))
    for figure in tempered.FIGURES:
        with figures.canvas() as ax:
            ax = figure.draw(summary, ax)
            assert not figures.why_empty(ax) and {FITTED, STOPPED} <= {c.get_label() for c in ax.containers}
            assert len(figure.rows(summary))
