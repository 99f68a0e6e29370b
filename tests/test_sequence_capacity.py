"""How many bits sequence models hold, of hand-made trials whose answers are known."""

import numpy as np
import pytest

from memsweep.analysis.questions import capacity, sequence_capacity
from tests.test_analysis import drawn, only, trials


def labelled(size, seed, right, cell="lstm", width=8, p=100, **fields):
    data = {"data_task": "random_sequences", "data_sequence_length": 5, "data_examples": size, "class_count": 2}
    counts = {"train_correct_count": right, "train_count": size, "parameter_count": p, "model_family": "recurrent"}
    return {"seed": seed, "model_cell": cell, "model_width": width, **data, **counts, **fields}


def spelled(size, seed, loss, **fields):
    data = {"data_task": "strings", "data_sequence_length": 4, "data_vocabulary": 8, "train_loss_sum_nats": loss}
    return labelled(size, seed, 0, **{**data, **fields})


def held(*rows):
    return sequence_capacity.summarize(trials(*rows))


def test_code_length_is_what_is_left_of_the_strings_entropy():
    guessing = 10 * 4 * np.log(8)
    found = sequence_capacity.code_length(*np.array([[10.0] * 3, [4.0] * 3, [8.0] * 3, [0, guessing / 2, guessing]]))
    assert found == pytest.approx([120, 60, 0])


def test_bits_are_the_best_over_sizes_and_ways_to_train():
    rows = [
        labelled(100, 0, 100, optimizer_learning_rate=0.1), labelled(100, 0, 50, optimizer_learning_rate=0.2),
        labelled(400, 0, 300, optimizer_learning_rate=0.1), labelled(400, 0, 360, optimizer_learning_rate=0.2),
        labelled(800, 0, 480, optimizer_learning_rate=0.1), labelled(800, 0, 500, optimizer_learning_rate=0.2),
    ]  # fmt: skip
    summary = held(*rows)
    best = capacity.bits(np.array([400.0]), np.array([0.9]), np.array([2.0]))[0]
    bits, rate = (only(summary, quantity=name) for name in (sequence_capacity.BITS, sequence_capacity.PER_PARAMETER))
    assert (bits["estimate"], rate["estimate"]) == (pytest.approx(best), pytest.approx(best / 100))
    assert (bits["at_least"], bits["tried"], bits["variant"]) == (0, 6, "")
    by_size = summary[summary["quantity"] == sequence_capacity.BITS_BY_SIZE]
    assert by_size["set_bits"].tolist() == [100, 400, 800] and by_size["estimate"].iloc[0] == 100


def test_a_largest_set_that_held_most_is_marked():
    growing = [labelled(size, seed, size) for seed in range(2) for size in (50, 100)]
    assert only(held(*growing), quantity=sequence_capacity.BITS)["at_least"] == 2
    unknown = [*growing, *(labelled(200, seed, 0, status="failed") for seed in range(2))]
    row = only(held(*unknown), quantity=sequence_capacity.BITS)
    assert (row["estimate"], row["at_least"]) == (100, 2)
    names = {t["name"] for t in drawn(sequence_capacity.draw, held(*growing), task="random_sequences")["data"]}
    assert "at least: still growing" in names


def test_strings_are_counted_by_their_code():
    guessing = 4 * np.log(8)  # nats a string
    rows = [spelled(10, 0, 0.0), spelled(20, 0, 10 * guessing), spelled(40, 0, 41 * guessing)]
    summary = held(*rows)
    by_size = summary[summary["quantity"] == sequence_capacity.BITS_BY_SIZE]
    assert by_size["estimate"].tolist() == pytest.approx([120, 120, -12])
    bits = only(summary, quantity=sequence_capacity.BITS)
    assert bits["estimate"] == pytest.approx(120) and "Morris" in bits["definition"]


def test_the_two_definitions_are_never_mixed():
    summary = held(labelled(50, 0, 50), spelled(10, 0, 0.0))
    assert summary.groupby("data_task")["definition"].nunique().tolist() == [1, 1]
    assert summary["definition"].nunique() == 2
    lines = {
        task: {t["name"] for t in drawn(sequence_capacity.draw, summary, task=task)["data"]}
        for task in sequence_capacity.DEFINITIONS
    }
    assert any("Morris" in name for name in lines["strings"])
    assert not any("Collins" in name or "Cover" in name for name in lines["strings"])
    assert not any("Morris" in name for name in lines["random_sequences"])


def test_a_trial_without_result_is_a_hole_in_the_capacity():
    rows = [
        labelled(50, 0, 50),
        labelled(50, 1, 25, status="diverged"),
        labelled(50, 0, 0, cell="gru", status="failed"),
    ]
    summary = held(*rows)
    lstm, gru = (only(summary, quantity=sequence_capacity.BITS, model_cell=cell) for cell in ("lstm", "gru"))
    assert (lstm["estimate"], lstm["seeds"], lstm["missing"]) == (50, 1, 1)
    assert np.isnan(gru["estimate"]) and (gru["seeds"], gru["missing"], gru["at_least"]) == (0, 1, 0)


def test_a_vocabulary_of_the_tasks_own_tells_no_code_length():
    row = only(held(spelled(10, 0, 0.0, data_vocabulary=0)), quantity=sequence_capacity.BITS)
    assert np.isnan(row["estimate"]) and row["missing"] == 1


def test_cells_and_lengths_are_curves_of_their_own():
    rows = [labelled(50, 0, 50, cell=cell, data_sequence_length=t) for cell in ("rnn", "lstm") for t in (2, 5)]
    names = {t["name"] for t in drawn(sequence_capacity.draw, held(*rows), task="random_sequences")["data"]}
    assert {"rnn, T = 2", "rnn, T = 5", "lstm, T = 2", "lstm, T = 5"} <= names
