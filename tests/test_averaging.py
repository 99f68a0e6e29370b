"""With `optimizer.averaging`, measured weights are an exponential moving average; training does not read it."""

import pytest
import torch

from memsweep.check.verification import EXACT, verify
from memsweep.engine.train import checkpoint, trainer
from memsweep.engine.train.evaluation import numbers_of
from memsweep.engine.train.record import Record
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack
from memsweep.run.worker.execution import run_pack
from tests.cases import trial
from tests.test_exactness import deviation, run
from tests.test_verification import wanted

AVERAGED, BARE = trial("averaged", seed=1), trial("averaged", seed=1, optimizer__averaging=0.0)


def trained(trials, steps):
    program = trainer.compose(trials)
    return program, trainer.train(program, trainer.init(program, trials), steps)[0]


def test_the_average_is_that_of_the_weights_of_each_step():
    _, state = trained([AVERAGED], 1)
    average = {name: value.clone() for name, value in state.parameters.items()}
    for steps in range(2, 8):
        _, state = trained([AVERAGED], steps)
        for name, value in state.parameters.items():
            average[name] = 0.9 * average[name] + 0.1 * value
    assert all(torch.allclose(numbers_of(state)[name], value, atol=1e-6) for name, value in average.items())
    assert deviation(state.parameters, average) > 1e-3


@pytest.mark.parametrize("case", ["averaged", "adversarial"])
def test_training_does_not_read_the_average(case):
    fields = {"seed": 1, "optimizer__averaging": 0.9}
    _, averaged = trained([trial(case, **fields)], 7)
    _, bare = trained([trial(case, **{**fields, "optimizer__averaging": 0.0})], 7)
    assert deviation(averaged.parameters, bare.parameters) == 0 and deviation(numbers_of(averaged), bare.parameters) > 0


def test_members_with_and_without_an_average_share_a_pack():
    ends, curves = run([AVERAGED, BARE])
    for one in (AVERAGED, BARE):
        alone, curve = run([one])
        assert deviation(alone[one.trial_id], ends[one.trial_id]) == 0
        assert curve[one.trial_id] == curves[one.trial_id]
    assert curves[AVERAGED.trial_id] != curves[BARE.trial_id]


def test_an_average_goes_on_from_a_checkpoint():
    program, state = trained([AVERAGED], 6)
    content = checkpoint.dump(state, [Record([], {})], {})
    again, _ = checkpoint.restore(program, trainer.init(program, [AVERAGED]), content)
    state, again = (trainer.train(program, one, 3)[0] for one in (state, again))
    assert deviation(numbers_of(state), numbers_of(again)) == 0


def test_an_average_is_verified(tmp_path):
    store = Store(tmp_path, create=True)
    store.write("wanted", [wanted(AVERAGED)])
    for _ in run_pack(Pack((AVERAGED,), slots=1), store):
        pass
    (verdict,) = verify(store)
    assert verdict.outcome == EXACT and (verdict.plain_weights == EXACT or float(verdict.plain_weights) < 1e-6)
