"""Averages start from the trials that a sweep wants: ended ones hold their last value, absent ones are counted."""

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.core import frames
from memsweep.analysis.questions import (
    capacity,
    class_sensitivity,
    convergence,
    critical_samples,
    learning_curves,
    learning_order,
    loss_sensitivity,
    noise_capacity,
    permutation,
    sequence_ablation,
    sgd_near_memorizer,
)
from memsweep.spec.config import TrialConfig
from tests.test_analysis import curve, drawn, labelled, only, steps, trials
from tests.test_report import page_of, plots, store_of
from tests.test_sequence_analysis import asked
from tests.test_sequence_tables import beside, followed

pytestmark = pytest.mark.usefixtures("svg_alone")

EARLY = {"stop_fit": 1.0, "optimizer_epochs": 5, "data_examples": 100, "optimizer_batch_size": 100}


def absent(rows, seed, *values, status=frames.MISSING):
    """The rows and, of each of their settings, a trial of this seed without any of these values."""
    first = rows.drop_duplicates([name for name in frames.COLUMNS if name in rows and not name.startswith("seed")])
    ids = first["trial_id"].astype(str) + " absent"
    blank = {name: np.nan for name in values}
    return pd.concat([rows, first.assign(trial_id=ids, seed=seed, status=status, **blank)], ignore_index=True)


# Curves over time.


def test_seeds_that_have_fitted_keep_their_last_value_in_learning_curves():
    summary = learning_curves.summarize(
        steps(
            curve(0.4, 0, [0.2, 0.9], [0.5, 1.0], **EARLY),  # the best seed is fitted first, and ends
            curve(0.4, 1, [0.2, 0.3, 0.4, 0.5, 0.6], [0.5] * 5, **EARLY),
        )
    )
    curves = summary[summary["quantity"] == learning_curves.VALIDATION]
    assert curves["estimate"].tolist() == pytest.approx([0.2, 0.6, 0.65, 0.7, 0.75])
    assert curves["ended"].tolist() == [0, 0, 1, 1, 1] and curves["seeds"].tolist() == [2] * 5


def test_a_pruned_seed_is_missing_after_its_end():
    summary = learning_curves.summarize(
        steps(curve(0.4, 0, [0.2, 0.9], [0.5] * 2, status="pruned"), curve(0.4, 1, [0.2, 0.3, 0.4], [0.5] * 3))
    )
    curves = summary[summary["quantity"] == learning_curves.VALIDATION]
    assert curves["estimate"].tolist() == pytest.approx([0.2, 0.6, 0.4]) and curves["missing"].tolist() == [0, 0, 1]


def test_a_curve_ends_with_the_last_trial_of_its_noise():
    summary = learning_curves.summarize(
        steps(curve(0.0, 0, [0.5, 0.6], [0.5] * 2, **EARLY), curve(0.4, 0, [0.5] * 4, [0.5] * 4, **EARLY))
    )
    curves = summary[summary["quantity"] == learning_curves.VALIDATION]
    assert curves[curves["data_noise_fraction"] == 0]["epoch"].tolist() == [1, 2]


def test_a_trial_that_is_not_stored_is_missing_in_learning_curves():
    lost = [{**curve(0.4, 1, [0.5], [0.5])[0], "status": frames.MISSING, "step": np.nan, "epoch": np.nan}]
    summary = learning_curves.summarize(steps(curve(0.4, 0, [0.5, 0.7], [0.2, 0.95]), lost))
    for row in summary.to_dict("records"):
        assert (row["seeds"], row["missing"]) == (1, 1), row["quantity"]
    assert "some seeds missing" in {trace["name"] for trace in drawn(learning_curves.draw, summary)["data"]}


