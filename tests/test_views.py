"""Figures are laid out as requested, and by default so that nothing is hidden: fields along x, curves, panels, maps."""

import importlib
import sys
from inspect import signature
from itertools import pairwise
from pkgutil import iter_modules

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import memsweep
from memsweep.analysis import questions
from memsweep.analysis.core import arrangement, figures, interactive, maps, panels, powers, series
from memsweep.analysis.core.arrangement import View, ViewError, arrange
from memsweep.analysis.questions import generalization, learning_curves, learning_order, trainability
from memsweep.analysis.report import report
from memsweep.cli import app
from memsweep.spec.config import TrialConfig
from tests.test_analysis import curve, noisy, steps, trials
from tests.test_report import TEST_ALONE, plots, store_of

NOISE, WIDTH, DECAY, RATE = (
    *("data_noise_fraction", "model_width", "regularization_weight_decay", "optimizer_learning_rate"),
)


def grid(**axes):
    """A row a setting, as a summary has them."""
    settings = pd.MultiIndex.from_product(axes.values(), names=axes.keys()).to_frame(index=False)
    return settings.assign(estimate=0.5, low=0.4, high=0.6, seeds=3, missing=0)


def drawn(draw, summary, **options):
    """The first axis, after drawing and describing a figure of ours without a warning."""
    with figures.canvas() as ax:
        first = draw(summary, ax, **options)
        interactive.words(interactive.describe(first))
        first.figure.canvas.draw()
        return first


def test_the_field_with_most_values_runs_along():
    """Never twelve lines over two points."""
    points = grid(**{NOISE: [0.0, 0.4], WIDTH: range(1, 13)})
    arranged = arrange(points, [NOISE, WIDTH])
    assert (arranged.x, arranged.curves, arranged.panels) == (WIDTH, (NOISE,), ())


def test_fields_that_follow_from_x_make_no_curves():
    points = grid(**{WIDTH: [1, 2, 3], NOISE: [0.0, 0.4]}).assign(**{RATE: lambda rows: 1 / rows[WIDTH]})
    arranged = arrange(points, [NOISE, WIDTH, RATE], x=WIDTH)
    assert (arranged.along, arranged.curves) == ((RATE,), (NOISE,))


def test_other_fields_make_panels_and_what_is_held_is_named():
    axes = {
        WIDTH: range(1, 6),
        NOISE: [0.0, 0.2, 0.4],
        DECAY: [0.0, 0.1],
        RATE: [0.1, 0.2, 0.3],
        "model_depth": [1, 2, 3],
    }
    arranged = arrange(grid(**axes), list(axes))
    assert (arranged.x, arranged.curves, arranged.panels) == (WIDTH, (NOISE,), (DECAY, RATE))
    assert arranged.notes == ("at depth 2 (of 3 values)",) and set(arranged.rows["model_depth"]) == {2}
    assert len(arranged.each_panel()) == 6
    first = drawn(panels.draw, grid(**axes), keys=list(axes), plane=panels.Plane("share"))
    assert len(figures.panels(first)) == 6 and first.figure.get_suptitle() == "at depth 2 (of 3 values)"
    plot = interactive.describe(first)
    assert {trace["xaxis"] for trace in plot["data"]} == {"x", "x2", "x3", "x4", "x5", "x6"}
    assert "weight decay 0.1, learning rate 0.3" in [text["text"] for text in plot["layout"]["annotations"]]
    assert sum(trace["showlegend"] for trace in plot["data"]) == 3  # once a curve
    shown = [name for name, axis in plot["layout"].items() if name[1:5] == "axis" and axis["showticklabels"]]
    assert shown == ["yaxis", "xaxis4", "yaxis4", "xaxis5", "xaxis6"]


def test_panels_share_limits_that_hold_all_points():
    axes = {WIDTH: range(1, 6), NOISE: [0.0, 0.2, 0.4], DECAY: [0.0, 0.1]}
    points = grid(**axes).assign(estimate=lambda rows: 1 + 10 * rows[DECAY], low=np.nan, high=np.nan)
    plane = panels.Plane("loss", axis={"ylim": (0, None)})
    for ax in figures.panels(drawn(panels.draw, points, keys=list(axes), plane=plane)):
        assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] > 2


