"""Convergence, recall by position and read-outs, of hand-made trials whose answers are known."""

import json

import pytest

from memsweep.analysis.core import frames
from memsweep.analysis.questions import convergence, readouts, recall_positions
from tests.test_analysis import drawn, only, trials
from tests.test_sequence_analysis import asked

# Convergence.


def followed(seed, values, every=10, **fields):
    """Rows of `steps` of one trial, whose number of right targets of 100 is measured every so many steps."""
    facts = {"trial_id": f"{seed}-{sorted(fields.items())}", "status": "finished"}
    kept = {name: value for name, value in asked(seed, **fields).items() if not name.startswith("validation")}
    return [
        {**facts, **kept, "step": every * i, "validation_target_correct_count": right, "validation_target_count": 100}
        for i, right in enumerate(values, 1)
    ]  # fmt: skip


def beside(*rows):
    """Rows of a table beside `trials`, with all fields."""
    full = trials(*rows)
    names = ["step", "position", "target_correct_count", "target_count", "item", "fitted_step", "applied_step"]
    return full.assign(**{name: [r.get(name) for r in rows] for name in (*names, "correct_count", "example_count")})


def converged(*rows):
    summary = convergence.summarize(beside(*rows))
    return {step: own.to_dict("records")[0] for step, own in summary.groupby("step")}


def test_a_trial_that_ended_when_solved_keeps_its_last_value():
    found = converged(*followed(0, [20, 99], solved=20), *followed(1, [10, 30, 50]))
    assert [found[step]["estimate"] for step in (10, 20, 30)] == pytest.approx([0.15, 0.645, 0.745])
    assert [found[step]["ended"] for step in (10, 20, 30)] == [0, 0, 1]
    assert found[30]["missing"] == 0


def test_a_trial_that_ended_otherwise_or_diverged_has_no_value_from_there():
    rows = [*followed(0, [10, 30, 50]), *followed(1, [20], status="pruned"), *followed(2, [90], status="diverged")]
    absent = {**asked(3, status=frames.MISSING), "trial_id": "3"}
    found = converged(*rows, absent)
    assert [found[step]["estimate"] for step in (10, 20, 30)] == pytest.approx([0.15, 0.3, 0.5])
    assert [found[step]["missing"] for step in (10, 20, 30)] == [2, 3, 3]


def test_convergence_is_shown_at_one_width_and_the_longest_length_solved():
    rows = [
        *(r for s in range(2) for r in followed(s, [99], solved=10, length=10, width=16)),
        *(r for s in range(2) for r in followed(s, [50], length=20, width=16)),
        *(r for s in range(2) for r in followed(s, [99], solved=10, length=20, width=8)),
    ]
    chosen = convergence.select(beside(*rows))
    assert set(chosen["model_width"]) == {16} and set(chosen["data_sequence_length"]) == {10}
    figure = drawn(convergence.draw, convergence.summarize(chosen), task="copy")
    assert "width 16, sequence length 10" in json.dumps(figure["layout"])


# Positions.


def by_position(seed, *right, **fields):
    return [
        {
            **asked(seed, **fields),
            "trial_id": f"{seed}",
            "position": 4 + i,
            "target_correct_count": count,
            "target_count": 20,
        }
        for i, count in enumerate(right)
    ]


def test_recall_by_position_is_a_mean_over_seeds():
    absent = {**asked(2, status=frames.MISSING), "trial_id": "2"}
    lost = by_position(3, 20, 20, status="diverged")
    summary = recall_positions.summarize(beside(*by_position(0, 20, 5), *by_position(1, 10, 5), absent, *lost))
    first, second = (only(summary, position=position) for position in (4, 5))
    assert (first["estimate"], second["estimate"]) == (pytest.approx(0.75), pytest.approx(0.25))
    assert (first["seeds"], first["missing"], first["chance"]) == (2, 2, 1 / 4)
    figure = drawn(recall_positions.draw, summary, task="copy")
    assert figure["data"][0]["x"] == [4, 5] and figure["layout"]["xaxis"]["ticktext"] == ["4", "5"]


# Read-outs.


def read_out(seed, told, **fields):
    """told: (item, fitted, applied) -> right of 100."""
    return [
        {
            **asked(seed, **fields), "trial_id": f"{seed}", "item": i, "fitted_step": f, "applied_step": a,
            "correct_count": right, "example_count": 100,
        }
        for (i, f, a), right in told.items()
    ]  # fmt: skip


TOLD = {(0, 0, 0): 100, (0, 0, 2): 40, (0, 2, 2): 90, (1, 1, 1): 80, (1, 1, 3): 80, (1, 3, 3): 80}


def test_a_read_out_is_compared_with_one_fitted_later():
    other = {key: 100 if key == (0, 0, 2) else right for key, right in TOLD.items()}
    absent = {**asked(2, status=frames.MISSING), "trial_id": "2"}
    summary = readouts.summarize(beside(*read_out(0, TOLD), *read_out(1, other), absent))
    expected = {readouts.DROP: 0.3, readouts.CONTROL: 0.9, readouts.MOVED: 0.2}
    for quantity, value in expected.items():
        found = only(summary, quantity=quantity, item=0, delay=2)
        assert (found["estimate"], found["seeds"], found["missing"]) == (pytest.approx(value), 2, 1)
        assert only(summary, quantity=quantity, item=1, delay=2)["estimate"] == pytest.approx(
            0.8 if quantity == readouts.CONTROL else 0
        )
    assert only(summary, quantity=readouts.DROP, item=0, delay=0)["estimate"] == 0
    figure = drawn(readouts.draw, summary)
    assert figure["data"][0]["y"] == pytest.approx([0, 0.3]) and figure["layout"]["xaxis"]["ticktext"] == ["0", "2"]


@pytest.mark.parametrize("module", [convergence, recall_positions, readouts])
@pytest.mark.parametrize(
    "rows", [[], [{**asked(0, status=frames.MISSING), "trial_id": "0"}]], ids=["nothing", "missing"]
)
def test_tables_beside_can_be_empty(module, rows):
    summary = module.summarize(module.select(beside(*rows)))
    assert {"estimate", "low", "high", "seeds", "missing"} <= set(summary)
    for figure in module.FIGURES:
        assert drawn(figure.draw, summary)["layout"]["annotations"]
        figure.rows(summary)


@pytest.mark.parametrize(
    "module, rows",
    [
        (convergence, followed(0, [10, 20])),
        (recall_positions, by_position(0, 20, 5)),
        (readouts, read_out(0, TOLD)),
    ],
)
def test_one_seed_is_drawn_without_bars(module, rows):
    summary = module.summarize(beside(*rows))
    assert summary["low"].isna().all() and (summary["seeds"] == 1).all()
    for figure in module.FIGURES:
        drawn(figure.draw, summary)
