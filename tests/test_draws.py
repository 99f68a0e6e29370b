"""A user's module may draw random numbers itself, as nn.Dropout does: the same numbers in each mode."""

import pytest
import torch
from torch import nn

from memsweep.check.verification import EXACT, verify
from memsweep.engine.train import checkpoint, draws, trainer
from memsweep.engine.train import plain as plain_torch
from memsweep.engine.train.evaluation import numbers_of
from memsweep.engine.train.record import Record
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack
from memsweep.run.policy import calibration, protocols
from memsweep.run.worker.execution import run_pack
from tests.cases import trial
from tests.test_exactness import deviation, run
from tests.test_verification import wanted

SGD = {"optimizer__name": "sgd", "optimizer__learning_rate": 0.1, "optimizer__momentum": 0.9}
"""Its steps round as torch's, other optimizers' not always."""
CASES = ("own resnet", "own transformer", "own gpt, sam")


class Moody(nn.Module):
    """Drops units in evaluation too, a common mistake; and draws by a method, which vmap refuses."""

    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.layer = nn.Linear(input_dim, classes)

    def forward(self, inputs):
        kept = torch.empty_like(inputs).bernoulli_(0.5)
        return self.layer(nn.functional.dropout(inputs * kept, 0.5))


@pytest.mark.parametrize("case", CASES)
def test_members_are_fused_and_draw_what_they_draw_in_turn(case):
    """With adversarial training, a step draws for two forward passes; with SAM, for two more."""
    fields = {"compute__dtype": "float64", "regularization__adversarial": 0.3, "optimizer__epochs": 1}
    trials = [trial(case, seed=seed, **fields) for seed in range(3)]
    assert calibration.lift_problem(trials, "cpu") == ""
    fused, _ = run(trials)
    in_turn, _ = run(trials, mode="serial")
    for one in trials:
        assert deviation(fused[one.trial_id], in_turn[one.trial_id]) < 1e-10


def test_members_draw_different_numbers_each_step():
    trials = [trial("own resnet", seed=seed) for seed in range(2)]
    program = trainer.compose(trials)
    keys = torch.tensor([1, 2])
    first, again = (draws.drawn(program.draws, keys, 1, program.device) for _ in range(2))
    other = draws.drawn(program.draws, keys + 7, 1, program.device)
    assert len(first) == 2  # one a block
    for one, same, different in zip(first, again, other, strict=True):
        assert torch.equal(one, same) and not torch.equal(one, different) and not torch.equal(one[0], one[1])


@pytest.mark.parametrize("case", CASES)
def test_members_in_turn_equal_plain_torch_to_the_bit(case):
    one = trial(case, optimizer__epochs=2, **SGD)
    ends, _ = run([one], mode="serial")
    model, _ = plain_torch.train(one, one.budget)
    assert deviation(ends[one.trial_id], {name: value.detach() for name, value in model.state_dict().items()}) == 0


def test_what_is_drawn_in_evaluation_does_not_depend_on_company():
    trials = [trial(seed=seed, model__family="tests.test_draws:Moody", optimizer__epochs=2) for seed in range(3)]
    assert "bernoulli" in calibration.lift_problem(trials, "cpu")
    ends, curves = run(trials, mode="serial")
    for one in trials:
        alone, curve = run([one], mode="serial")
        assert curve[one.trial_id] == curves[one.trial_id] and deviation(alone[one.trial_id], ends[one.trial_id]) == 0


def test_statistics_of_a_batch_normalization_are_each_members_own_and_saved():
    trials = [trial("own resnet", seed=seed) for seed in range(2)]
    program = trainer.compose(trials, mode="serial")
    state, _ = trainer.advance(program, trainer.init(program, trials), 4)
    means = state.buffers["bn1.running_mean"]
    assert not torch.equal(means[0], means[1]) and state.buffers["bn1.num_batches_tracked"].tolist() == [4, 4]
    content = checkpoint.dump(state, [Record([], {})] * 2, {})
    again, _ = checkpoint.restore(program, trainer.init(program, trials), content)
    assert deviation(numbers_of(state), numbers_of(again)) == 0
    state, measured = trainer.advance(program, state, 1)
    again, same = trainer.advance(program, again, 1)
    assert deviation(numbers_of(state), numbers_of(again)) == 0
    assert {n: v.tolist() for n, v in measured.counts.items()} == {n: v.tolist() for n, v in same.counts.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["serial", "fused"])
def test_they_are_verified(tmp_path, case, mode):
    trials = tuple(protocols.current(trial(case, seed=seed, optimizer__epochs=2, **SGD)) for seed in range(2))
    store = Store(tmp_path, create=True)
    store.write("wanted", [wanted(one) for one in trials])
    for _ in run_pack(Pack(trials, slots=2, mode=mode), store):
        pass
    for verdict in verify(store, own_code=True):
        assert verdict.mode == mode
        if mode == "serial":
            assert verdict.outcome == verdict.weights == verdict.measurements == verdict.plain_weights == EXACT
        else:
            deviations = (verdict.measurements, verdict.plain_weights)
            assert max(float(text.replace(EXACT, "0")) for text in deviations) < 1e-2