def test_many_values_are_thinned_and_counted():
    arranged = arrange(grid(**{NOISE: np.linspace(0, 0.9, 40), WIDTH: range(1, 42)}), [NOISE, WIDTH])
    assert arranged.rows[NOISE].nunique() == arrangement.CURVES
    assert arranged.notes == ("10 of 40 values of noise fraction",)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scale": "cubic"}, "scale 'cubic': choose linear or log"),
        ({"x": "model.width", "curves": "model.width"}, "model.width: a field has one place"),
        ({"y": "model.width", "curves": "data.noise_fraction"}, "a map (y model.width) has no curves"),
        ({"level": 0.5}, "only a map has a level line"),
        ({"x": "model.witdh"}, "choose data.noise_fraction, model.width"),
    ],
)
def test_a_wrong_option_is_one_message_and_draws_nothing(tmp_path, monkeypatch, capsys, options, message):
    configs = [
        TrialConfig.of({"model.width": w, "data.noise_fraction": n, "data.noise_kind": "labels"})
        for w in (2, 4)
        for n in (0.1, 0.2)
    ]
    store_of(tmp_path, "own", [(trial, {}) for trial in configs], **TEST_ALONE)
    words = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["memsweep", "report", "--results", str(tmp_path), *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
    err = capsys.readouterr().err
    assert ended.value.code == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(ViewError):
        memsweep.figure("own", "test-accuracy", tmp_path, **options)


def test_a_sweep_of_any_question_is_drawn_along_any_field(tmp_path, svg_alone):
    """Capacity has fixed axes: its trials are drawn along the chosen field beside them."""
    configs = [
        TrialConfig.of({"model.width": width, "data.examples": size, "seed": seed})
        for width in (2, 4, 8)
        for size in (50, 100)
        for seed in range(2)
    ]
    store_of(tmp_path, "capacity", [(trial, {}) for trial in configs], **TEST_ALONE)
    page = report.write(tmp_path, view=View.of(x="data.examples", seeds=True)).read_text()
    plot = plots(page)["capacity-generalization-test-accuracy"]
    assert plot["layout"]["xaxis"]["title"]["text"] == "examples"
    assert sum(trace["name"] == "2, seed 0" for trace in plot["data"]) == 1
    figure = memsweep.figure("capacity", results=tmp_path, x="data.examples", curves="model.width")
    assert figure.axes[0].get_xlabel() == "examples"


def test_every_figure_takes_a_view_or_names_why_not():
    """Never both, never neither."""
    modules = [
        importlib.import_module(f"{questions.__name__}.{found.name}") for found in iter_modules(questions.__path__)
    ]
    every = [(module, figure) for module in modules for figure in getattr(module, "FIGURES", ())]
    assert [
        f"{module.__name__} {figure.name}" for module, figure in every if bool(figure.axes) == bool(figure.fixed)
    ] == []
    assert sum(bool(figure.axes) for _, figure in every) > 100
    for module, figure in every:
        if figure.axes:
            assert "view" in signature(figure.draw).parameters, f"{module.__name__} {figure.name}"


def test_a_figure_of_fixed_axes_is_refused_with_its_reason_and_others_to_draw(tmp_path):
    configs = [
        TrialConfig.of({"model.width": width, "data.noise_fraction": 0.2, "data.noise_kind": "labels", "seed": seed})
        for width in (2, 4)
        for seed in range(2)
    ]
    store_of(tmp_path, "double_descent", [(trial, {}) for trial in configs], **TEST_ALONE)
    with pytest.raises(ViewError) as refused:
        memsweep.figure("double_descent", "noise", tmp_path, x="model.width")
    assert str(refused.value).startswith(
        "figure 'noise' can't show model.width: its axes are fixed, since the interpolation threshold is a width, and "
        "is marked for each curve; leave these options out or draw generalization-test-accuracy or "
    )


@pytest.mark.parametrize("rates", [[1e-3, 1.5e-3, 2e-3, 1e-2, 3e-2], [1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 1e-1]])
def test_ticks_of_panels_do_not_overlap(rates):
    points = grid(**{RATE: rates, DECAY: [0.0, 0.1, 0.2]})
    plane = panels.Plane("share", RATE, axis={"xscale": "log"})
    first = drawn(panels.draw, points, keys=[RATE, DECAY], plane=plane, view=View(panels=(DECAY,)))
    renderer = first.figure.canvas.get_renderer()
    for panel in figures.panels(first):
        low, high = panel.get_xlim()
        shown = [text for text in panel.get_xticklabels() if low <= text.get_position()[0] <= high and text.get_text()]
        ends = sorted((box.x0, box.x1) for box in (text.get_window_extent(renderer) for text in shown))
        assert len(ends) >= 2 and all(right < left for (_, right), (left, _) in pairwise(ends))


def test_two_quantities_share_axes_and_colours():
    """Solid and dashed, at each value of any chosen field; a bound is marked and takes no part in an exponent."""
    points = grid(quantity=["test", "train"], **{WIDTH: [1, 2, 4, 8], DECAY: [0.0, 0.1]})
    points = points.assign(estimate=points[WIDTH] + 8.0 * (points[WIDTH] == 8), above=(points[WIDTH] == 8) * 1)
    points["values"] = [((0, value),) for value in points["estimate"]]
    plane = panels.Plane(
        "error", WIDTH, (DECAY,), bounds={"above": ("^", "at least")}, dashes={"test": "-", "train": "--"}
    )
    single = panels.Plane("error", WIDTH, bounds=plane.bounds, is_power=True)
    both = drawn(panels.draw, points, keys=[WIDTH, DECAY], plane=plane)
    styles = {c.get_label(): (c.lines[0].get_linestyle(), c.lines[0].get_color()) for c in both.containers}
    assert styles["0"][0] == "-" and styles["_0, train"] == ("--", styles["0"][1])
    assert {"test", "train", "at least"} <= set(both.get_legend_handles_labels()[1])
    test = points[(points["quantity"] == "test") & (points[DECAY] == 0)]
    power = drawn(panels.draw, test, keys=[WIDTH], plane=single, view=View(scale=("log", "log")))
    assert [c.get_label() for c in power.containers] == ["exponent 1.00"]
    mapped = drawn(panels.draw, points, keys=[WIDTH, DECAY], plane=plane, view=View(x=WIDTH, y=DECAY))
    assert mapped.collections[0].get_label() == "_test"


def test_axes_of_names_and_logarithmic_axes_with_zero_are_drawn():
    """And fields that have holes."""
    points = grid(**{"model_activation": ["relu", "tanh"], WIDTH: [0, 1, 10, 100]}).iloc[1:]
    plane = panels.Plane("share")
    named = drawn(panels.draw, points, keys=["model_activation", WIDTH], plane=plane, view=View(x="model.activation"))
    assert [label.get_text() for label in named.get_xticklabels()] == ["relu", "tanh"]
    logarithmic = drawn(
        panels.draw, points, keys=["model_activation", WIDTH], plane=plane, view=View(scale=("log", "log"))
    )
    assert (logarithmic.get_xscale(), logarithmic.get_yscale()) == ("symlog", "log")


def test_a_map_has_its_level_line_where_the_quantity_meets_it():
    points = grid(**{NOISE: [0.0, 0.1, 0.2, 0.3, 0.4], DECAY: [0.0, 1.0, 2.0]})
    points["estimate"] = points[NOISE]
    points = points.assign(low=points["estimate"] - 0.1, high=points["estimate"] + 0.1)
    view = View(x=NOISE, y=DECAY, level=0.25)
    first = drawn(panels.draw, points, keys=[NOISE, DECAY], plane=panels.Plane("share"), view=view)
    lines = {line.get_label(): line.get_xdata() for line in first.lines}
    assert lines["share = 0.25"] == pytest.approx(2.5)  # between the squares of 0.2 and 0.3
    assert lines["95 % interval"] == pytest.approx(3.5)  # where the low end is 0.25
    holes = np.array([[0.0, 1.0, np.nan], [0.0, 1.0, np.nan]])
    ((x, _),) = maps.level_line(holes, 0.5)
    assert x == pytest.approx(0.5)


def test_trials_of_a_search_are_points_without_a_line():
    """At each x another field has another value, in no order; a rate that falls with the width is joined."""
    points = grid(**{RATE: [0.1, 0.2, 0.3, 0.4]}).assign(**{WIDTH: [5, 2, 9, 1]})
    for widths, style in (([5, 2, 9, 1], "None"), ([9, 5, 2, 1], "-")):
        first = drawn(
            panels.draw, points.assign(**{WIDTH: widths}), keys=[RATE, WIDTH], plane=panels.Plane("share", RATE)
        )
        assert first.get_xlabel() == "learning rate, with width"
        assert first.containers[0].lines[0].get_linestyle() == style


def test_between_names_a_map_has_no_line():
    points = grid(**{"model_cell": ["gru", "lstm", "rnn"], WIDTH: [1, 2, 3]}).assign(estimate=np.linspace(0, 1, 9))
    view = View(x="model.cell", y="model.width", level=0.4)
    assert not drawn(panels.draw, points, keys=["model_cell", WIDTH], plane=panels.Plane("share"), view=view).lines


def test_a_figure_of_the_users_keeps_its_axes():
    points = grid(**{WIDTH: [1, 2, 4, 8], NOISE: [0.0, 0.5], DECAY: [0.0, 0.1]})
    keys = [WIDTH, NOISE, DECAY]
    for view, curves in ((View(), ()), (View.of(curves="data.noise_fraction"), ()), (View(), (NOISE,))):
        figure, (left, right) = plt.subplots(1, 2)
        plane = panels.Plane("share", x=WIDTH, curves=curves)
        assert panels.draw(points, left, keys, plane, view) is left
        assert figure.axes == [left, right] and len(left.containers) == 4 and not right.has_data()
        with pytest.raises(ViewError, match="panels need a figure of their own"):
            panels.draw(points, right, keys, plane, View.of(panels="regularization.weight_decay"))
        plt.close(figure)


def test_names_have_no_exponent():
    values = [((0, 1.0), (1, 2.0)), ((0, 0.5), (1, 1.0)), ((0, 0.25), (1, 0.5))]
    points = grid(model_family=["cnn", "mlp", "rnn"]).assign(values=values)
    view = View(scale=("log", "log"))
    first = drawn(panels.draw, points, keys=["model_family"], plane=panels.Plane("bits"), view=view)
    assert not [label for label in map(str, first.get_legend_handles_labels()[1]) if "exponent" in label]


def test_an_exponent_is_that_of_the_seeds():
    x, slopes = np.array([1.0, 2.0, 4.0, 8.0]), (1.4, 1.5, 1.6, 1.5, 1.5)
    values = [tuple((seed, 3 * place**slope) for seed, slope in enumerate(slopes)) for place in x]
    power = powers.fitted(pd.DataFrame({"x": x, "values": values}), "x")
    assert (power.exponent, power.factor, power.seeds) == (pytest.approx(1.5), pytest.approx(3), 5)
    assert 1.4 <= power.low < 1.5 < power.high <= 1.6
    assert powers.fitted(pd.DataFrame({"x": x[:2], "values": values[:2]}), "x") is None
    points = grid(**{WIDTH: [1, 2, 4, 8]}).assign(values=values)
    first = drawn(panels.draw, points, keys=[WIDTH], plane=panels.Plane("labels"), view=View(scale=("log", "log")))
    assert any(container.get_label().startswith("exponent 1.50 (1.4") for container in first.containers)


def test_seeds_that_agree_are_marked():
    rows = [noisy(noise, seed, 40 + seed * (noise > 0.3)) for noise in (0.2, 0.4) for seed in range(3)]
    first = drawn(generalization.draw, generalization.summarize(trials(*rows)))
    (mark,) = [line for line in first.lines if line.get_label() == figures.ALIKE]
    assert list(mark.get_xdata()) == [0.2]


def test_losses_have_the_line_of_guessing():
    rows = [noisy(noise, seed, test_loss_sum_nats=150.0) for noise in (0.2, 0.4) for seed in range(2)]
    first = drawn(generalization.draw, generalization.summarize(trials(*rows)), quantity="test loss")
    heights = {line.get_label(): line.get_ydata()[0] for line in first.lines}
    assert heights["chance"] == pytest.approx(np.log(10))
    squared = generalization.summarize(trials(*({**row, "optimizer_objective": "squared"} for row in rows)))
    assert "test loss" not in set(squared["quantity"])


def test_learning_curves_of_other_fields_are_panels():
    rows = steps(
        *(
            curve(noise, 0, [0.5, 0.6], [0.2, 0.95], **{DECAY: decay})
            for noise in (0.0, 0.4)
            for decay in (0.0, 0.1, 0.2)
        )
    )
    summary = learning_curves.summarize(learning_curves.select(rows))
    first = drawn(learning_curves.draw, summary)
    titles = [panel.get_title() for panel in figures.panels(first)]
    assert titles == ["weight decay 0", "weight decay 0.1", "weight decay 0.2"]


def test_examples_are_as_hard_as_each_other_within_classes():
    """Of two classes of which one is always right and one never: half of the examples, not each in half of the runs."""
    label = np.repeat([0, 1], 50)
    rows = pd.DataFrame({"given_label": label, "run_count": 100, "right_count": 100 * label, "variance": 0.0})
    assert learning_order.equally_hard(rows).tolist() == [0.0] * 50 + [1.0] * 50
    fair = rows.assign(given_label=0, right_count=50, variance=25.0)
    assert learning_order.equally_hard(fair)[[0, 99]] == pytest.approx([0.37, 0.63], abs=0.01)


def test_cells_that_all_diverge_stand_apart():
    rows = [
        noisy(0.0, seed, model_cell=cell, optimizer_learning_rate=rate, train_loss_sum_nats=9e9)
        for cell in ("gru", "lstm")
        for rate in (0.1, 1.0, 10.0)
        for seed in range(3)
    ]
    first = drawn(trainability.draw, trainability.summarize(trials(*rows)))
    gru, lstm = (np.array(container.lines[0].get_xdata(), float) for container in first.containers)
    assert (lstm / gru == pytest.approx(10**0.4)) and np.sqrt(gru * lstm) == pytest.approx([0.1, 1.0, 10.0])


def test_a_series_names_what_it_holds():
    summary = pd.concat([grid(**{WIDTH: [1, 2]}).assign(quantity="q", layer=layer) for layer in (1, 2)])
    summary = summary[["quantity", WIDTH, "layer", "estimate", "low", "high", "seeds", "missing"]].assign(cell="a")
    summary.insert(1, "model_cell", "gru")
    first = drawn(series.draw, summary, what=("q", WIDTH, "model_cell"), selection={"layer": 1}, axis={})
    assert first.figure.get_suptitle() == "at layer 1"
