"""A pack that goes on from a checkpoint gives the bits of one that was never stopped; a damaged file gives none."""

import pytest
import torch

from memsweep.engine.train import checkpoint, trainer
from memsweep.engine.train.checkpoint import CheckpointError
from memsweep.engine.train.record import Record
from memsweep.engine.train.state import State
from tests.cases import CASES, SINGLE, trial

PROBED = {"critical": [{"step": 0, "part": "train", "radius": 0.1, "count": 3}]}


def advanced(program, state, curves, chunk=3):
    """One chunk further, with the points of members that were due."""
    steps = min(chunk, trainer.steps_to_measurement(state))
    state, measured = trainer.advance(program, state, steps)
    for m, member in enumerate(state.members):
        if measured.due[m]:
            point = {name: values[m].item() for name, values in measured.counts.items()}
            curves.setdefault(member.trial.trial_id, []).append({"step": int(measured.step[m]), **point})
    return state, measured


def to_the_end(program, state, curves):
    """Weights, history and curve of every member at its end, by trial."""
    ends = {}
    while len(state.members):
        state, measured = advanced(program, state, curves)
        for m, member in enumerate(state.members):
            if not measured.active[m]:
                count = member.trial.data.examples
                weights = [value[m].clone() for value in state.parameters.values()]
                ends[member.trial.trial_id] = weights + [value[m, :count].clone() for value in state.history]
        state = trainer.select(state, measured.active)
    return ends, curves


def restored(program, state, content):
    """The state that goes on, and its members' curves."""
    state, records = checkpoint.restore(program, state, content)
    assert all(record.probed == PROBED for record in records.values())
    return state, {trial_id: record.curve for trial_id, record in records.items()}


def stopped(program, trials, chunks=3):
    """A state in the middle, its curves, and its checkpoint."""
    state, curves = trainer.init(program, trials), {}
    for _ in range(chunks):
        state, _ = advanced(program, state, curves)
    records = [Record(curves.get(m.trial.trial_id, []), PROBED) for m in state.members]
    content = checkpoint.dump(state, records, {"of": "mine"})
    return state, curves, content


def assert_same_ends(found, expected):
    assert found[1] == expected[1]  # curves
    assert found[0].keys() == expected[0].keys()
    for trial_id, tensors in expected[0].items():
        assert all(map(torch.equal, found[0][trial_id], tensors))


@pytest.mark.parametrize("case", CASES)
def test_a_restored_pack_ends_as_one_never_stopped(case, device, dtype):
    dtype = "float32" if case in SINGLE else dtype
    trials = [trial(case, seed=seed, compute__dtype=dtype) for seed in range(3)]
    program = trainer.compose(trials, device)
    undisturbed = to_the_end(program, trainer.init(program, trials), {})
    _, _, content = stopped(program, trials)
    state, curves = restored(program, trainer.init(program, trials), content)
    assert (state.step == 8).all()  # between two measurements
    assert_same_ends(to_the_end(program, state, curves), undisturbed)


def test_members_go_on_in_another_company_and_order():
    trials = [trial("all at once", seed=0), trial("all at once", seed=1, data__examples=50), trial("sgd", seed=2)]
    trials = [t.with_fields({"optimizer.name": "adamw", "optimizer.learning_rate": 0.01}) for t in trials]
    program = trainer.compose(trials)
    undisturbed = to_the_end(program, trainer.init(program, trials), {})
    _, _, content = stopped(program, trials[:2])
    state, curves = restored(program, trainer.init(program, trials[:0:-1]), content)
    assert state.step.tolist() == [0, 8] and curves.keys() == {trials[1].trial_id}
    state = trainer.admit(program, state, [0], trials[:1])
    state, late = restored(program, state, content)
    assert state.step.tolist() == [8, 8] and late.keys() == {trials[0].trial_id}
    ends, curves = to_the_end(program, state, {**curves, **late})
    assert_same_ends((ends, curves), tuple({t.trial_id: part[t.trial_id] for t in trials[:2]} for part in undisturbed))


def test_a_member_that_is_further_stays_where_it_is():
    trials = [trial(seed=0), trial(seed=1)]
    program = trainer.compose(trials)
    state, curves, content = stopped(program, trials)
    further, _ = advanced(program, state, curves)
    again, found = checkpoint.restore(program, further, content)
    assert again is further and found == {}


def test_what_training_changes_is_saved_and_nothing_else():
    """A new field of State is saved unless REBUILT says that it follows from the trials."""
    assert set(checkpoint.REBUILT) < set(State._fields)
    assert {name for name in State._fields if name not in checkpoint.REBUILT} >= {"parameters", "moments", "history"}


@pytest.mark.parametrize("place", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_is_refused(place):
    trials = [trial(seed=0)]
    program = trainer.compose(trials)
    _, _, content = stopped(program, trials)
    middle = len(content) - 200
    damaged = {
        "cut": content[:middle],
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "empty": b"",
        "foreign": checkpoint.save({"step": torch.zeros(1)}),
    }[place]
    with pytest.raises(CheckpointError, match="it is damaged"):
        checkpoint.restore(program, trainer.init(program, trials), damaged)


def test_a_checkpoint_of_another_network_is_refused():
    """As after a change of a user's own module, which no hash sees."""
    trials = [trial(seed=0)]
    _, _, content = stopped(trainer.compose(trials), trials)
    other = trainer.compose([trial(model__width=9)])
    state = trainer.init(other, [trial(model__width=9)])
    state = state._replace(members=(state.members[0]._replace(trial=trials[0]),))
    with pytest.raises(CheckpointError, match="of another program"):
        checkpoint.restore(other, state, content)
