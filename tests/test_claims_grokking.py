"""Claims on grokking: what each says of invented trials of its sweep."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.claims import grokking as claims
from memsweep.analysis.claims.claim import MissingTrialsError
from memsweep.analysis.claims.verdicts import Verdict
from memsweep.analysis.questions import grokking
from memsweep.spec.config import FIELDS
from memsweep.spec.sweep_files import load_sweep
from tests.claims import judged, sides

SWEEP = load_sweep("grokking")


@cache
def fields():
    """Columns of the sweep's trials."""
    return [
        {**{FIELDS[name].column: value for name, value in config.flat().items()}, "trial_id": config.trial_id}
        for config in SWEEP.trials
    ]


def lawful(decay, width, examples):
    """Steps to generalize, sooner with decay, width and examples; without decay never."""
    return 1000 / max(decay, 0.3) * (128 / width) ** 0.5 * (480 / examples) ** 2 if decay else np.inf


def stored(steps=lawful, fit=60, most=1.0, left=lambda decay: 1.0 - 0.3 * max(decay - 0.9, 0)):
    """The sweep's trials with these steps to generalize, of decay, width and examples, and fates of wrong labels."""
    rows = []
    for config, columns in zip(SWEEP.trials, fields(), strict=True):
        decay, wrong = config.regularization.weight_decay, config.data.noise_fraction * config.data.examples
        generator = np.random.default_rng([config.seed, config.data.examples, config.model.width, int(10 * decay)])
        general = steps(decay, config.model.width, config.data.examples) * np.exp(0.05 * generator.normal())
        held, budget = config.data.validation_examples, config.budget
        rows.append(
            {
                **columns,
                **{"status": "finished", "step_count": budget, "validation_count": held},
                **{"fit_step": fit, "general_step": general if general <= budget else np.nan},
                **{"label_changed_count": wrong, "memorized_count": wrong * left(decay)},
                **{"peak_memorized_count": wrong * most, "peak_validation_correct_count": 0.1 * held},
                "validation_correct_count": held * (1.0 if general <= budget else 0.1),
            }
        )
    return pd.DataFrame(rows).assign(sweep="grokking")


def always(value):
    return lambda decay, width, examples: value


TABLES = {
    1: sides(stored, lambda: stored(always(300))),
    2: sides(stored, lambda: stored(lambda decay, width, examples: lawful(decay, width, 160_000 / examples))),
    3: sides(stored, lambda: stored(always(300))),
    4: sides(stored, lambda: stored(lambda decay, width, examples: 300 * (1 + decay))),
    5: sides(stored, lambda: stored(lambda decay, width, examples: lawful(decay, 16_384 / width, examples))),
    6: sides(lambda: stored(left=lambda decay: 1.0), lambda: stored(left=lambda decay: 0.5)),
    7: sides(stored, lambda: stored(left=lambda decay: 1.0)),
    8: sides(stored, lambda: stored(left=lambda decay: 0.2 + 0.2 * decay)),
}


@pytest.mark.parametrize("number", TABLES)
def test_what_a_claim_lacks_is_named(number):
    rows = stored()
    measure = claims.PAPER.claims[number - 1].measure
    none = rows[(rows["regularization_weight_decay"] == 0.3) & (rows["data_noise_fraction"] == 0) & (number > 5)]
    with pytest.raises(MissingTrialsError, match=r"no trial|fewer than three"):
        measure(none)


def test_the_factor_is_that_of_the_smallest_share_and_a_network_that_never_generalizes_has_its_budget():
    shares, factors = claims.long_after(stored(lambda decay, width, examples: 600 if examples > 400 else np.inf))
    assert shares.values == pytest.approx(2 / 3) and factors.values == pytest.approx(np.log10(3000 / 60))


def test_decays_are_compared_where_all_were_trained():
    """At widths that are trained with the paper's decay alone no network generalizes, which counts for neither."""
    (margin,) = claims.decay_helps(stored(lambda decay, width, examples: 600 if decay and width == 128 else np.inf))
    assert margin.values == pytest.approx(3 / 5)


def test_a_network_that_never_generalizes_counts_with_its_budget():
    (trend,) = claims.fewer_take_longer(stored(always(np.inf)))
    assert -trend.values == pytest.approx(np.log10(SWEEP.trials[0].budget))
    assert len(trend.values) == len(SWEEP.seeds) and trend.values.shape[1] == 3
    assert grokking.GENERALIZED in grokking.with_measures(stored()).columns


@pytest.mark.parametrize("number", TABLES)
def test_untrained_networks_bear_no_claim_out(number):
    """They neither fit nor generalize, and predict a thirtieth of the labels, wrong ones too."""
    rows = stored(always(np.inf), fit=np.nan, most=1 / 31, left=lambda decay: 1 / 31)
    assert judged(claims.PAPER, number, rows)["verdict"] != Verdict.REPRODUCED
