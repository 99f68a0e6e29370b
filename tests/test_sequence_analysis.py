"""What the modules on sequences say of hand-made trials, whose answers are known; drawings are only run."""

import json

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.core import figures, frames, interactive
from memsweep.analysis.questions import (
    convergence,
    readouts,
    recall_positions,
    sequence_capacity,
    sequence_length,
    sequences,
)
from memsweep.analysis.report import report
from memsweep.results.storage.store import Store
from memsweep.spec.config import TrialConfig
from tests.test_analysis import drawn, only, trials
from tests.test_report import plots, row, wanted

pytestmark = pytest.mark.usefixtures("svg_alone")

LENGTHS = (sequence_length.SHARE, sequence_length.STEPS, sequence_length.REACH, sequence_length.FINAL)
SHARE, STEPS, REACH, FINAL = LENGTHS


def asked(seed, solved=None, length=10, cell="lstm", width=8, right=50, **fields):
    """A trial of `copy` with 100 validation targets and a budget of 1000 steps, solved at a step or not."""
    counts = {"validation_target_correct_count": right, "validation_target_count": 100, "parameter_count": 10 * width}
    data = {"data_task": "copy", "data_vocabulary": 4, "data_sequence_length": length, "solved_step": solved}
    model = {"model_family": "recurrent", "model_cell": cell, "model_width": width}
    return {"seed": seed, "stop_steps": 1000, **data, **model, **counts, **fields}


def settled(*solved, **fields):
    """A trial a seed, each solved at its step or (None) not."""
    return [asked(seed, step, **fields) for seed, step in enumerate(solved)]


def lengths(*rows):
    return sequence_length.summarize(trials(*rows))


# Solved or not.


def test_the_share_that_solves_has_wilsons_interval():
    row = only(lengths(*settled(100, 200, 300, None, None)), quantity=SHARE)
    assert row["estimate"] == pytest.approx(0.6)
    assert (row["low"], row["high"]) == (pytest.approx(0.2307, abs=1e-4), pytest.approx(0.8824, abs=1e-4))
    assert (row["seeds"], row["missing"]) == (5, 0)
    assert only(lengths(*settled(*[100] * 5)), quantity=SHARE)["low"] == pytest.approx(0.5655, abs=1e-4)


def test_a_diverged_trial_has_not_solved_and_what_is_not_known_is_missing():
    rows = [*settled(100, 200), asked(2, status="diverged")]
    rows += [asked(3 + i, status=status) for i, status in enumerate(("failed", "pruned", frames.MISSING))]
    summary = lengths(*rows)
    share = only(summary, quantity=SHARE)
    assert (share["estimate"], share["seeds"], share["missing"]) == (pytest.approx(2 / 3), 3, 3)
    steps = only(summary, quantity=STEPS)
    assert (steps["estimate"], steps["censored"], steps["missing"]) == (200, 1, 3)
    final = only(summary, quantity=FINAL)
    assert (final["seeds"], final["missing"]) == (3, 3)  # what was pruned has a last measurement, what diverged none


def test_the_median_of_steps_counts_those_that_never_solve():
    row = only(lengths(*settled(100, 200, 300, None, None)), quantity=STEPS)
    assert (row["estimate"], row["at_least"], row["censored"]) == (300, 0, 2)
    assert (row["low"], row["high"]) == (100, np.inf)
    beyond = only(lengths(*settled(100, 200, None, None, None)), quantity=STEPS)
    assert (beyond["estimate"], beyond["at_least"]) == (1000, 1)
    between = only(lengths(*settled(100, None)), quantity=STEPS)
    assert (between["estimate"], between["at_least"]) == (550, 1)  # 100 and 1000 or more


def test_a_budget_in_epochs_is_one_in_steps():
    fields = {"stop_steps": 0, "optimizer_epochs": 3, "data_examples": 110, "optimizer_batch_size": 100}
    assert only(lengths(*settled(None, None, **fields)), quantity=STEPS)["estimate"] == 4  # 3.3, rounded up


def test_the_largest_length_is_one_that_most_seeds_solve():
    rows = settled(*[100] * 5, length=10) + settled(1, 1, 1, None, None, length=20)
    rows += settled(1, 1, None, None, None, length=40)
    row = only(lengths(*rows), quantity=REACH)
    assert (row["estimate"], row["at_least"], row["at_most"], row["seeds"]) == (20, 0, 0, 5)
    assert np.isnan(row["low"]) and np.isnan(row["data_sequence_length"]) and row["parameters"] == 80


