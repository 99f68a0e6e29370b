"""Chaibub Neto's claims on made-up trials of which each is true, and on such of which it is not."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.claims import claim as claim_module
from memsweep.analysis.claims import controls
from memsweep.analysis.claims import verdicts as verdicts_module
from memsweep.analysis.claims.chaibub2018 import PAPER, two_sided
from memsweep.analysis.claims.verdicts import Verdict, judge_paper
from memsweep.analysis.core import figures, frames
from memsweep.analysis.questions import permutation
from tests.claims import judged, seeds_of, sides

SEEDS, END = seeds_of("permutation"), 300
SETTINGS = [
    *(("mlp", 64, 0.0, "labels" if f else "none", f) for f in (0.0, 0.25, 0.5, 0.75, 1.0)),
    ("mlp", 64, 0.0, "gaussian_inputs", 1.0),
    ("mlp", 64, 0.5, "labels", 0.5),
    *(("mlp", width, 0.0, "labels", 1.0) for width in (16, 128)),
    *(("cnn", 16, 0.0, kind, float(kind != "none")) for kind in ("none", "labels", "gaussian_inputs")),
]


def measured(setting, step, features, rho, draw):
    """What a network of this setting that follows all claims gives."""
    _, width, dropout, _, fraction = setting
    near = {0.0: -0.3, 0.5: 0.05, 0.8: 0.2, 0.95: 0.3}.get(rho, 0.0)
    trained = step / END
    amount = near + (features == "hidden") * trained * (rho or 0) * (0.1 + 0.1 * fraction + width / 1000 - dropout / 5)
    amount += 0.001 * draw.normal()
    shares = rho is not None and rho > 0
    return {
        "observed_auc": (
            (0.7 + 0.2 * trained if shares else 0.5)
            if rho is not None
            else 0.95 - 0.1 * fraction * trained + 0.002 * draw.normal()
        ),
        "null_median": 0.6 + amount / 2 if rho is not None else 0.5,
        "floor_auc": 0.6 if rho is not None else 0.5,
        "independent_median": 0.5,
        "variance": 0.0004,
        "median_variance": 3e-6,
        "p_learn": 0.005 if shares and trained else 0.5,
        "p_beyond_class": 0.001 if shares else 0.9,
        "p_chance": draw.integers(1, 201) / 200,
    }


def trials(change=lambda frame: frame):
    draw = np.random.default_rng(0)
    rows = [
        {
            **dict(zip(permutation.SETTING, setting, strict=True)),
            **{"seed": seed, "trial_id": f"{setting}{seed}", "status": "finished", "step_count": END, "step": step},
            **{"features": features, "validation": "held_out" if rho is None else "copies", "rho": rho},
            **measured(setting, step, features, rho, draw),
        }
        for setting in SETTINGS
        for seed in range(SEEDS)
        for step in (0, 3, END)
        for features in ("hidden", *(["inputs"] if step == 0 else []))
        for rho in (0.0, 0.5, 0.8, 0.95, None)
    ]
    return change(pd.DataFrame(rows).astype({"rho": float}))


def setting(column, value, **where):
    """A change of the rows: this value in this column of the rows with these values."""

    def change(frame):
        chosen = frames.having(frame, where).index
        return frame.assign(**{column: frame[column].where(~frame.index.isin(chosen), value)})

    return change


def mirrored(column):
    """A change of the rows: what was more is less."""
    return lambda frame: frame.assign(**{column: 1.2 - frame[column]})


def test_all_ten_claims_hold_where_they_are_true():
    rows = trials()
    found = judge_paper(PAPER, lambda query, sweep: rows).set_index("claim")["verdict"]
    assert list(found.index) == list(range(1, 11)) and (found == Verdict.REPRODUCED).all(), found


CONTRARY = [
    (1, setting("p_learn", 0.4, model_family="cnn", data_noise_kind="none")),
    (1, setting("observed_auc", 0.95, step=0, features="hidden")),
    (2, setting("null_median", 0.9, step=0, features="hidden", data_noise_kind="none")),
    (2, setting("p_beyond_class", 0.4, model_family="mlp", data_noise_kind="none")),
    (3, lambda frame: setting("null_median", 0.75, step=3)(setting("null_median", 0.75, step=END)(frame))),
    (4, setting("p_learn", 0.4, model_family="mlp", data_noise_kind="gaussian_inputs")),
    (5, mirrored("null_median")),
    (6, mirrored("observed_auc")),
    (7, setting("null_median", 0.9, regularization_dropout=0.5)),
    (8, setting("null_median", 0.99, model_width=16, step=END)),
    (9, setting("p_learn", 0.4, model_family="cnn", data_noise_kind="gaussian_inputs")),
    (10, setting("independent_median", 0.6)),
    (10, setting("p_chance", 0.01)),
    (10, setting("null_median", 0.55, features="inputs")),
]


@pytest.mark.parametrize(("number", "change"), CONTRARY)
def test_each_claim_can_be_contradicted(number, change):
    assert judged(PAPER, number, trials(change))["verdict"] == Verdict.CONTRADICTED


TABLES = {number: sides(trials, partial(trials, change)) for number, change in reversed(CONTRARY)}


def test_untrained_networks_pass_no_claim_about_training():
    """Their measurements at step 0 take the place of all others."""
    rows = trials()
    by_number = {claim.number: verdicts_module.p_untrained(claim, rows) for claim in PAPER.claims if claim.untrained}
    assert set(by_number) == set(range(1, 10)) and all(p > 0.05 for p in by_number.values()), by_number


def test_what_is_missing_is_told():
    rows = trials(lambda frame: frame[frame["model_family"] == "mlp"])
    found = judge_paper(PAPER, lambda query, sweep: rows).set_index("claim")
    assert found["verdict"][1] == found["verdict"][9] == Verdict.NOT_RUN and "cnn" in found["reason"][1]
    assert found["verdict"][2] == Verdict.REPRODUCED


def test_a_change_counts_whichever_way_and_a_small_one_against():
    for values in (np.full(12, 0.1), np.full(12, -0.1)):
        part = two_sided("a change", values)
        assert isinstance(part, claim_module.Tested) and part.p == pytest.approx(2 * 2**-12) and part.p_against == 1
    mixed = two_sided("a change", np.tile([0.001, -0.001], 6))
    assert mixed.p == 1 and mixed.p_against == pytest.approx(2**-12)


@pytest.mark.parametrize("claim", [claim for claim in PAPER.claims if claim.shuffled], ids=lambda claim: claim.number)
def test_shuffled_settings_reproduce_nothing(claim):
    rows = trials().assign(sweep="permutation")
    assert controls.reproduced_by_chance(claim, rows, np.random.default_rng(0), 20) <= 0.1


def test_figures_show_something():
    rows = trials().assign(parameter_count=1)
    more = rows.assign(status="failed")
    for figure in permutation.FIGURES:
        assert len(figure.rows(permutation.summarize(rows))), figure.name
        with figures.canvas() as ax:
            figure.draw(permutation.summarize(rows), ax)
            assert ax.lines
        with figures.canvas() as ax:
            figure.draw(permutation.summarize(more), ax)
            assert "no finished trial" in ax.texts[0].get_text()
