"""Figures of probes: what is summed up, and that each figure shows the quantity it names."""

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.core import figures, interactive, series
from memsweep.analysis.questions import (
    class_sensitivity,
    critical_samples,
    learning_order,
    loss_sensitivity,
    noise_capacity,
)


def rows_of(**columns):
    return pd.DataFrame({"status": "finished", "trial_id": "t", **columns})


def critical():
    """A tenth of 100 examples critical per tenth of noise; seed 1 has two more than seed 0."""
    return pd.concat(
        rows_of(
            trial_id=f"{kind}{fraction}{seed}",
            seed=[seed],
            data_noise_kind=kind,
            data_noise_fraction=fraction,
            step=step,
            part=part,
            radius_multiple=multiple,
            critical_count=round(fraction * 100) * (step > 0) + 2 * seed,
            example_count=100,
        )
        for kind, fraction in (("none", 0.0), ("labels", 0.4), ("gaussian_inputs", 0.4))
        for seed in range(2)
        for step in (0.0, 10.0)
        for part in ("train", "validation")
        for multiple in (1.0, 10.0)
    )


def sensitive():
    return pd.concat(
        rows_of(
            trial_id=f"{kind}{scheme}{seed}",
            seed=[seed],
            data_noise_kind=kind,
            data_label_scheme=scheme,
            step=step,
            gini_l1=0.2 + 0.1 * (kind == "none"),
            mean_l1=step / 10,
        )
        for kind in ("none", "gaussian_inputs")
        for scheme in ("task", "unique")
        for seed in range(3)
        for step in (10.0, 20.0)
    )


def by_class():
    return pd.concat(
        rows_of(
            trial_id=f"{kind}{seed}",
            seed=[seed],
            data_noise_kind=kind,
            output_class=i,
            input_class=j,
            gradient_l1=(3.0 if i == j else 1.0) * (1 + seed),
        )
        for kind in ("none", "gaussian_inputs")
        for seed in range(2)
        for i in range(2)
        for j in range(2)
    )


def runs():
    """Of 4 examples two are always right on real data; on noise inputs all are right in half of 100 runs."""
    counts = {"none": [0, 100, 0, 100], "gaussian_inputs": [50] * 4, "labels": [20, 80, 20, 80]}
    return pd.concat(
        rows_of(
            trial_id=kind, seed=0, data_noise_kind=kind, run_count=100, right_count=right, given_label=0, variance=25.0
        )
        for kind, right in counts.items()
    )


def fits():
    """Noise takes twice as long; what never fits has its 400 steps."""
    return pd.concat(
        rows_of(
            trial_id=f"{kind}{fraction}{width}{examples}{seed}",
            seed=[seed],
            data_noise_kind=kind,
            data_noise_fraction=fraction,
            model_width=width,
            data_examples=examples,
            optimizer_batch_size=10,
            step_count=400,
            fitted_step=np.nan if width == 8 and kind == "labels" else 100.0 * (1 + (kind != "none")),
            best_count=90,
            best_of=100,
        )
        for kind, fraction in (("none", 0.0), ("labels", 0.4), ("gaussian_inputs", 0.4))
        for width, examples in ((8, 100), (16, 100), (16, 50))
        for seed in range(2)
    )


QUESTIONS = [
    (critical_samples, critical),
    (loss_sensitivity, sensitive),
    (class_sensitivity, by_class),
    (learning_order, runs),
    (noise_capacity, fits),
]


@pytest.mark.parametrize(("module", "rows"), QUESTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_figure_shows_something_and_says_where_nothing_is(module, rows):
    summary, nothing = module.summarize(rows()), module.summarize(rows().assign(status="failed"))
    for figure in module.FIGURES:
        assert len(figure.rows(summary)), figure.name
        with figures.canvas() as ax:
            figure.draw(summary, ax)
            plot = interactive.describe(ax)
            assert plot["data"] and " to " in interactive.words(plot)
        with figures.canvas() as ax:
            figure.draw(nothing, ax)
            assert "no finished trial" in ax.texts[0].get_text()


def test_critical_samples_are_shares_over_seeds_and_clean_sets_belong_to_every_kind():
    summary = critical_samples.summarize(critical())
    at_end = summary[summary["is_end"] & (summary["part"] == "validation") & (summary["radius_multiple"] == 10)]
    found = {(kind, fraction): estimate for kind, fraction, estimate in at_end[["kind", "fraction", "estimate"]].values}
    kinds = ("labels", "gaussian inputs")
    assert found == pytest.approx({**{(k, 0.0): 0.01 for k in kinds}, **{(k, 0.4): 0.41 for k in kinds}})
    assert (at_end["seeds"] == 2).all()


def test_examples_are_in_the_order_of_their_difficulty():
    curves = {data: list(own["estimate"]) for data, own in learning_order.summarize(runs()).groupby("data")}
    assert curves["real data"] == [0, 0, 1, 1] and curves["noise inputs"] == [0.5] * 4
    assert curves[learning_order.REFERENCE] == pytest.approx([0.44, 0.48, 0.52, 0.56], abs=0.011)


def test_times_to_fit_are_in_epochs_and_end_with_the_budget():
    summary = noise_capacity.summarize(fits())
    times = summary[
        (summary["quantity"] == noise_capacity.EPOCHS) & summary["is_width"] & (summary["kind"] == "labels")
    ]
    found = {(f, w): e for f, w, e in times[["fraction", "model_width", "estimate"]].to_numpy()}
    assert found == pytest.approx({(0.0, 8): 10, (0.0, 16): 10, (0.4, 8): 40, (0.4, 16): 20})
    assert set(summary.loc[summary["is_examples"], "model_width"]) == {16}


def test_ginis_are_told_by_inputs_and_labels():
    summary = loss_sensitivity.summarize(sensitive())
    ginis = summary[summary["quantity"] == loss_sensitivity.GINI]
    assert set(ginis[ginis["inputs"] == "real inputs"]["estimate"].round(6)) == {0.3}
    assert set(ginis[ginis["inputs"] == "random inputs"]["estimate"].round(6)) == {0.2}


def test_maps_of_classes_are_shares_of_each_seed():
    summary = class_sensitivity.summarize(by_class())
    shares = {(i, j): e for i, j, e in summary[["output_class", "input_class", "estimate"]].to_numpy()}
    assert shares == pytest.approx({(0, 0): 3 / 8, (0, 1): 1 / 8, (1, 0): 1 / 8, (1, 1): 3 / 8})


def test_a_series_without_results_says_so():
    rows = rows_of(seed=[0, 1], x=[1, 1], c="a").assign(status=["finished", "failed"])
    summary = series.summarize(rows, {"q": pd.Series([0.5, 0.7]), "empty": pd.Series([np.nan, np.nan])}, ["x", "c"])
    assert summary[["quantity", "estimate", "seeds", "missing"]].to_numpy().tolist() == [["q", 0.5, 1, 1]]
    with figures.canvas() as ax:
        series.draw(summary, ax, ("other", "x", "c"), {}, {})
        assert "no finished trial has a value for other" in ax.texts[0].get_text()
