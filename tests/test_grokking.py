"""Modular arithmetic as a task, and what the modules on grokking and on muP say of hand-made trials."""

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.core import frames
from memsweep.analysis.questions import grokking, grokking_curves
from memsweep.analysis.questions.grokking import DECAY, DELAY, GENERALIZED, LEFT, NOISE, PEAK, TO_FIT, TO_GENERALIZE
from memsweep.data import tasks
from memsweep.spec.config import TrialConfig
from tests.test_analysis import drawn, only, trials

# The task.


def loaded(operation="add", modulus=7, **fields):
    """The data of a trial on all pairs, and their numbers a and b."""
    rows = modulus**2 if operation != "divide" else modulus * (modulus - 1)
    data = {"data.task": "modular", "data.operation": operation, "data.modulus": modulus, "data.examples": rows}
    loaded = tasks.load(TrialConfig.of({**data, "data.validation_examples": 0, **fields}))
    return loaded, loaded.inputs[:, :modulus].argmax(1), loaded.inputs[:, modulus:].argmax(1)


@pytest.mark.parametrize(
    ("operation", "is_right"),
    [
        ("add", lambda a, b, c: c == (a + b) % 7),
        ("subtract", lambda a, b, c: (c + b) % 7 == a),
        ("multiply", lambda a, b, c: c == a * b % 7),
        ("divide", lambda a, b, c: c * b % 7 == a),
        ("squares", lambda a, b, c: c == (a * a + b * b) % 7),
    ],
)
def test_every_pair_is_once_in_the_table_with_its_result(operation, is_right):
    data, a, b = loaded(operation)
    assert (data.inputs.sum(1) == 2).all() and set(np.unique(data.inputs)) == {0, 1}
    assert len(set(zip(a, b, strict=True))) == len(a) and data.classes == 7
    assert is_right(a, b, data.labels).all()


def test_only_numbers_with_an_inverse_divide():
    _, _, b = loaded("divide", 10, **{"data.examples": 40})
    assert set(b) == {1, 3, 7, 9}
    assert tasks.check(TrialConfig.of({"data.task": "modular", "data.examples": 600, "data.validation_examples": 362}))


def test_training_and_validation_pairs_are_apart():
    config = TrialConfig.of({"data.task": "modular", "data.examples": 561, "data.validation_examples": 400})
    data = tasks.load(config)
    pairs = [tuple(row.nonzero()[0]) for row in (*data.inputs, *data.held_out_inputs)]
    assert len(set(pairs)) == 961 and tasks.shape(config) == (62, 31)
    assert TrialConfig.of({"data.task": "modular", "data.modulus": 31}).trial_id != config.trial_id


# The question.

BUDGET = 1000


def run(seed, fit=100, general=None, decay=1.0, examples=400, width=64, wrong=0, most=0, left=0, **fields):
    """A trial of addition modulo 31 that fits and generalizes at these steps, or (None) never."""
    data = {"data_task": "modular", "data_examples": examples, NOISE: wrong / examples, "data_modulus": 31}
    counts = {"label_changed_count": wrong, "memorized_count": left, "validation_correct_count": 90}
    times = {"fit_step": fit, "general_step": general, "peak_memorized_count": most}
    setting = {DECAY: decay, "model_width": width, "stop_steps": BUDGET, "step_count": BUDGET}
    return {**data, **counts, **setting, "validation_count": 100, "seed": seed, "times": times, **fields}


def summary_of(*rows):
    return grokking.summarize(table(*rows))


def table(*rows):
    frame = trials(*({name: value for name, value in row.items() if name != "times"} for row in rows))
    columns = pd.DataFrame([{"peak_validation_correct_count": 10, **row["times"]} for row in rows])
    return pd.concat([frame, columns.astype(float)], axis=1)


def test_delays_are_medians_and_censored_where_half_of_the_seeds_do_not_get_there():
    summary = summary_of(*(run(seed, 100, step) for seed, step in enumerate((300, 500, None))))
    delay, general = only(summary, quantity=DELAY), only(summary, quantity=TO_GENERALIZE)
    assert (general["estimate"], general["censored"], general["at_least"], general["high"]) == (500, 1, 0, np.inf)
    assert (delay["estimate"], only(summary, quantity=TO_FIT)["estimate"], delay["seeds"]) == (400, 100, 3)
    assert only(summary, quantity=GENERALIZED)["estimate"] == pytest.approx(2 / 3)
    late = summary_of(*(run(seed, 100, step) for seed, step in enumerate((300, None, None))))
    assert only(late, quantity=DELAY)["estimate"] == BUDGET - 100 and only(late, quantity=DELAY)["at_least"] == 1