def test_a_largest_length_at_an_end_of_the_grid_is_marked():
    top = only(lengths(*settled(1, 1, length=10), *settled(1, 1, length=20)), quantity=REACH)
    assert (top["estimate"], top["at_least"]) == (20, 1)
    hole = only(lengths(*settled(1, 1, length=10), asked(0, length=20, status=frames.MISSING)), quantity=REACH)
    assert (hole["estimate"], hole["at_least"]) == (10, 1)
    below = only(lengths(*settled(None, None, length=10)), quantity=REACH)
    assert (below["estimate"], below["at_most"], below["at_least"]) == (0, 1, 0)


def test_a_task_without_threshold_has_no_share_that_solves_it():
    assert set(lengths(*settled(None, None, data_task="strings"))["quantity"]) == {FINAL}


# The end.


def test_the_end_is_told_in_the_measure_of_the_task():
    rows = [asked(seed, right=right) for seed, right in enumerate((40, 60))]
    sums = {"data_task": "adding", "data_vocabulary": 0, "validation_target_count": 100}
    rows += [asked(seed, **sums, validation_squared_error_sum=total) for seed, total in enumerate((2.0, 4.0))]
    summary = lengths(*rows)
    copy, adding = (only(summary, quantity=FINAL, data_task=task) for task in ("copy", "adding"))
    assert (copy["measure"], copy["estimate"], copy["chance"]) == ("accuracy", pytest.approx(0.5), 1 / 4)
    assert (adding["measure"], adding["chance"]) == ("squared error", pytest.approx(1 / 6))
    assert adding["estimate"] == pytest.approx(0.03)


def test_cells_are_compared_at_equal_width_and_at_equal_parameters():
    rows = [asked(0, cell=cell, width=width, parameter_count=p) for cell, width, p in (("lstm", 8, 90), ("gru", 8, 70))]
    rows += [asked(0, cell="gru", width=9, parameter_count=90)]
    summary = lengths(*rows)
    for against, places in (
        ("model_width", {"lstm": [8], "gru": [8, 9]}),
        ("parameters", {"lstm": [90], "gru": [70, 90]}),
    ):
        traces = drawn(sequence_length.draw_final, summary, task="copy", against=against)["data"]
        assert {t["name"]: t["x"] for t in traces if t["name"] in places} == places


def test_the_end_is_drawn_at_the_longest_length_that_is_solved():
    rows = settled(1, 1, length=10, right=99) + settled(1, 1, length=20, right=98) + settled(None, None, length=40)
    (curve, *_) = drawn(sequence_length.draw_final, lengths(*rows), task="copy")["data"]
    assert curve["y"] == [pytest.approx(0.98)]
    (curve, *_) = drawn(
        sequence_length.draw_final, lengths(*settled(None, length=10), *settled(None, length=40, right=7)), task="copy"
    )["data"]
    assert curve["y"] == [pytest.approx(0.07)]


# What is drawn.


def test_nothing_is_averaged_but_seeds():
    rows = [
        asked(seed, right=10 * i, width=width, optimizer_learning_rate=rate)
        for seed in range(2)
        for i, (width, rate) in enumerate(((8, 0.1), (8, 0.2), (16, 0.1), (16, 0.2)))
    ]
    summary = lengths(*rows)
    finals = summary[summary["quantity"] == FINAL].sort_values(["model_width", "variant"])
    assert finals["estimate"].tolist() == pytest.approx([0, 0.1, 0.2, 0.3])
    names = {trace["name"] for trace in drawn(sequence_length.draw_final, summary, task="copy")["data"]}
    assert {"lstm, learning rate 0.1", "lstm, learning rate 0.2"} <= names


def test_what_goes_with_the_length_or_the_task_is_no_variant():
    rows = settled(1, 1, length=10, stop_steps=1000) + settled(1, 1, length=20, stop_steps=2000)
    rows += settled(1, 1, length=20, data_task="recall", data_vocabulary=64, stop_steps=500)
    assert set(lengths(*rows)["variant"]) == {""}


def test_attention_is_called_by_its_family():
    rows = settled(1, 1) + settled(1, 1, cell="none", model_family="attention")
    assert set(lengths(*rows)["model_cell"]) == {"lstm", "attention"}


