"""Probes of sequence networks: recall by position and read-outs, and when a task counts as solved."""

import numpy as np
import pytest
import torch

from memsweep.data import tasks
from memsweep.engine.probes import jacobians, positions, readouts
from memsweep.engine.train import trainer
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack
from memsweep.run.worker.execution import run_pack
from tests.cases import trial

COPY = {"data__examples": 300, "data__validation_examples": 120, "model__width": 24, "optimizer__epochs": 200}
SOLVABLE = {**COPY, "data__items": 1, "data__vocabulary": 2, "data__sequence_length": 4, "stop__measure_steps": 20}


def trained(case, count, **fields):
    trials = [trial(case, seed=seed, **fields) for seed in range(3)]
    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    for _ in range(count):
        state, measured = trainer.advance(program, state, trainer.steps_to_measurement(state))
    return program, state, measured


@pytest.mark.parametrize(
    "case", ["lstm, copy", "pru_c+plus_state, recall", "gru, adding, truncated", "attention, strings"]
)
def test_positions_add_up_to_the_measurement(case):
    program, state, measured = trained(case, 3, data__validation_examples=300)
    found = positions.measure(program, state)
    for m in range(3):
        for column, values in (("target_correct_count", found.correct), ("target_count", found.total)):
            assert values[m].sum() == measured.counts[f"validation_{column}"][m]
        assert found.loss[m].sum().item() == pytest.approx(measured.counts["validation_loss_sum_nats"][m], rel=1e-5)


def test_a_symbol_that_is_still_there_is_read_later_and_one_that_has_moved_is_not():
    """States made by hand: the symbol in one half of the units, which change places at one step."""
    program, state, _ = trained("lstm, copy", 1, data__validation_examples=200)
    symbols = torch.tensor(np.stack([member.data.held_out_targets for member in state.members]))
    code = torch.nn.functional.one_hot(symbols[:, :, 0], 4).double()
    still = torch.cat([code, torch.zeros_like(code)], -1)[:, :, None].repeat(1, 1, 9, 1)
    still[:, :, 2:] = still[:, :, 2:].roll(4, -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readouts, "_hidden_states", lambda *_: still)
        found = {(r.fitted_step, r.applied_step): r for r in readouts.measure(program, state) if r.item == 0}
    assert set(found) == {(0, 0), (0, 1), (1, 1), (0, 2), (2, 2), (0, 4), (4, 4)}
    for (fitted, applied), readout in found.items():
        share = readout.correct / readout.examples
        assert readout.examples == 100
        assert (share == 1).all() if fitted == applied or applied == 1 else (share < 0.6).all()


def test_hidden_states_are_what_the_read_out_reads():
    program, state, _ = trained("pru_a+plus_out, copy", 1)
    found = readouts._hidden_states(program, state, 40)
    member, own = state.members[1], {name: value[1] for name, value in state.parameters.items()}
    model = program.evaluated
    with torch.no_grad():
        answers = torch.func.functional_call(model, own, (torch.tensor(member.data.held_out_inputs),))
    read = found[1, :, -program.form.positions :].float() @ own["readout.weight"].T + own["readout.bias"]
    assert torch.allclose(read, answers, atol=1e-5)


JACOBIANS = {"data__validation_examples": 9, "model__width": 5, "model__depth": 2}


def mixed(case, **fields):
    """Share of the Jacobian's norm off its diagonal, [layers, M]."""
    program, state, _ = trained(case, 1, **JACOBIANS, **fields)
    found = jacobians.measure(program, state)
    assert [own.layer for own in found] == [1, 2] and found[0].matrices == 9 * (program.form.steps - 1)
    return torch.stack([own.off_diagonal_square_sum / own.square_sum for own in found]).sqrt()


