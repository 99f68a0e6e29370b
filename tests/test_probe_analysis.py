"""Figures of probes: what is summed up, and that each figure shows the quantity it names."""

import numpy as np
import pandas as pd
import pytest

from analysis import class_sensitivity, critical_samples, figures, loss_sensitivity, series


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


QUESTIONS = [(critical_samples, critical), (loss_sensitivity, sensitive), (class_sensitivity, by_class)]


@pytest.mark.parametrize(("module", "rows"), QUESTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_figure_shows_something_and_says_where_nothing_is(module, rows):
    summary, nothing = module.summarize(rows()), module.summarize(rows().assign(status="failed"))
    for figure in module.FIGURES:
        assert len(figure.rows(summary)), figure.name
        with figures.canvas() as ax:
            figure.draw(summary, ax)
            assert ax.lines or ax.images
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
        assert "no finished trial tells the other" in ax.texts[0].get_text()
