"""Claims of Choi (2018): what each makes of trials that bear it out, speak against it, or tell nothing."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.claims import choi2018, controls
from memsweep.analysis.claims.choi2018 import LSTM, PAPER, PLUS, PRU
from memsweep.analysis.claims.claim import MissingTrialsError, Paper
from memsweep.analysis.claims.verdicts import Verdict, judge_paper
from memsweep.analysis.questions import composition, persistence, sequence_ablation
from tests.claims import sides

SEEDS = 12


def claim(number):
    return PAPER.claims[number - 1]


def judged(number, rows):
    """The verdict on one claim, its p corrected for it alone."""
    own = Paper(PAPER.key, PAPER.title, PAPER.caveat, (claim(number),))
    return judge_paper(own, lambda query, sweep: rows).iloc[0]


def frame(fates, places=(("copy", 10, 16), ("adding", 10, 16))):
    """A row per seed, place and cell.  fates: cell -> seed -> columns."""
    rows = [
        {
            **{"trial_id": f"{task}{length}{width}{cell}{seed}", "sweep": "s", "seed": seed, "status": "finished"},
            **{"data_task": task, "data_sequence_length": length, "model_width": width, "model_cell": cell},
            **fate(seed),
        }
        for seed in range(SEEDS)
        for task, length, width in places
        for cell, fate in fates.items()
    ]
    return pd.DataFrame(rows)


def solved(step, budget=600):
    return lambda seed: {"solved_step": step if step is None else step + seed, "stop_steps": budget}


@pytest.mark.parametrize(
    ("lstm", "pru", "verdict"),
    [
        (300, 200, Verdict.REPRODUCED),
        (200, 300, Verdict.CONTRADICTED),
        (None, 200, Verdict.REPRODUCED),
        (300, None, Verdict.CONTRADICTED),
        (300, 300, Verdict.UNDECIDED),
    ],
)
def test_fewer_steps_to_solve(lstm, pru, verdict):
    assert judged(5, _steps(lstm, pru))["verdict"] == verdict


def test_nothing_solved_tells_no_speed():
    rows = frame(dict.fromkeys((LSTM, PRU, PLUS), solved(None)))
    assert judged(5, rows)["verdict"] == Verdict.NOT_RUN


@pytest.mark.parametrize(
    ("lstm", "pru", "verdict"),
    [(600, 400, Verdict.REPRODUCED), (None, 100, Verdict.REPRODUCED), (100, None, Verdict.CONTRADICTED)],
)
def test_lengths_solved(lstm, pru, verdict):
    assert judged(6, _lengths(lstm, pru))["verdict"] == verdict


@pytest.mark.parametrize("step", [100, None])
def test_a_ceiling_or_a_floor_tells_no_length(step):
    row = judged(6, frame({LSTM: solved(step), PRU: solved(step)}))
    assert row["verdict"] == Verdict.NOT_RUN and "by all trials or by none" in row["reason"]


def read_outs(lost, later):
    """Counts of 100 of read-outs of the first symbol: 95 at first, `lost` fewer at step 4, `later` if fitted there."""
    places = [("copy", 10, 16)]
    pieces = [
        frame({cell: lambda seed, n=n: {"correct_count": n} for cell, n in counts.items()}, places).assign(
            item=0, fitted_step=fitted, applied_step=applied, example_count=100
        )
        for fitted, applied, counts in (
            (0, 0, dict.fromkeys(lost, 95)),
            (0, 4, {cell: 95 - n for cell, n in lost.items()}),
            (4, 4, later),
        )
    ]
    return pd.concat(pieces, ignore_index=True)


@pytest.mark.parametrize(
    ("lost", "later", "verdict"),
    [
        ({LSTM: 40, PRU: 10}, {LSTM: 90, PRU: 90}, Verdict.REPRODUCED),
        ({LSTM: 10, PRU: 40}, {LSTM: 90, PRU: 90}, Verdict.CONTRADICTED),
        ({LSTM: 40, PRU: 30}, {LSTM: 60, PRU: 90}, Verdict.CONTRADICTED),  # the LSTM forgot; its code did not move
        ({LSTM: 40, PRU: 40}, {LSTM: 90, PRU: 90}, Verdict.UNDECIDED),
    ],
)
def test_read_outs_at_later_steps(lost, later, verdict):
    assert judged(7, read_outs(lost, later))["verdict"] == verdict


def capacities(density, generator):
    """Labels of twice the parameters, of which a cell holds `density` bits a parameter."""
    rows = frame(
        {cell: lambda seed, d=d: {"held": d * generator.normal(1, 0.03)} for cell, d in density.items()},
        [("random_sequences", 5, 8)],
    )
    right = rows["held"].map(lambda held: _share(held / 2))
    return rows.assign(
        parameter_count=1000, data_examples=2000, train_count=2000, class_count=2, train_correct_count=2000 * right
    )


def _share(bits_a_label):
    """The share of two classes predicted at which a label tells so many bits."""
    shares = np.linspace(0.5, 1, 10001)[1:-1]
    bits = 1 + shares * np.log2(shares) + (1 - shares) * np.log2(1 - shares)
    return np.interp(bits_a_label, bits, shares)


@pytest.mark.parametrize(
    ("gru", "verdict"), [(1.0, Verdict.REPRODUCED), (1.6, Verdict.CONTRADICTED), (1.25, Verdict.UNDECIDED)]
)
def test_bits_a_parameter(gru, verdict):
    assert judged(10, _bits(gru))["verdict"] == verdict


def test_cells_are_compared_at_like_budgets_alone():
    rows = capacities(dict.fromkeys((LSTM, "gru", PRU, PLUS), 1), np.random.default_rng(0))
    rows.loc[rows["model_cell"] == "gru", "parameter_count"] = 5000
    with pytest.raises(MissingTrialsError, match="gru and lstm with parameters"):
        choi2018.alike_by_parameter(rows)


def test_exchanged_cells_give_a_verdict_no_more_often_than_chance():
    generator = np.random.default_rng(1)
    draw = {cell: lambda seed: solved(int(generator.integers(100, 500)))(0) for cell in (LSTM, PRU, PLUS)}
    rate = controls.reproduced_by_chance(claim(5), frame(draw), np.random.default_rng(2), 40)
    assert rate <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)
    lost = read_outs({LSTM: 40, PRU: 10}, {LSTM: 90, PRU: 90})
    rate = controls.reproduced_by_chance(claim(7), lost, np.random.default_rng(2), 40)
    assert rate <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)


ABLATED = [("copy", 10, 32), ("adding", 10, 32), ("recall", 10, 32)]


def ablated(**quality):
    """Trials of the ablation, of which a cell's is as good as told, less a seed's own noise."""

    def counts(good):
        return lambda seed: {
            "validation_target_correct_count": 500 + 100 * good + seed,
            "validation_squared_error_sum": 500 - 100 * good - seed,
        }

    cells = {name.replace("_plus", "+plus_out"): counts(good) for name, good in quality.items() if name != "wider"}
    wider = frame({PRU: counts(quality["wider"])}, [(task, length, 36) for task, length, _ in ABLATED])
    rows = pd.concat([frame(cells, ABLATED), wider], ignore_index=True)
    return rows.assign(validation_target_count=1000, data_vocabulary=8)


LADDER = {"lstm": 3, "pru_c": 2, "pru_a": 1, "pru_b": 0, "pru_a_plus": 4, "wider": 2}


@pytest.mark.parametrize(
    ("number", "changed", "verdict"),
    [
        (2, {"pru_a": 4}, Verdict.REPRODUCED),
        (2, {}, Verdict.CONTRADICTED),
        (2, {"pru_a": 3}, Verdict.UNDECIDED),
        (3, {}, Verdict.REPRODUCED),
        (3, {"wider": 5}, Verdict.CONTRADICTED),
        (3, {"wider": 4}, Verdict.UNDECIDED),
        (4, {}, Verdict.REPRODUCED),
        (4, {"lstm": 5}, Verdict.CONTRADICTED),
        (9, {}, Verdict.REPRODUCED),
        (9, {"pru_b": 2}, Verdict.CONTRADICTED),
    ],
)
def test_cells_with_less_recurrence(number, changed, verdict):
    assert judged(number, ablated(**LADDER | changed))["verdict"] == verdict


def test_two_tasks_of_three_are_most():
    rows = ablated(**LADDER)
    spoilt = (rows["data_task"] == "copy") & (rows["model_cell"] == PLUS)
    assert (
        judged(4, rows.assign(validation_target_correct_count=rows["validation_target_correct_count"].mask(spoilt, 0)))[
            "verdict"
        ]
        == Verdict.REPRODUCED
    )
    assert judged(4, rows[rows["data_task"] != "copy"])["verdict"] == Verdict.NOT_RUN


def test_a_cell_is_taken_at_its_better_learning_rate():
    rows = ablated(**LADDER)
    worse = rows.assign(trial_id=rows["trial_id"] + "b", validation_target_correct_count=0)
    worse["validation_squared_error_sum"] = 1e4
    found = sequence_ablation.summarize(pd.concat([worse, rows], ignore_index=True))
    at = found[(found["data_task"] == "copy") & (found["cell"] == "lstm")]
    assert at["estimate"].item() == pytest.approx(0.8 + 5.5e-3) and at["seeds"].item() == SEEDS
    assert set(found["cell"]) == {"lstm", "pru_c", "pru_a", "pru_b", PLUS, "pru_a of width 36"}


def shares(**changed):
    """Trials whose Jacobians lie off their diagonals by this share of their norm."""
    share = {"lstm": 0.3, "pru_a": 0.0, "pru_b": 0.0, "pru_c": 1e-9, "pru_d": 0.0} | changed
    rows = frame({cell: lambda seed, s=s: {"off_diagonal_square_sum": 9 * s**2} for cell, s in share.items()})
    return rows.assign(layer=1, square_sum=9.0)


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, Verdict.HOLDS),
        ({"lstm": 0.005}, Verdict.FAILS),
        ({"pru_d": 1e-5}, Verdict.FAILS),
        ({"pru_c": np.nan}, Verdict.NOT_RUN),
    ],
)
def test_dimensions_that_keep_to_themselves(changed, verdict):
    assert judged(1, shares(**changed))["verdict"] == verdict


def test_mixing_is_told_by_cell():
    rows = shares(lstm=0.5).assign(validation_target_count=1)
    rows.loc[(rows["seed"] == 0) & (rows["model_cell"] == "lstm"), "status"] = "missing"
    found = persistence.summarize(rows.drop_duplicates(["seed", "model_cell"]))
    row = found[found["model_cell"] == "lstm"].iloc[0]
    assert (row["estimate"], row["seeds"], row["missing"]) == (pytest.approx(0.5), SEEDS - 1, 1)
    for figure in persistence.FIGURES:
        axes = plt.figure().subplots()
        figure.draw(found, axes)
        figure.draw(persistence.summarize(rows[:0]), axes)
        plt.close("all")


def composed(**share):
    """Trials that compose permutations, a cell telling this share of 1000 right, give or take its seed."""
    cells = {cell: lambda seed, n=n: {"validation_target_correct_count": 1000 * n + seed} for cell, n in share.items()}
    return frame(cells, [("composition", 4, 32), ("composition", 8, 32)]).assign(validation_target_count=1000)


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        ({"lstm": 0.9, "pru_a": 0.6, "pru_b": 0.4}, Verdict.REPRODUCED),
        ({"lstm": 0.9, "pru_a": 0.95, "pru_b": 0.4}, Verdict.CONTRADICTED),
        ({"lstm": 0.9, "pru_a": 0.3, "pru_b": 0.4}, Verdict.CONTRADICTED),
        ({"lstm": 0.9, "pru_a": 0.9, "pru_b": 0.4}, Verdict.UNDECIDED),
        ({"lstm": 0.9, "pru_a": 0.6}, Verdict.NOT_RUN),
    ],
)
def test_permutations_favour_cells_that_mix(share, verdict):
    assert judged(8, composed(**share))["verdict"] == verdict


def test_exchanged_cells_compose_no_better_than_chance():
    rows = composed(lstm=0.9, pru_a=0.6, pru_b=0.4)
    rate = controls.reproduced_by_chance(claim(8), rows, np.random.default_rng(2), 40)
    assert rate <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)


def _steps(lstm, pru):
    return frame({LSTM: solved(lstm), PRU: solved(pru), PLUS: solved(100)})


def _lengths(lstm, pru):
    mixed = frame({LSTM: solved(100), PRU: solved(100)}, [("copy", 20, 16)])
    mixed.loc[mixed["seed"] < 2, "solved_step"] = np.nan  # alike, but neither all nor none
    return pd.concat([mixed, frame({LSTM: solved(lstm), PRU: solved(pru)})], ignore_index=True)


def _bits(gru):
    return capacities({LSTM: 1, "gru": gru, PRU: 1, PLUS: 0.95}, np.random.default_rng(0))


LATER = {LSTM: 90, PRU: 90}
TABLES = {
    2: sides(lambda: ablated(**LADDER | {"pru_a": 4}), lambda: ablated(**LADDER)),
    3: sides(lambda: ablated(**LADDER), lambda: ablated(**LADDER | {"wider": 5})),
    4: sides(lambda: ablated(**LADDER), lambda: ablated(**LADDER | {"lstm": 5})),
    5: sides(lambda: _steps(300, 200), lambda: _steps(200, 300)),
    6: sides(lambda: _lengths(600, 400), lambda: _lengths(100, None)),
    7: sides(lambda: read_outs({LSTM: 40, PRU: 10}, LATER), lambda: read_outs({LSTM: 10, PRU: 40}, LATER)),
    8: sides(lambda: composed(lstm=0.9, pru_a=0.6, pru_b=0.4), lambda: composed(lstm=0.9, pru_a=0.95, pru_b=0.4)),
    9: sides(lambda: ablated(**LADDER), lambda: ablated(**LADDER | {"pru_b": 2})),
    10: sides(lambda: _bits(1.0), lambda: _bits(1.6)),
}


def test_compositions_are_told_by_cell_and_length():
    rows = composed(lstm=0.9, pru_b=0.4)
    rows.loc[rows["seed"] == 0, "status"] = "missing"
    found = composition.summarize(rows)
    row = found[(found["model_cell"] == "lstm") & (found["data_sequence_length"] == 8)].iloc[0]
    assert (row["estimate"], row["seeds"], row["missing"]) == (pytest.approx(0.906), SEEDS - 1, 1)
    for figure in composition.FIGURES:
        for summary in (found, composition.summarize(rows[:0])):
            figure.draw(summary, plt.figure().subplots())
    plt.close("all")
