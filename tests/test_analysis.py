"""What the analysis modules say of hand-made trials, whose answers are known; drawings are only run."""

import json

import numpy as np
import pandas as pd
import pytest

import memsweep
from memsweep.analysis.core import figures, frames, interactive
from memsweep.analysis.questions import capacity, generalization, learning_curves, memorization_map, regularization
from memsweep.results.storage.store import Store
from memsweep.spec.config import FIELDS, LATER_FIELDS
from memsweep.spec.schema import SCHEMAS, cell
from tests.cases import trial
from tests.test_report import row as stored_row
from tests.test_report import store_of

DEFAULTS = {spec.column: cell(spec.default) for spec in FIELDS.values()}


def trials(*rows):
    """Rows of `trials`: finished, with the default fields, unless they say otherwise."""
    names = [*SCHEMAS["trials"].names]
    full = [
        {**DEFAULTS, "trial_id": f"t{i}", "status": "finished", "class_count": 10, **row} for i, row in enumerate(rows)
    ]
    return pd.DataFrame(full, columns=names)


def noisy(noise, seed, correct=50, memorized=10, recovered=20, **fields):
    """A trial of 100 test examples and, with noise, 40 labels changed."""
    changed = 40 if noise else 0
    counts = {"test_correct_count": correct, "test_count": 100, "train_correct_count": 80, "train_count": 100}
    fate = {"memorized_count": memorized, "recovered_count": recovered, "label_changed_count": changed}
    return {"data_noise_fraction": noise, "seed": seed, **counts, **fate, **fields}


def only(summary, **values):
    """The one row with these values, as a mapping."""
    for name, value in values.items():
        summary = summary[summary[name] == value]
    (row,) = summary.to_dict("records")
    return row


def drawn(draw, summary, **options):
    """The axis's description, after drawing and describing it without a warning."""
    with figures.canvas() as ax:
        return interactive.describe(draw(summary, ax, **options) or ax)


# Generalization.


def test_shares_are_means_over_seeds():
    summary = generalization.summarize(
        trials(*(noisy(0.4, seed, correct) for seed, correct in enumerate((40, 50, 90))))
    )
    accuracy = only(summary, quantity="test accuracy")
    assert accuracy["estimate"] == pytest.approx(0.6)
    assert 0.4 <= accuracy["low"] < 0.6 < accuracy["high"] <= 0.9
    assert only(summary, quantity="memorized share")["estimate"] == pytest.approx(10 / 40)
    assert only(summary, quantity="recovered share")["estimate"] == pytest.approx(20 / 40)


def test_without_changed_labels_there_is_nothing_to_memorize_and_nothing_missing():
    summary = generalization.summarize(trials(noisy(0.0, 0), noisy(0.0, 1), noisy(0.4, 0), noisy(0.4, 1)))
    shares = summary[summary["quantity"] == "memorized share"]
    assert shares["data_noise_fraction"].tolist() == [0.4]
    assert shares["missing"].tolist() == [0]


@pytest.mark.parametrize("status", ["failed", "diverged", "interrupted", frames.MISSING])
def test_a_trial_without_result_is_counted_and_not_averaged(status):
    lost = noisy(0.4, 2, correct=100, status=status)
    summary = generalization.summarize(trials(noisy(0.4, 0, 40), noisy(0.4, 1, 60), lost, noisy(0.8, 0, status=status)))
    accuracy = only(summary, quantity="test accuracy", data_noise_fraction=0.4)
    assert accuracy["estimate"] == pytest.approx(0.5)
    assert (accuracy["seeds"], accuracy["missing"]) == (2, 1)
    hole = only(summary, quantity="test accuracy", data_noise_fraction=0.8)
    assert np.isnan(hole["estimate"]) and (hole["seeds"], hole["missing"]) == (0, 1)