def test_a_caption_counts_the_trials_that_are_wanted(tmp_path):
    configs = [TrialConfig.of({"data.noise_kind": "labels", "data.noise_fraction": 0.5, "seed": s}) for s in range(3)]
    store = store_of(tmp_path, "mine", [(configs[0], {}), (configs[1], {}), (configs[2], None)])
    measured = {"attempt_id": "a", "validation_count": 10, "train_count": 10, "train_correct_count": 5}
    store.write(
        "steps",
        [
            {"trial_id": one.trial_id, "step": 10 * e, "epoch": float(e), "validation_correct_count": 4 + e, **measured}
            for one in configs[:2]
            for e in (1, 2)
        ],
    )
    page = page_of(tmp_path)
    caption = page.partition('<figure id="mine-learning_curves-validation"')[2].partition("</figcaption>")[0]
    assert "2 of 3 trials." in caption
    names = {trace["name"] for trace in plots(page)["mine-learning_curves-validation"]["data"]}
    assert "some seeds missing" in names


def test_a_sequence_trial_that_was_fitted_keeps_its_last_value():
    rows = [*followed(0, [20, 90], stop_fit=1.0), *followed(1, [10, 30, 50], stop_fit=1.0)]
    found = convergence.summarize(beside(*rows)).set_index("step")
    assert found["estimate"].tolist() == pytest.approx([0.15, 0.6, 0.7])
    assert found["missing"].tolist() == [0, 0, 0] and found["ended"].tolist() == [0, 0, 1]


# Tables of probes.


def probed(**columns):
    (row,) = trials({}).to_dict("records")
    return {**row, **columns, "trial_id": f"{columns['seed']}"}


LOSSES = pd.DataFrame([probed(seed=s, step=t, gini_l1=0.2, mean_l1=1.0) for s in (0, 1) for t in (10.0, 20.0)])
CLASSES = pd.DataFrame([
    probed(seed=s, output_class=float(i), input_class=float(j), gradient_l1=1.0)
    for s in (0, 1) for i in (0, 1) for j in (0, 1)
])  # fmt: skip
CRITICAL = pd.DataFrame([
    probed(
        seed=s, step=t, part=part, radius_multiple=10.0, critical_count=1, example_count=2, data_noise_kind="labels"
    )
    for s in (0, 1) for t in (0.0, 10.0) for part in ("train", "validation")
])  # fmt: skip
PERMUTED = pd.DataFrame([
    probed(
        seed=s, step=t, features="hidden", validation=v, rho=np.nan if v == "held_out" else 0.95, observed_auc=0.9,
        null_median=0.6, floor_auc=0.5,
    )
    for s in (0, 1) for t in (0.0, 10.0) for v in ("copies", "held_out")
])  # fmt: skip


@pytest.mark.parametrize("status", [frames.MISSING, "failed"])
@pytest.mark.parametrize(
    "module, rows, values",
    [
        (loss_sensitivity, LOSSES, ("step", "gini_l1", "mean_l1")),
        (class_sensitivity, CLASSES, ("output_class", "input_class", "gradient_l1")),
        (critical_samples, CRITICAL, ("step", "part", "radius_multiple", "critical_count", "example_count")),
        (permutation, PERMUTED, ("step", "features", "validation", "rho", "observed_auc", "null_median", "floor_auc")),
    ],
)
def test_a_trial_without_its_probe_is_missing_at_every_place(module, rows, values, status):
    whole, partial = module.summarize(rows), module.summarize(absent(rows, 2, *values, status=status))
    assert len(partial) == len(whole) and (whole.loc[whole["estimate"].notna(), "missing"] == 0).all()
    is_asked = partial["estimate"].notna()
    assert is_asked.any() and set(partial.loc[is_asked, "missing"]) == {1} and set(partial["seeds"][is_asked]) == {2}


def test_a_setting_that_is_not_stored_is_a_hole_at_every_place():
    lost = absent(LOSSES, 0, "step", "gini_l1", "mean_l1").assign(data_noise_kind="gaussian_inputs")
    found = loss_sensitivity.summarize(pd.concat([LOSSES, lost[lost["status"] == frames.MISSING]]))
    holes = found[found["inputs"] == "random inputs"]
    assert sorted(holes["step"].unique()) == [10, 20] and holes["estimate"].isna().all()