def test_the_solved_region_shows_counts_and_holes():
    rows = [*settled(1, 1, None, length=10), *settled(1, None, length=20), asked(2, length=20, status="failed")]
    rows += [
        asked(seed, length=length, cell="pru_a", status=frames.MISSING) for seed in range(3) for length in (10, 20)
    ]
    rows += settled(None, None, None, length=10, cell="gru")
    figure = drawn(sequence_length.draw_solved, lengths(*rows), task="copy")
    (squares,) = figure["data"]
    assert squares["type"] == "heatmap" and (squares["zmin"], squares["zmax"]) == (0, 1)
    shown = [[None if z is None else round(z, 2) for z in line] for line in squares["z"]]
    # from below, with gaps between cells: pru_a, lstm, gru; gru has no trial of length 20
    assert shown == [[None, None], [None, None], [0.67, 0.5], [None, None], [0.0, None]]
    axis = figure["layout"]["yaxis"]
    said = {
        (axis["ticktext"][axis["tickvals"].index(text["y"])], text["x"]): text["text"]
        for text in figure["layout"]["annotations"]
    }
    assert said == {
        ("gru  8", 0): "0/3", ("lstm  8", 0): "2/3", ("lstm  8", 1): "1/2 +1?", ("pru_a  8", 0): "?",
        ("pru_a  8", 1): "?",
    }  # fmt: skip
    assert figure["layout"]["xaxis"]["ticktext"] == ["10", "20"]
    assert "PRU-style cell (reconstructed)" in figure["layout"]["xaxis"]["title"]["text"]
    colored = [
        y for y, line in zip(zip(squares["y"], squares["y"][1:], strict=False), squares["z"], strict=True) if any(line)
    ]
    assert [low < axis["tickvals"][1] < high for low, high in colored] == [True]


def test_steps_are_drawn_in_a_panel_a_width():
    rows = [r for width in (8, 16, 32) for r in settled(10 * width, 10 * width, width=width)]
    rows += [r for width in (8, 16) for r in settled(None, None, width=width, cell="pru_a")]
    figure = drawn(sequence_length.draw_steps, lengths(*rows), task="copy")
    heights = {(trace["name"], trace["xaxis"]): trace["y"] for trace in figure["data"]}
    assert [heights["lstm", f"x{i}"] for i in ("", 2, 3)] == [[80], [160], [320]]
    assert heights["at least (half unsolved)", "x2"] == [1000] and ("pru_a", "x3") not in heights
    assert "pru_…: PRU-style cell (reconstructed)" in [text["text"] for text in figure["layout"]["annotations"]]
    apart = sequences.at_one_width(
        pd.DataFrame({"model_cell": ["a", "a", "b"], "variant": "", "model_width": [1, 2, 3]})
    )
    assert apart["model_width"].tolist() == [2, 3]


def test_a_cell_looks_alike_in_all_figures_of_a_sweep():
    rows = (
        settled(1, 1, cell="lstm", width=8) + settled(1, 1, cell="gru", width=8) + settled(1, 1, cell="gru", width=16)
    )
    summary = lengths(*rows)
    final, looks = summary[summary["quantity"] == sequence_length.FINAL], []
    for rows in (final, final[final["model_cell"] == "lstm"]):
        with figures.canvas() as ax:
            plot = interactive.describe(sequences.draw(rows, ax, summary, "model_width", {"ylabel": "value"}))
        looks.append({trace["name"]: trace["line"]["color"] for trace in plot["data"]})
    assert looks[0]["gru"] != looks[0]["lstm"] == looks[1]["lstm"] and "gru" not in looks[1]


@pytest.mark.parametrize("module", [sequence_length, sequence_capacity])
@pytest.mark.parametrize(
    "rows",
    [
        [],
        [asked(0, status=frames.MISSING)],
        [asked(0)],
        [asked(0, 100), asked(0, length=20, status="failed"), asked(1, length=20, status="diverged")],
        [asked(0, task=1, data_task="strings", train_loss_sum_nats=5.0)],
        [asked(0, data_task="random_sequences", status=frames.MISSING)],
    ],
    ids=["nothing", "nothing stored", "one trial", "a hole", "strings", "nothing stored of labels"],
)  # fmt: skip
def test_every_figure_can_be_drawn_of_little(module, rows):
    summary = module.summarize(trials(*rows))
    assert {"estimate", "low", "high", "seeds", "missing"} <= set(summary)
    for figure in module.FIGURES:
        drawn(figure.draw, summary)
        figure.rows(summary)