@pytest.mark.parametrize("cell", ["pru_a", "pru_b", "pru_c", "pru_d", "pru_a+plus_out", "pru_c+plus_state"])
def test_with_gates_held_dimensions_of_a_trained_pru_keep_to_themselves(cell):
    assert (mixed("lstm, copy", model__cell=cell) < 1e-6).all()


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "ugrnn"])
def test_others_mix_dimensions(cell):
    found = mixed("lstm, copy", model__cell=cell)
    assert (found > 0.01).all() and (found < 1).all()


def test_the_jacobian_of_an_lstm_is_the_formula():
    """dc_t/dc_{t-1} = diag(f) + diag(i (1 - g^2)) Uc diag(o_{t-1} (1 - tanh(c_{t-1})^2)), of every member."""
    program, state, _ = trained("lstm, copy", 1, **{**JACOBIANS, "model__depth": 1})
    (found,) = jacobians.measure(program, state)
    for m, member in enumerate(state.members):
        own = {name.removeprefix("cells.0."): value[m].double() for name, value in state.parameters.items()}
        tokens = torch.tensor(member.data.held_out_inputs[:9]).long()
        h = c = o = torch.zeros(9, 5, dtype=torch.float64)
        total = off_diagonal = 0.0
        for t in range(program.form.steps):
            read = own["weight"].T[tokens[:, t]] + own["bias"] + h @ own["recurrent"].T
            i, f, new_o, g = (
                part(x) for part, x in zip((*[torch.sigmoid] * 3, torch.tanh), read.split(5, 1), strict=True)
            )
            candidate = own["recurrent"].split(5)[3]
            mixing = (i * (1 - g**2))[:, :, None] * candidate * (o * (1 - c.tanh() ** 2))[:, None]
            squares = (torch.diag_embed(f) + mixing).square() * (t > 0)
            total += squares.sum()
            off_diagonal += squares.sum() - squares.diagonal(dim1=1, dim2=2).sum()
            c, o = f * c + i * g, new_o
            h = o * c.tanh()
        assert found.square_sum[m].item() == pytest.approx(float(total), rel=1e-9)
        assert found.off_diagonal_square_sum[m].item() == pytest.approx(float(off_diagonal), rel=1e-9)


def test_a_pack_stores_what_its_trials_want_and_when_they_solved_their_task(tmp_path):
    store = Store(tmp_path, create=True)
    ended = [
        trial("lstm, copy", seed=s, stop__solve="task", probes=("jacobians", "positions", "readouts"), **SOLVABLE)
        for s in (0, 1)
    ]
    going_on = trial("lstm, copy", seed=0, **SOLVABLE)
    for _ in run_pack(Pack((*ended, going_on), 3), store):
        pass
    rows = {row["trial_id"]: row for row in store.trials().to_pylist()}
    first, last = rows[ended[0].trial_id], rows[going_on.trial_id]
    assert first["solved_step"] == first["step_count"] == last["solved_step"] < last["step_count"]
    assert first["validation_target_correct_count"] >= 0.99 * first["validation_target_count"] == 0.99 * 120
    steps = store.current("steps").to_pylist()
    before = [r for r in steps if r["trial_id"] == going_on.trial_id and r["step"] < last["solved_step"]]
    assert all(r["validation_target_correct_count"] < 0.99 * 120 for r in before)
    wanting = {t.trial_id for t in ended}
    for table in ("jacobians", "positions", "readouts"):
        assert {row["trial_id"] for row in store.current(table).to_pylist()} == wanting
    (position,) = [r for r in store.current("positions").to_pylist() if r["trial_id"] == ended[0].trial_id]
    assert (position["position"], position["target_count"]) == (3, 120)
    assert position["target_correct_count"] == first["validation_target_correct_count"]


def test_targets_are_counted_apart_from_examples():
    _, _, measured = trained("lstm, copy", 1)
    counts, data = measured.counts, tasks.load(trial("lstm, copy"))
    assert counts["train_target_count"][0] == data.targets.size == 3 * counts["train_count"][0]
    assert counts["train_correct_count"][0] <= counts["train_target_correct_count"][0] / 3
    _, _, measured = trained("sgd", 1)
    assert not [name for name in measured.counts if "target" in name or "squared" in name]