def test_a_trial_without_a_result_is_missing_and_no_censored_one():
    summary = summary_of(run(0, 100, 300), run(1, None, None, status=frames.MISSING, step_count=None))
    row = only(summary, quantity=TO_GENERALIZE)
    assert (row["estimate"], row["seeds"], row["missing"], row["censored"]) == (300, 1, 1, 0)


def test_shares_of_wrong_labels_are_of_those_that_changed():
    noisy = [run(seed, 100, 400, wrong=40, most=40 - seed, left=10) for seed in range(2)]
    summary = summary_of(*noisy, run(0, 100, 300))
    assert only(summary, quantity=PEAK)["estimate"] == pytest.approx(39.5 / 40)
    assert only(summary, quantity=LEFT)["estimate"] == pytest.approx(0.25)
    assert only(summary, quantity=GENERALIZED, **{NOISE: 0.1})["estimate"] == 1


def grid(*decays):
    return [
        run(seed, 100, 200 * examples // 100 if decay else None, decay, examples, width)
        for seed in range(3)
        for decay in decays
        for examples in (300, 400, 500)
        for width in (64, 128)
    ]


def test_the_figures_show_what_is_censored_at_the_end_of_training():
    summary = summary_of(*grid(0.0, 1.0))
    for figure in grokking.FIGURES[:2]:
        described = drawn(figure.draw, summary)
        marks = [trace for trace in described["data"] if trace["name"] == "not by half of the seeds"]
        assert marks and all(set(trace["y"]) == {BUDGET} for trace in marks)
        assert len(figure.rows(summary))
    assert set(grokking.along(summary, grokking.SHARE, grokking.WIDTH)[0][grokking.WIDTH]) == {128}


def test_figures_of_little_are_drawn():
    empty = summary_of(run(0, 100, 300)).iloc[:0]
    for figure in grokking.FIGURES:
        drawn(figure.draw, empty)
        drawn(figure.draw, summary_of(run(0, 100, 300)))
        drawn(figure.draw, summary_of(*grid(0.0, 1.0)[::5], run(0, 100, 400, wrong=40, most=40, left=10)))


# Curves.


def curve(seed, decay, *validation, noise=0.0, **fields):
    """Measurements every 10 steps."""
    base = {"data_task": "modular", "data_modulus": 31, "data_examples": 400, NOISE: noise, DECAY: decay}
    base |= {"stop_steps": 10 * len(validation), "seed": seed, "trial_id": f"{seed}-{decay}-{noise}", **fields}
    counts = {"train_correct_count": 99, "train_count": 100, "validation_count": 100}
    counts |= {"memorized_count": 30, "label_changed_count": 40 if noise else 0}
    rows = [{**base, **counts, "validation_correct_count": right} for right in validation]
    return trials(*rows).assign(step=[10 * (i + 1) for i in range(len(rows))])


def test_curves_are_of_no_decay_and_of_that_with_which_most_networks_generalize():
    steps = [
        *(curve(seed, 0.0, 10, 20, 30) for seed in range(2)),
        *(curve(seed, 0.3, 10, 50, 95 * seed) for seed in range(2)),
        *(curve(seed, 1.0, 10, 92, 95 + seed) for seed in range(2)),
        curve(0, 1.0, 10, 92, 95, noise=0.1),
    ]
    chosen = grokking_curves.select(pd.concat(steps, ignore_index=True))
    summary = grokking_curves.summarize(chosen)
    assert set(summary[summary[NOISE] == 0][DECAY]) == {0.0, 1.0}
    at_end = {"quantity": grokking_curves.VALIDATION, DECAY: 1.0, NOISE: 0.0, "step": 30}
    assert only(summary, seed=grokking_curves.MEAN, **at_end)["estimate"] == pytest.approx(0.955)
    assert only(summary, seed=1, **at_end)["estimate"] == pytest.approx(0.96)
    noisy = {"quantity": grokking_curves.MEMORIZED, "step": 20, "seed": 0}
    assert only(summary, **noisy)["estimate"] == pytest.approx(0.75)
    for figure in grokking_curves.FIGURES:
        assert drawn(figure.draw, summary)["data"] and len(figure.rows(summary))
        drawn(figure.draw, summary.iloc[:0])