def test_every_note_names_what_is_reconstructed():
    for module in (sequence_length, convergence, recall_positions, readouts, sequence_capacity):
        assert all("PRU-style cell (reconstructed)" in figure.note for figure in module.FIGURES)


# Tables and the page.


def configured(seed, task="copy", probes=("positions", "readouts")):
    fields = {"data.vocabulary": 4, "data.items": 3} if task == "copy" else {}
    return TrialConfig.of({
        "data.task": task, "data.sequence_length": 9, "model.family": "recurrent", "model.cell": "pru_a",
        "model.depth": 1, "seed": seed, "probes": probes, **fields,
    })  # fmt: skip


def stored(results, **outcomes):
    """A sweep `sequence_length` of two stored trials of copy, and one that is wanted only."""
    store = Store(results, create=True)
    configs = [configured(seed) for seed in range(3)]
    store.write(
        "wanted", [{**wanted("sequence_length", i, c), "probes": ",".join(c.probes)} for i, c in enumerate(configs)]
    )
    for config in configs[:2]:
        own = {"trial_id": config.trial_id, "attempt_id": "a"}
        counts = {"validation_target_correct_count": 30, "validation_target_count": 60}
        store.write("steps", [{**own, "step": 10, **counts}])
        store.write("positions", [{**own, "position": 6, "target_correct_count": 5, "target_count": 20}])
        item = {"item": 0, "fitted_step": 0, "applied_step": 0, "correct_count": 9, "example_count": 10}
        store.write("readouts", [{**own, **item}])
        store.write("trials", [{**row(config, counts), "attempt_id": "a", **outcomes}])
    return store


@pytest.mark.parametrize(
    "query, column", [(frames.CURVES, "step"), (frames.POSITIONS, "position"), (frames.READOUTS, "item")]
)
def test_tables_beside_hold_a_row_of_what_is_not_stored(tmp_path, query, column):
    stored(tmp_path)
    found = frames.read(query, "sequence_length", tmp_path)
    assert found[column].notna().tolist() == [True, True, False]
    assert found["status"].tolist() == ["finished", "finished", frames.MISSING]
    assert set(found["model_cell"]) == {"pru_a"}


def test_trials_that_were_not_asked_are_not_missing(tmp_path):
    config = configured(0, probes=())
    Store(tmp_path, create=True).write("wanted", [{**wanted("s", 0, config), "probes": ""}])
    assert frames.read(frames.POSITIONS, "s", tmp_path).empty and len(frames.read(frames.CURVES, "s", tmp_path)) == 1


def test_the_page_shows_figures_of_the_tasks_that_the_sweep_has(tmp_path):
    stored(tmp_path)
    page = report.write(tmp_path).read_text()
    found = plots(page)
    names = {name.removeprefix("sequence_length-") for name in found}
    assert {"copy-solved", "copy-steps", "convergence-copy", "recall_positions-copy", "readouts-drop"} <= names
    assert not any("adding" in name or "recall-" in name or "-recall" in name for name in names)
    assert all("annotations" in plot["layout"] for plot in found.values())
    assert found["sequence_length-readouts-control"]["data"][0]["y"] == [0.9]


def test_figures_about_some_trials_count_those_alone(tmp_path):
    store = stored(tmp_path)
    other = configured(0, task="adding", probes=())
    store.write("wanted", [{**wanted("sequence_length", 3, other), "probes": ""}])
    page = report.write(tmp_path).read_text()
    captions = {name: text for name, text in _captions(page)}
    assert "2 of 3 trials." in captions["sequence_length-copy-solved"]
    assert "sequence_length-adding-solved" not in captions and "no finished trial of task adding" in page


def _captions(page):
    for part in page.split('<figure id="')[1:]:
        yield part.partition('"')[0], part.partition("<figcaption>")[2].partition("</figcaption>")[0]


def test_values_choose_rows():
    frame = pd.DataFrame({"a": [1, 1, 2], "b": ["x", "y", "x"]})
    assert frames.having(frame, {"a": 1, "b": "x"}).index.tolist() == [0]
    assert json.loads(frames.having(frame, {}).to_json(orient="values")) == [[1, "x"], [1, "y"], [2, "x"]]