def test_what_else_varies_is_never_averaged_over():
    rows = [
        noisy(0.4, seed, correct, model_width=width, regularization_weight_decay=decay)
        for seed in range(2)
        for width, decay, correct in ((8, 0.0, 20), (8, 0.1, 40), (32, 0.0, 60), (32, 0.1, 80))
    ]
    summary = generalization.summarize(trials(*rows, noisy(0.8, 0, model_width=8)))
    found = summary[(summary["quantity"] == "test accuracy") & (summary["data_noise_fraction"] == 0.4)]
    assert found["estimate"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    names = {trace["name"] for trace in drawn(generalization.draw, summary)["data"]}
    assert {"width 8, weight decay 0.1", "width 32, weight decay 0"} <= names


def test_a_sweep_of_something_else_is_drawn_along_its_own_axis():
    rows = [noisy(0.0, seed, 10 * width, model_width=width) for width in (2, 4, 8) for seed in range(2)]
    summary = generalization.summarize(trials(*rows))
    assert set(summary["x"]) == {"model_width"}
    figure = drawn(generalization.draw, summary)
    assert figure["layout"]["xaxis"]["title"]["text"] == "width"
    assert figure["data"][0]["y"] == pytest.approx([0.2, 0.4, 0.8])


@pytest.mark.parametrize(
    "widths, ticks",
    [
        ((1, 2, 4, 8, 16, 32, 64, 128, 256), ["1", "2", "4", "8", "16", "32", "64", "128", "256"]),
        ((10, 30, 100, 300, 1000), ["10", "30", "100", "300", "1000"]),
        ((16, 32, 48, 64), None),
        ((16, 32), None),
    ],
)
def test_the_scale_follows_the_values(widths, ticks):
    rows = [noisy(0.0, seed, model_width=width) for width in widths for seed in range(2)]
    axis = drawn(generalization.draw, generalization.summarize(trials(*rows)))["layout"]["xaxis"]
    assert axis.get("type", "linear") == ("log" if ticks else "linear")
    assert axis.get("ticktext") == ticks


def test_nothing_has_a_place_on_a_logarithmic_axis():
    """On the page too: evenly spaced, named and told by their values."""
    decays = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
    rows = [noisy(0.0, seed, regularization_weight_decay=decay) for decay in decays for seed in range(2)]
    plot = drawn(generalization.draw, generalization.summarize(trials(*rows)))
    axis, curve = plot["layout"]["xaxis"], plot["data"][0]
    assert axis["ticktext"] == ["0", "1e-06", "1e-05", "0.0001", "0.001", "0.01"]
    assert axis["tickvals"] == curve["x"] and curve["customdata"] == list(decays)
    steps = np.diff(curve["x"])
    assert steps == pytest.approx(steps[-1], rel=0.2)
    assert "0.5 at 0 to 0.5 at 0.01" in interactive.words(plot)


def test_many_values_are_not_all_written():
    noise = [0.0, *np.logspace(-6, -2, 9)]
    rows = [noisy(0.0, seed, regularization_weight_decay=decay) for decay in noise for seed in range(2)]
    axis = drawn(generalization.draw, generalization.summarize(trials(*rows)))["layout"]["xaxis"]
    assert axis["ticktext"] == ["0", "1e-06", "1e-05", "0.0001", "0.001", "0.01"]


def test_values_that_differ_read_differently_in_the_legend():
    rows = [
        noisy(noise, seed, data_examples=size)
        for size in (1000, 1002, 1024)
        for noise in (0.2, 0.4, 0.6)
        for seed in range(2)
    ]
    plot = drawn(generalization.draw, generalization.summarize(trials(*rows)))
    names = [trace["name"] for trace in plot["data"] if trace["name"] != figures.ALIKE]
    assert names[:3] == ["1000", "1002", "1024"]
    assert frames.label({"data_examples": 1000, "model_width": 8}) == "examples 1000, width 8"


def test_values_that_agree_on_twelve_digits_are_one_point():
    summary = generalization.summarize(trials(noisy(0.1 + 0.2, 0, 40), noisy(0.3, 1, 60)))
    accuracy = only(summary, quantity="test accuracy")
    assert (accuracy["data_noise_fraction"], accuracy["estimate"], accuracy["seeds"]) == (0.3, 0.5, 2)
    assert len(frames.having(pd.DataFrame({"x": [0.1 + 0.2, 0.3, 0.31]}), {"x": 0.3})) == 2
    assert len(frames.having(pd.DataFrame({"x": [0.3]}), {"x": 0.1 + 0.2})) == 1


@pytest.mark.parametrize("module", [generalization, capacity, regularization, memorization_map])
@pytest.mark.parametrize(
    "rows",
    [
        [],
        [noisy(0.4, 0, status=frames.MISSING)],
        [noisy(0.4, 0)],
        [noisy(0.0, 0), noisy(1.0, 0, status="failed"), noisy(1.0, 1)],
    ],
    ids=["nothing", "nothing stored", "one trial", "a hole"],
)
def test_every_figure_can_be_drawn_of_little(module, rows):
    summary = module.summarize(trials(*rows))
    assert {"estimate", "low", "high", "seeds", "missing"} <= set(summary)
    for figure in module.FIGURES:
        drawn(figure.draw, summary)
        figure.rows(summary)


# Learning curves.


def curve(noise, seed, validation, train, **fields):
    return [
        {
            **DEFAULTS, "trial_id": f"{noise}-{seed}-{fields}", "status": "finished", "data_noise_fraction": noise,
            "seed": seed, "step": epoch, "epoch": float(epoch), "validation_correct_count": 100 * v,
            "validation_count": 100, "train_correct_count": 100 * t, "train_count": 100, "memorized_count": 0,
            "label_changed_count": 10 if noise else 0, **fields,
        }
        for epoch, (v, t) in enumerate(zip(validation, train, strict=True), 1)
    ]  # fmt: skip


def steps(*curves):
    return pd.DataFrame([row for rows in curves for row in rows])


def test_turning_points_are_those_of_each_seed():
    summary = learning_curves.summarize(
        steps(
            curve(0.4, 0, [0.5, 0.8, 0.7, 0.6], [0.2, 0.5, 0.9, 1.0]),
            curve(0.4, 1, [0.5, 0.6, 0.9, 0.6], [0.2, 0.5, 0.6, 1.0]),
        )
    )
    assert only(summary, quantity=learning_curves.PEAK)["estimate"] == pytest.approx(2.5)
    assert only(summary, quantity=learning_curves.FIT)["estimate"] == pytest.approx(3.5)
    assert only(summary, quantity=learning_curves.LOST)["estimate"] == pytest.approx(0.25)
    validation = summary[summary["quantity"] == learning_curves.VALIDATION]
    assert validation["estimate"].tolist() == pytest.approx([0.5, 0.7, 0.8, 0.6])


def test_a_seed_that_never_fits_is_censored_and_not_marked():
    summary = learning_curves.summarize(
        steps(curve(0.4, 0, [0.5, 0.4], [0.2, 0.95]), curve(0.4, 1, [0.5, 0.4], [0.2, 0.3]))
    )
    assert only(summary, quantity=learning_curves.FIT)["at_least"] == 1
    names = [trace["name"] for trace in drawn(learning_curves.draw, summary)["data"]]
    assert "best validation" in names and "90% of labels fitted" not in names


def test_a_diverged_trial_has_no_turning_points_and_counts_as_missing():
    lost = curve(0.4, 1, [0.5, 0.1], [0.2, 0.1], status="diverged")
    summary = learning_curves.summarize(steps(curve(0.4, 0, [0.5, 0.7], [0.2, 0.95]), lost))
    assert only(summary, quantity=learning_curves.PEAK)["seeds"] == 1
    last = only(summary, quantity=learning_curves.VALIDATION, epoch=2.0)
    assert (last["estimate"], last["seeds"], last["missing"]) == (pytest.approx(0.7), 1, 1)


def test_other_fields_are_curves_of_their_own():
    rows = steps(
        curve(0.4, 0, [0.5], [0.2], regularization_weight_decay=0.1),
        curve(0.4, 0, [0.7], [0.2], regularization_weight_decay=0.0),
    )
    summary = learning_curves.summarize(rows)
    weak = only(summary, quantity=learning_curves.VALIDATION, regularization_weight_decay=0.0)
    assert weak["estimate"] == pytest.approx(0.7)
    assert {"0", "0.1"} <= {trace["name"] for trace in drawn(learning_curves.draw, summary)["data"]}


def test_no_measurement_is_drawn_as_such():
    summary = learning_curves.summarize(steps())
    for figure in learning_curves.FIGURES:
        assert drawn(figure.draw, summary)["layout"]["annotations"]
        figure.rows(summary)


# Capacity.


@pytest.mark.parametrize(
    "p, share", [(1, 1), (0.99, 0.919), (0.95, 0.714), (0.9, 0.531), (0.75, 0.189), (0.5, 0), (0.3, 0)]
)
def test_bits_of_two_classes_are_those_of_the_literature(p, share):
    assert capacity.bits(np.array([1000.0]), np.array([p]), np.array([2.0]))[0] == pytest.approx(1000 * share, abs=1)


def test_bits_of_many_classes():
    """All of log2 K where all are right, nothing at chance, and between them the mutual information of the channel."""
    n, k = np.array([10.0] * 3), np.array([8.0] * 3)
    p = np.array([1.0, 1 / 8, 0.5])
    half = 3 - 1 - 0.5 * np.log2(7)  # log2 K - H(p) - (1 - p) log2(K - 1)
    assert capacity.bits(n, p, k) == pytest.approx([30, 0, 10 * half])


def labelled(size, seed, fitted, width=8, **fields):
    counts = {"train_correct_count": size if fitted else round(0.9 * size), "train_count": size, "class_count": 2}
    at = {"fitted_step": 10 if fitted else None, "parameter_count": 10 * width, "model_width": width}
    return {"data_examples": size, "seed": seed, "stop_fit": 1.0, **counts, **at, **fields}


def fitted_sets(*rows, **values):
    return only(capacity.summarize(trials(*rows)), quantity=capacity.FITTED, **values)


def test_capacity_is_the_largest_set_that_is_fitted():
    grid = {0: (32, 64), 1: (32,)}  # seed: sizes that it fits
    row = fitted_sets(*(labelled(size, seed, size in fits) for seed, fits in grid.items() for size in (32, 64, 128)))
    assert row["estimate"] == pytest.approx((64 + 32) / 2)
    assert (row["seeds"], row["at_least"], row["at_most"]) == (2, 0, 0)
    assert row["size_step"] == 2


def test_capacity_is_that_of_the_best_way_to_train():
    rows = [labelled(64, 0, rate == 0.1, optimizer_learning_rate=rate) for rate in (0.01, 0.1)]
    rows += [labelled(128, 0, False, optimizer_learning_rate=rate) for rate in (0.01, 0.1)]
    assert fitted_sets(*rows)["estimate"] == 64
    bits = only(capacity.summarize(trials(*rows)), quantity=capacity.BITS)
    assert bits["estimate"] == pytest.approx(
        capacity.bits(np.array([128.0]), np.array([115 / 128]), np.array([2.0]))[0]
    )


def test_a_capacity_beyond_the_grid_is_marked():
    assert fitted_sets(labelled(32, 0, True), labelled(64, 0, True))["at_least"] == 1
    below = fitted_sets(labelled(32, 0, False), labelled(64, 0, False))
    assert (below["at_most"], below["estimate"]) == (1, 32)


def test_a_set_that_is_not_known_marks_the_capacity_below_it():
    row = fitted_sets(labelled(32, 0, True), labelled(64, 0, False, status=frames.MISSING))
    assert (row["estimate"], row["at_least"]) == (32, 1)


def test_marks_and_theory_are_drawn():
    summary = capacity.summarize(
        trials(*(labelled(8 * w, s, True, width=w, model_depth=2) for w in (4, 8) for s in (0, 1)))
    )
    names = {trace["name"] for trace in drawn(capacity.draw, summary, x="model_width")["data"]}
    assert {"at least: largest set fitted", "4⌊d/4⌋²: every set can be fitted (Yun et al.)"} <= names
    cover = next(t for t in drawn(capacity.draw, summary)["data"] if "Cover" in t["name"])
    assert cover["y"] == [2 * x for x in cover["x"]]


# Regularization.


def regularized(strength, memorized, validation, test, name="regularization_dropout"):
    """Two seeds on clean and two on random labels, all alike."""
    for seed in (0, 1):
        field = {name: strength, "seed": seed}
        counts = {"validation_correct_count": validation, "validation_count": 100, "test_count": 100}
        yield {**field, **counts, "data_noise_fraction": 0.0, "test_correct_count": test, "train_count": 100}
        yield {**field, "data_noise_fraction": 1.0, "train_correct_count": memorized, "train_count": 100}


def summary_of(*settings):
    return regularization.summarize(trials(*(row for setting in settings for row in setting)))


def test_strengths_are_chosen_on_validation_and_told_on_test_data():
    summary = summary_of(
        regularized(0.0, 100, 95, 94),
        regularized(0.2, 60, 90, 70),  # better on validation
        regularized(0.4, 50, 80, 99),  # better on test: must not be chosen for that
    )
    chosen = only(regularization.choose(summary, (0.7,)), regularizer="dropout")
    assert (chosen["strength"], chosen["estimate"]) == (0.2, pytest.approx(0.7))
    assert chosen["retained"] == pytest.approx(0.9 / 0.95)
    assert only(regularization.choose(summary, (0.55,)), regularizer="dropout")["strength"] == 0.4


def test_a_cap_that_no_strength_keeps_is_a_hole():
    summary = summary_of(regularized(0.0, 100, 95, 94), regularized(0.2, 60, 90, 70))
    assert np.isnan(only(regularization.choose(summary, (0.3,)), regularizer="dropout")["strength"])
    (trace,) = (t for t in drawn(regularization.draw_choice, summary)["data"] if t["name"] == "dropout")
    assert trace["y"][:5] == [None] * 5 and trace["y"][-1] == pytest.approx(0.94)


def test_no_regularization_is_where_every_curve_begins():
    summary = summary_of(
        regularized(0.0, 100, 95, 94),
        regularized(0.2, 60, 90, 70),
        regularized(0.1, 40, 85, 60, name="regularization_weight_decay"),
    )
    curves = {t["name"]: t for t in drawn(regularization.draw, summary)["data"]}
    assert curves["dropout"]["x"] == pytest.approx([1.0, 0.6])
    assert curves["weight decay"]["x"] == pytest.approx([1.0, 0.4])
    assert curves["weight decay"]["y"] == pytest.approx([0.94, 0.6])


# Figures.


def points(**columns):
    return pd.DataFrame({"x": [1.0, 2.0, 3.0], "missing": 0, **columns})


def test_bars_and_holes_stay_at_their_points():
    frame = points(estimate=[0.2, np.nan, 0.6], low=[0.1, np.nan, 0.3], high=[0.4, np.nan, 0.7])
    (trace,) = drawn(lambda summary, ax: figures.curve(ax, summary, "x", label="a", marker="o"), frame)["data"]
    assert trace["x"] == [1, 2, 3] and trace["y"] == [0.2, None, 0.6]
    assert trace["error_y"]["arrayminus"] == pytest.approx([0.1, 0, 0.3])
    assert trace["error_y"]["array"] == pytest.approx([0.2, 0, 0.1])


def test_points_with_missing_seeds_are_rings_named_once():
    frame = points(estimate=0.5, low=0.4, high=0.6, missing=[0, 2, 0])

    def draw(summary, ax):
        for name in "ab":
            figures.curve(ax, summary, "x", label=name, marker="o")

    rings = [trace for trace in drawn(draw, frame)["data"] if trace["name"] == "some seeds missing"]
    assert [ring["x"] for ring in rings] == [[2], [2]]
    assert [ring["showlegend"] for ring in rings] == [True, False]
    assert all(ring["marker"]["symbol"] == "circle-open" for ring in rings)


@pytest.mark.parametrize(
    "high, ticks", [(300.0, ["100", "120", "150", "200", "250", "300"]), (500.0, ["100", "200", "500"]), (3000.0, None)]
)
def test_a_short_logarithmic_axis_has_whole_numbers(high, ticks):
    """Plotly's own would be a lone 2."""

    def draw(summary, ax):
        figures.curve(ax, summary, "x", label="a", marker="o")
        ax.set(yscale="log", ylim=(90, high))
        figures.plain_ticks(ax.yaxis)

    axis = drawn(draw, points(estimate=200.0, low=200.0, high=200.0))["layout"]["yaxis"]
    assert axis.get("ticktext") == ticks and ("dtick" in axis) == (ticks is None)


def test_ticks_of_a_logarithmic_axis_are_whole_numbers_on_the_page():
    """Plotly writes a small 2 for 20, where Matplotlib writes 20."""

    def draw(summary, ax):
        figures.curve(ax, summary, "x", label="a", marker="o")
        ax.set(xscale="log", xlim=(1, 100))

    axis = drawn(draw, points(estimate=0.5, low=0.4, high=0.6))["layout"]["xaxis"]
    assert (axis["dtick"], axis["tickformat"]) == ("D2", "~g")


def test_words_call_places_as_the_axis_does():
    with figures.canvas() as ax:
        ax.plot([0, 1], [0, 2], label="reached")
        figures.grid_ticks(ax.yaxis, [0, 1, 2], ["claim 1", "claim 2", "claim 3"])
        ax.set(xlabel="share")
        plot = interactive.describe(ax)
    assert interactive.words(plot) == "Across: share. Up: no name. reached: claim 1 at 0 to claim 3 at 1."


def test_an_image_is_refused():
    with figures.canvas() as ax, pytest.raises(ValueError, match="pcolormesh"):
        ax.imshow([[0, 1]])
        interactive.describe(ax)


def test_the_same_figure_makes_the_same_files(tmp_path):
    frame = points(estimate=0.5, low=0.4, high=0.6)
    for folder in ("a", "b"):
        with figures.canvas() as ax:
            figures.curve(ax, frame, "x", label="a", marker="o")
            figures.save(ax, tmp_path / folder, "figure", "A figure")
    for name in ("figure.pdf", "figure.svg", "figure.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_curves_of_an_order_get_darker_hues_and_others_distinct_ones():
    assert len({look["color"] for look in figures.looks(10, ordered=True)}) == 10
    assert len({look["color"] for look in figures.looks(6, ordered=False)}) == 6
    assert len({look["marker"] for look in figures.looks(10, ordered=True)}) == 10


def test_trials_older_than_a_field_have_its_default(tmp_path):
    """A sweep launched before the field existed and extended since does not seem to vary it."""
    store = Store(tmp_path, create=True)
    for seed, older in ((0, True), (1, False)):
        flat = trial(seed=seed).flat()
        known = {name: value for name, value in flat.items() if not older or name not in LATER_FIELDS}
        row = {"sweep": "s", "trial_id": trial(seed=seed).trial_id, "seed": seed, "configuration": json.dumps(known)}
        store.write("wanted", [row])
    found = frames.read(frames.TRIALS, "s", tmp_path)
    assert len(found) == 2 and frames.varying(found) == []


def test_a_trial_that_was_trained_twice_for_its_last_digit_is_read_once(tmp_path):
    store, made = Store(tmp_path, create=True), [trial(data__noise_fraction=noise) for noise in (0.1 + 0.2, 0.3)]
    for one in made:
        row = {"sweep": "s", "trial_id": one.trial_id, "seed": one.seed, "configuration": json.dumps(one.flat())}
        store.write("wanted", [row])
    store.write("trials", [stored_row(made[1], {})])
    found = frames.read(frames.TRIALS, "s", tmp_path)
    assert found[["trial_id", "data_noise_fraction"]].to_numpy().tolist() == [[made[1].trial_id, 0.3]]


def test_a_stored_trial_has_the_fields_of_its_row_and_a_missing_trial_those_of_its_configuration(tmp_path):
    """As SQL reads them: one changed cell of `trials` changes the figure's frame."""
    store = store_of(tmp_path, "s", [(trial(seed=0), {"model_width": 7}), (trial(seed=1), None)])
    rows = frames.read(frames.TRIALS, "s", store)
    assert rows["model_width"].tolist() == [7, trial().model.width] and rows["model_width"].dtype == "int64"
    assert rows["status"].tolist() == ["finished", frames.MISSING]
    assert memsweep.sql("select model_width from trials", store.results)["model_width"].tolist() == [7]
    store.write("wanted", [{"sweep": "t", "trial_id": trial(seed=0).trial_id, "seed": 0, "configuration": "no JSON"}])
    assert frames.read(frames.TRIALS, "t", store)["model_width"].tolist() == [7]


def test_null_fields_of_a_stored_trial_have_their_defaults(tmp_path):
    older = {FIELDS[name].column: None for name in LATER_FIELDS}
    store = store_of(tmp_path, "s", [(trial(seed=0), older), (trial(seed=1), {})])
    rows = frames.read(frames.TRIALS, "s", store)
    assert len(rows) == 2 and frames.varying(rows) == []
    pd.testing.assert_frame_equal(rows[[*older]].iloc[[0]], rows[[*older]].iloc[[1]].set_axis([0]))


def test_a_probe_is_asked_for_by_its_whole_name(tmp_path):
    """As one of a list, not as a part of another name."""
    store = Store(tmp_path, create=True)
    for seed, probes in enumerate(("examples,jacobians", "more_examples", None)):
        one = trial(seed=seed)
        row = {"sweep": "s", "trial_id": one.trial_id, "seed": seed, "configuration": json.dumps(one.flat())}
        store.write("wanted", [{**row, "probes": probes}])
    found = frames.read(frames.beside("examples", "b.example", "examples"), "s", tmp_path)
    assert found["seed"].tolist() == [0]
