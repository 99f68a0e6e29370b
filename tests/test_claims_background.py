"""Claims of the capacity background: what each says of invented trials, and of exchanged ones."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

from memsweep.analysis.claims import background_evidence as evidence
from memsweep.analysis.claims import controls, feedforward_evidence
from memsweep.analysis.claims.background import PAPER
from memsweep.analysis.claims.claim import Fact, ImpossibleError, MissingTrialsError, Paper
from memsweep.analysis.claims.verdicts import ALPHA, Verdict, judge_paper
from memsweep.analysis.core import figures
from memsweep.analysis.questions import cover, reconstruction, trainability
from tests.claims import seeds_of, sides

SEEDS = range(seeds_of("sequence_capacity", "sequence_length", "reconstruction", "trainability", "random_labels"))


def judged(number, rows):
    """The verdict on a claim that is tested alone."""
    own = Paper("p", "P", "", (PAPER.claims[number - 1],))
    return judge_paper(own, lambda query, sweep: rows).iloc[0]["verdict"]


def cell_rows(per_parameter, lengths=((5, 1.0),), slope=1.0):
    """Labels that each cell holds: all of the largest set fitted, at so many bits a parameter.

    lengths: (length, factor of the bits).
    """
    generator = np.random.default_rng(0)
    rows = []
    for cell, ratio in per_parameter.items():
        for width in (4, 8, 16):
            for length, factor in lengths:
                for seed in SEEDS:
                    parameters = 100 * width
                    held = factor * ratio * (width / 8) ** (slope - 1) * parameters * (1 + 0.02 * generator.normal())
                    rows += [
                        trial(cell, width, parameters, round(held), 1.0, seed, length),
                        trial(cell, width, parameters, round(9 * parameters), 0.55, seed, length),
                    ]
    return pd.DataFrame(rows).assign(trial_id=lambda rows: [f"t{i}" for i in range(len(rows))])


def trial(cell, width, parameters, examples, accuracy, seed, length=5):
    return {
        "data_task": "random_sequences",
        "data_label_scheme": "random",
        "data_noise_kind": "none",
        "compute_dtype": "float32",
        "model_family": "recurrent",
        "model_cell": cell,
        "model_width": width,
        "data_sequence_length": length,
        "data_vocabulary": 0,
        "data_examples": examples,
        "parameter_count": parameters,
        "class_count": 2,
        "train_count": examples,
        "train_correct_count": round(accuracy * examples),
        "train_loss_sum_nats": 1.0,
        "seed": seed,
    }


USUAL = {"rnn": 4.0, "gru": 3.6, "lstm": 3.2, "irnn": 3.0}
UNROLLED = ((1, 0.8), (5, 1.0), (10, 1.02))


@pytest.mark.parametrize(
    ("number", "rows", "verdict"),
    [
        (5, cell_rows(USUAL), Verdict.REPRODUCED),
        (5, cell_rows(USUAL, slope=0.5), Verdict.CONTRADICTED),
        (6, cell_rows(USUAL), Verdict.REPRODUCED),
        (6, cell_rows({**USUAL, "lstm": 1.5}), Verdict.CONTRADICTED),
        (6, cell_rows({**USUAL, "irnn": 3.9}), Verdict.CONTRADICTED),
        (6, cell_rows({cell: USUAL[cell] for cell in evidence.CELLS}), Verdict.NOT_RUN),
        (7, cell_rows(USUAL), Verdict.REPRODUCED),
        (7, cell_rows({**USUAL, "gru": 4.5}), Verdict.CONTRADICTED),
        (7, cell_rows({**USUAL, "lstm": 2.0}), Verdict.CONTRADICTED),
        (7, cell_rows({**USUAL, "rnn": 3.63}), Verdict.UNDECIDED),
        (8, cell_rows(USUAL, lengths=UNROLLED), Verdict.REPRODUCED),
        (8, cell_rows(USUAL, lengths=((1, 0.8), (5, 1.0), (10, 1.3))), Verdict.CONTRADICTED),
        (8, cell_rows(USUAL), Verdict.NOT_RUN),
    ],
)
def test_bits_of_cells(number, rows, verdict):
    assert judged(number, rows) == verdict


def test_sets_that_offer_no_more_than_the_upper_bound_decide_nothing():
    rows = cell_rows(USUAL)
    assert judged(6, rows[rows["data_examples"] < 6 * rows["parameter_count"]]) == Verdict.NOT_RUN


def test_cells_are_compared_at_one_length():
    longer = cell_rows({"lstm": 9.0}, lengths=((10, 1.0),))
    assert judged(7, pd.concat([cell_rows(USUAL), longer], ignore_index=True)) == Verdict.REPRODUCED


def test_unrolling_is_told_of_networks_with_all_lengths():
    whole = cell_rows({"rnn": 4.0}, lengths=UNROLLED)
    other = cell_rows({"lstm": 0.5})  # of 5 steps alone, which would pull those down
    assert judged(8, pd.concat([whole, other], ignore_index=True)) == Verdict.REPRODUCED


def copied(rnn, gru=20, lstm=20, sizes=(1400, 1160, 1540)):
    """Copying over 10, 20 and 40 steps, of which a cell solves those up to its own longest."""
    rows = [
        {
            **{"data_task": "copy", "data_sequence_length": length, "model_cell": cell, "model_width": size // 40},
            **{"parameter_count": size, "seed": seed, "status": "finished", "sweep": "s", "stop_steps": 600},
            **{"solved_step": 100.0 if length <= longest else np.nan, "trial_id": f"{cell}{length}{seed}"},
        }
        for seed in SEEDS
        for length in (10, 20, 40)
        for cell, longest, size in zip(evidence.CELLS, (rnn, gru, lstm), sizes, strict=True)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (copied(rnn=10), Verdict.REPRODUCED),
        (copied(rnn=10, gru=10), Verdict.UNDECIDED),
        (copied(rnn=40), Verdict.CONTRADICTED),
        (copied(rnn=20), Verdict.UNDECIDED),
        (copied(rnn=10, sizes=(700, 1160, 1540)), Verdict.NOT_RUN),
    ],
)
def test_gated_cells_solve_longer_sequences(rows, verdict):
    assert judged(14, rows) == verdict


def random_rows(true=16, noise=80, gaussian=25, errors=(0.05, 0.17, 0.31, 0.5, 0.7, 0.9), missed=0):
    """Epochs until all labels are fitted, by what is random, and test errors by the share of random labels."""
    settings = [("none", 0.0, true, errors[0]), ("gaussian_inputs", 1.0, gaussian, 0.9)]
    settings += [("labels", 0.2 * i, noise, error) for i, error in enumerate(errors) if i]
    rows = [
        {
            **{"data_noise_kind": kind, "data_noise_fraction": round(fraction, 1), "seed": seed, "class_count": 10},
            **{"fitted_step": 10 * (epochs + seed % 3), "optimizer_batch_size": 50, "data_examples": 500},
            **{"train_count": 500, "train_correct_count": 500 - missed, "test_count": 1000},
            "test_correct_count": round(1000 * (1 - error)) - seed % 4,
        }
        for kind, fraction, epochs, error in settings
        for seed in SEEDS
    ]
    return pd.DataFrame(rows).assign(trial_id=lambda rows: [f"t{i}" for i in range(len(rows))])


@pytest.mark.parametrize(
    ("number", "rows", "verdict"),
    [
        (3, random_rows(), Verdict.REPRODUCED),
        (3, random_rows(noise=10), Verdict.CONTRADICTED),
        (3, random_rows(noise=400), Verdict.CONTRADICTED),
        (3, random_rows(gaussian=120), Verdict.CONTRADICTED),
        (3, random_rows(missed=5), Verdict.CONTRADICTED),
        (4, random_rows(), Verdict.REPRODUCED),
        (4, random_rows(missed=5), Verdict.CONTRADICTED),
        (4, random_rows(errors=(0.05, 0.17, 0.12, 0.5, 0.7, 0.9)), Verdict.CONTRADICTED),
        (4, random_rows(errors=(0.05, 0.17, 0.31, 0.4, 0.5, 0.6)), Verdict.CONTRADICTED),
        (4, random_rows(errors=(0.05, 0.9)), Verdict.NOT_RUN),
    ],
)
def test_random_labels(number, rows, verdict):
    assert judged(number, rows) == verdict


def test_a_linear_program_counts_as_cover_does():
    cover_facts = PAPER.claims[1].measure(pd.DataFrame())
    assert all(fact.holds for fact in cover_facts)
    assert cover_facts[0].value < 0.05 and cover_facts[1].value > 0.2


def test_shares_that_cover_does_not_count_fail(monkeypatch):
    shares = {key: share - 0.1 for key, share in feedforward_evidence.separable_shares().items()}
    monkeypatch.setattr(feedforward_evidence, "separable_shares", lambda: shares)
    assert not PAPER.claims[1].measure(pd.DataFrame())[0].holds


@pytest.mark.parametrize("points", [15, 22])
def test_points_are_separable_where_scipys_program_finds_a_plane(points):
    for seed in range(20):
        signed = np.random.default_rng([points, seed]).normal(size=(points, 10))
        plane = linprog(np.zeros(10), -signed, -np.ones(points), bounds=(None, None))
        assert feedforward_evidence.is_separable(signed) == plane.success


def test_covers_count():
    published = {(10, 1.8): 0.686, (50, 1.8): 0.856, (50, 2.2): 0.169, (200, 2.2): 0.028}
    for (weights, ratio), share in published.items():
        assert cover.separable(round(ratio * weights), weights) == pytest.approx(share, abs=1e-3)


def vectors(lost=lambda units: max(0.0, 1 - units), **of_cells):
    """Squared errors of 16 numbers by cells of 8, 12, 16 and 24 units: a function of units a number."""
    rows = [
        {
            **{"data_task": "reconstruction", "data_input_dim": 16, "data_sequence_length": 3, "data_vocabulary": 0},
            **{"model_cell": cell, "model_width": width, "parameter_count": 100 * width, "seed": seed},
            **{"validation_target_count": 1600, "validation_target_correct_count": 0, "status": "finished"},
            "validation_squared_error_sum": 1600 * of_cells.get(cell, lost)(width / 16) + 5 + seed % 3,
        }
        for cell in evidence.CELLS
        for width in (8, 12, 16, 24)
        for seed in SEEDS
    ]
    return pd.DataFrame(rows).assign(trial_id=lambda rows: [f"t{i}" for i in range(len(rows))])


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (vectors(), Verdict.REPRODUCED),
        (vectors(gru=lambda units: 0.02 + max(0.0, 1 - units)), Verdict.CONTRADICTED),  # never back
        (vectors(lambda units: max(0.0, 1 - 2 * units)), Verdict.CONTRADICTED),  # two numbers a unit
        (vectors(lstm=lambda units: 1.08 * max(0.0, 1 - units)), Verdict.REPRODUCED),
        (vectors(lambda u: 0.92 * max(0.0, 1 - u), lstm=lambda u: 1.08 * max(0.0, 1 - u)), Verdict.CONTRADICTED),
        (vectors()[lambda rows: rows["model_width"] >= 16], Verdict.NOT_RUN),
    ],
)
def test_a_cell_holds_a_number_a_unit(rows, verdict):
    assert judged(9, rows) == verdict


def trained(rnn=6, irnn=8, gru=3, lstm=4):
    """Twelve learning rates a cell and seed, the largest of which diverge: half to numbers, half to none."""
    rows = [
        {
            **{"model_cell": cell, "optimizer_learning_rate": 0.01 * 2**rate, "seed": seed, "class_count": 2},
            **{"train_count": 128, "status": "diverged" if rate % 2 and rate >= 12 - count else "finished"},
            "train_loss_sum_nats": np.nan if rate % 2 else 128 * (1.5 if rate >= 12 - count else 0.7),
        }
        for cell, count in (("rnn", rnn), ("irnn", irnn), ("gru", gru), ("lstm", lstm))
        for rate in range(12)
        for seed in SEEDS
    ]
    return pd.DataFrame(rows).assign(trial_id=lambda rows: [f"t{i}" for i in range(len(rows))])


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (trained(), Verdict.REPRODUCED),
        (trained(lstm=12), Verdict.CONTRADICTED),
        (trained(gru=10), Verdict.UNDECIDED),
        (trained()[lambda rows: rows["model_cell"] != "irnn"], Verdict.NOT_RUN),
    ],
)
def test_gates_keep_training_from_diverging(rows, verdict):
    assert judged(13, rows) == verdict


def test_a_trial_diverges_by_its_weights_or_its_loss():
    status = ["diverged", "finished", "finished", "failed"]
    rows = pd.DataFrame({"status": status, "train_loss_sum_nats": [np.nan, 150.0, 70.0, np.nan]})
    found = trainability.diverged(rows.assign(train_count=100, class_count=2))
    assert list(found[:3]) == [1, 1, 0] and np.isnan(found[3])


@pytest.mark.parametrize(("module", "rows"), [(reconstruction, vectors()), (trainability, trained())])
def test_figures_are_drawn(module, rows):
    for shown in (rows, rows.assign(status="missing")):
        summary = module.summarize(shown)
        for figure in module.FIGURES:
            with figures.canvas() as ax:
                figure.draw(summary, ax)
                assert ax.get_xlabel() or ax.texts
    assert module.summarize(rows)["estimate"].notna().all()


def string_rows(plateau, shortfall=1.0):
    """Strings that an attention network tells: all of the set up to a plateau, in bits a parameter."""
    rows = []
    for width in (8, 16):
        for examples in (8, 16, 64, 128):
            for seed in SEEDS:
                parameters, whole = 10 * width, examples * 8 * 4
                held = min(whole, shortfall * plateau * parameters if examples == 64 else plateau * parameters)
                row = trial("none", width, parameters, examples, 0.0, seed, 8)
                strings = {"data_task": "strings", "model_family": "attention", "data_vocabulary": 16}
                rows.append({**row, **strings, "train_loss_sum_nats": (whole - held) * np.log(2)})
    return pd.DataFrame(rows).assign(trial_id=lambda rows: [f"t{i}" for i in range(len(rows))])


@pytest.mark.parametrize(
    ("plateau", "shortfall", "verdict"),
    [
        (3.6, 1.0, Verdict.REPRODUCED),
        (2.0, 1.0, Verdict.CONTRADICTED),
        (3.6, 0.7, Verdict.CONTRADICTED),
    ],
)
def test_the_plateau_of_a_transformer(plateau, shortfall, verdict):
    assert judged(10, string_rows(plateau, shortfall)) == verdict


def test_the_network_of_2n_and_d_weights_tells_all_labels():
    drawn = (np.random.default_rng(0).normal(size=shape) for shape in ((50, 3), 50, 3))
    found = feedforward_evidence.two_n_plus_d(*drawn)
    assert found[0] < 1e-6 and found[1] == 2 * 50 + 3
    weights, error = PAPER.claims[0].measure(pd.DataFrame())
    assert isinstance(weights, Fact) and weights.holds and error.holds and 0 < error.value < 1e-5


def test_nobody_holds_more_bits_than_the_weights_have():
    rows = cell_rows(USUAL)
    (fact,) = PAPER.claims[14].measure(rows)
    assert fact.holds and fact.checked == len(rows) and fact.value == pytest.approx(4 / 32, rel=0.1)
    with pytest.raises(ImpossibleError, match="of its weights"):
        PAPER.claims[14].measure(cell_rows({"rnn": 33.0}))


def test_of_noise_only_wrong_labels_count():
    row = {**trial("none", 8, 100, 1000, 1.0, 0), "data_label_scheme": "task", "data_task": "digits"}
    noisy = {"data_noise_kind": "labels", "class_count": 10, "memorized_count": 80, "label_changed_count": 80}
    rows = pd.DataFrame([{**row, **noisy, "trial_id": "t"}])
    (fact,) = PAPER.claims[14].measure(rows)
    assert fact.value == pytest.approx(80 * np.log2(9) / 100 / 32)
    with pytest.raises(MissingTrialsError, match="no trial of random labels"):
        PAPER.claims[14].measure(rows.assign(data_noise_kind="none"))


@pytest.mark.parametrize("number", [claim.number for claim in PAPER.claims if claim.shuffled])
def test_exchanged_settings_reproduce_no_more_often_than_chance(number):
    claim = PAPER.claims[number - 1]
    lengths = UNROLLED if number == 8 else ((5, 1.0),)
    others = {3: random_rows(), 4: random_rows(), 9: vectors(), 13: trained(), 14: copied(rnn=10)}
    rows = others.get(number, cell_rows(USUAL, lengths))
    rate = controls.reproduced_by_chance(claim, rows.assign(sweep="s"), np.random.default_rng(1), shuffles=20)
    assert rate <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / 20)


@pytest.mark.parametrize("claim", [claim for claim in PAPER.claims if not claim.sweeps and not claim.is_check])
def test_what_no_sweep_can_decide_says_why(claim):
    with pytest.raises(MissingTrialsError, match=r"^(no )?sweep .* "):
        claim.measure(pd.DataFrame())


TABLES = {
    3: sides(random_rows, lambda: random_rows(noise=10)),
    4: sides(random_rows, lambda: random_rows(errors=(0.05, 0.17, 0.12, 0.5, 0.7, 0.9))),
    5: sides(lambda: cell_rows(USUAL), lambda: cell_rows(USUAL, slope=0.5)),
    6: sides(lambda: cell_rows(USUAL), lambda: cell_rows({**USUAL, "lstm": 1.5})),
    7: sides(lambda: cell_rows(USUAL), lambda: cell_rows({**USUAL, "gru": 4.5})),
    8: sides(lambda: cell_rows(USUAL, UNROLLED), lambda: cell_rows(USUAL, (*UNROLLED[:2], (10, 1.3)))),
    9: sides(vectors, lambda: vectors(gru=lambda units: 0.02 + max(0.0, 1 - units))),
    10: sides(lambda: string_rows(3.6), lambda: string_rows(2.0)),
    13: sides(trained, lambda: trained(lstm=12)),
    14: sides(lambda: copied(rnn=10), lambda: copied(rnn=40)),
}


def test_an_error_beside_guessing_is_not_guessing():
    assert judged(4, random_rows(errors=(0.05, 0.17, 0.31, 0.5, 0.7, 0.87))) == Verdict.CONTRADICTED