# The best of several ways.


@pytest.mark.parametrize("status, missing", [("diverged", 0), ("failed", 1), (frames.MISSING, 1), ("interrupted", 1)])
def test_a_best_over_rates_waits_for_all_of_them(status, missing):
    """A rate that diverged is known to be worse; of one that has not ended nothing is known."""
    rows = [asked(seed, right=50, optimizer_learning_rate=0.1) for seed in (0, 1)]
    rows += [asked(0, right=40, optimizer_learning_rate=0.2), asked(1, status=status, optimizer_learning_rate=0.2)]
    (found,) = sequence_ablation.summarize(trials(*rows)).to_dict("records")
    assert (found["estimate"], found["seeds"], found["missing"]) == (0.5, 2 - missing, missing)


def test_a_rate_that_has_not_ended_leaves_its_perturbation_without_result():
    place = {"seed": 0, "model_perturbation": 0.1, "epoch": 1.0, "train_count": 2, "distance": 0.1}
    rows = [
        {**place, "trial_id": f"{rate}", "optimizer_learning_rate": rate, "train_loss_sum_nats": loss, "status": status}
        for rate, loss, status in ((0.0, 2.0, "finished"), (0.1, 1.0, "finished"), (0.2, None, frames.MISSING))
    ]
    found = sgd_near_memorizer.summarize(pd.DataFrame(rows).astype({"train_loss_sum_nats": float}))
    assert found[found["when"] == "before training"]["missing"].tolist() == [0]
    assert found.empty or set(found["when"]) == {"before training"}


def test_a_capacity_of_which_a_larger_set_has_not_ended_is_marked():
    sets = [labelled(size, seed, size < 100) for seed in (0, 1) for size in (32, 64, 128)]
    fitted = only(capacity.summarize(trials(*sets)), quantity=capacity.FITTED)
    assert (fitted["estimate"], fitted["seeds"], fitted["missing"]) == (64, 2, 0)
    sets[-1]["status"] = "failed"
    summary = capacity.summarize(trials(*sets))
    assert only(summary, quantity=capacity.FITTED)["missing"] == 1
    by_size = summary[summary["quantity"] == capacity.BITS_BY_SIZE]
    assert by_size["missing"].tolist() == [0, 0, 1]


# Questions that read other rows than a trial's.


def test_time_to_fit_counts_trials_that_are_not_stored(tmp_path):
    configs = [TrialConfig.of({"data.noise_kind": "labels", "data.noise_fraction": 0.5, "seed": s}) for s in range(3)]
    store = store_of(tmp_path, "s", [(one, {"fitted_step": 10} if one.seed else None) for one in configs])
    store.write(
        "steps",
        [
            {
                "trial_id": one.trial_id,
                "attempt_id": "a",
                "step": 10,
                "validation_correct_count": 5,
                "validation_count": 9,
            }
            for one in configs[1:]
        ],
    )
    found = noise_capacity.summarize(frames.read(noise_capacity.QUERY, "s", tmp_path))
    assert found["seeds"].tolist() == [2, 2] and found["missing"].tolist() == [1, 1]


def test_the_order_of_learning_counts_runs_that_are_not_stored(tmp_path):
    configs = [TrialConfig.of({"seed": s, "seeds.inputs": 0}) for s in range(3)]
    store = store_of(tmp_path, "s", [(one, {} if one.seed else None) for one in configs])
    answers = [{"given_label": 0, "example": e, "first_learned_step": 1 if e else None} for e in range(2)]
    store.write("examples", [{"trial_id": o.trial_id, "attempt_id": "a", **e} for o in configs[1:] for e in answers])
    rows = frames.read(learning_order.QUERY, "s", tmp_path)
    assert rows["trial_id"].nunique() == 3 and rows[frames.usable(rows)]["trial_id"].nunique() == 2
    found = learning_order.summarize(rows)
    assert found["estimate"].tolist() == [0, 1] and found["missing"].tolist() == [1, 1]
