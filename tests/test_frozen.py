"""What a user's network freezes by requires_grad_(False) stays as it was drawn, as in plain torch."""

import numpy as np
import pytest
import torch
from torch import nn

from memsweep.check.verification import EXACT, verify
from memsweep.data import tasks
from memsweep.engine.nn import models
from memsweep.engine.train import trainer
from memsweep.engine.train.evaluation import numbers_of
from memsweep.engine.train.program import MODES
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.packing import Pack
from memsweep.run.policy import protocols
from memsweep.run.rounds.replay import Replay
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import TrialConfig
from memsweep.spec.sweep import Sweep
from tests.cases import CASES, SMALL, trial

FROZEN = ("features.weight", "features.bias", "leave.bias")
CASE = "own frozen layer"


def drawn(config):
    """The network as its class makes it."""
    torch.manual_seed(0)
    plain = config.with_fields({"model.perturbation": 0.0})
    return dict(models.build(plain, *tasks.shape(plain)).named_parameters())


def trained(trials, mode="fused", compiled=False):
    program = trainer.compose(trials, mode=mode, compiled=compiled)
    state = trainer.init(program, trials)
    measured = None
    while state.step[0] < trials[0].budget:
        state, measured = trainer.advance(program, state, trainer.steps_to_measurement(state))
    return program, state, measured


@pytest.mark.parametrize("case", [CASE, "own frozen layer, adamw"])
@pytest.mark.parametrize("mode", [*MODES, "compiled"])
def test_frozen_parameters_keep_their_bits_in_every_mode(case, mode):
    trials = [trial(case, seed=seed) for seed in range(3)]
    _, state, _ = trained(trials, "fused" if mode == "compiled" else mode, mode == "compiled")
    for m, config in enumerate(trials):
        first = drawn(config)
        for name, value in numbers_of(state).items():
            assert torch.equal(value[m], first[name]) == (name in FROZEN), name


def test_a_loop_of_plain_torch_gives_the_same_weights_and_gradient_norm():
    """The loop of any tutorial: loss, backward, SGD of all parameters. Only the order of examples is taken over."""
    config = trial(model__family="tests.cases:HalfFrozen", optimizer__momentum=0.9, compute__dtype="float64")
    config = config.with_fields({"regularization.weight_decay": 0.01})
    program, state, measured = trained([config], mode="serial")
    order = trainer.batches(program, trainer.init(program, [config]), config.budget)[:, 0]
    model, data = models.build(config, *tasks.shape(config)), tasks.load(config)
    inputs, labels = torch.tensor(data.inputs).double(), torch.tensor(data.labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for rows in order:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]).norm()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.allclose(numbers_of(state)[name][0], parameter, rtol=0, atol=1e-10), name
    assert measured.counts["gradient_norm"][0] == pytest.approx(float(norm), rel=1e-10)


def test_the_first_step_away_is_taken_by_trained_parameters_alone():
    moved, first = trial(CASE), drawn(trial(CASE))
    own = dict(models.build(moved, *tasks.shape(moved)).named_parameters())
    apart = {name: float((own[name] - first[name]).detach().norm()) for name in own}
    assert {name for name, distance in apart.items() if distance == 0} == set(FROZEN)
    assert np.sqrt(sum(distance**2 for distance in apart.values())) == pytest.approx(0.5, rel=1e-5)


def test_an_initialization_of_the_trial_leaves_frozen_parameters():
    config = trial(model__family="tests.cases:HalfFrozen", model__initialization="orthogonal")
    own = dict(models.build(config, *tasks.shape(config)).named_parameters())
    first = drawn(trial(model__family="tests.cases:HalfFrozen"))
    assert {name for name in own if torch.equal(own[name], first[name])} == set(FROZEN)


def test_they_are_counted_apart_and_verified(tmp_path):
    store, config = Store(tmp_path, create=True), trial(CASE)
    from tests.test_verification import wanted

    store.write("wanted", [wanted(protocols.current(config))])
    for _ in run_pack(Pack((protocols.current(config),), slots=1), store):
        pass
    (row,) = store.trials().to_pylist()
    assert (row["parameter_count"], row["frozen_parameter_count"]) == (64 * 8 + 8 + 8 * 10, 8 * 8 + 8 + 10)
    (verdict,) = verify(store, own_code=True)
    assert verdict.weights == verdict.measurements == EXACT
    assert verdict.plain_weights == EXACT or float(verdict.plain_weights) < 1e-5


def test_their_protocol_is_raised_and_that_of_others_is_not():
    families = ("mlp", "tests.cases:Normalized", "tests.cases:HalfFrozen")
    sweep = Sweep("families", SMALL, axes={"model.family": families})
    numbers = {t.model.family: t.flat()["protocol"] for t in Replay(sweep, None).trials}
    assert numbers == dict(zip(families, (1, 1, 2), strict=True))
    with pytest.raises(plan.SweepError, match="Leave protocol unset"):
        plan.check([TrialConfig.of({**SMALL, **CASES[CASE], "protocol": 1})])
