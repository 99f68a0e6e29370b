"""Compiled programs train as the others to rounding; members do not notice their company, to the bit."""

import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from memsweep.engine.train import compilation, program_files, tracing, trainer
from tests import test_exactness as exactness
from tests.cases import CASES, SINGLE, trial

pytestmark = [
    pytest.mark.usefixtures("wide_boxes"),
    pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler: g++"),
    pytest.mark.timeout(1200),  # torch unrolls the layers of deep networks, and compiles them on one core
    # which torch remarks while it traces the search for critical samples of a convolutional network
    pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching"),
]
SOME = ("decay",)  # the others take minutes to compile: make test-slow


def every_case(cases=CASES, slow=pytest.mark.slow):
    return [case if case in SOME else pytest.param(case, marks=slow) for case in cases]


@pytest.fixture
def uncompiled(monkeypatch):
    """All programs of a test are compiled, but those that this composes."""
    compose = trainer.compose
    monkeypatch.setattr(
        trainer, "compose", lambda trials, device="cpu", **_mode: compose(trials, device, compiled=True)
    )
    return compose


@pytest.mark.parametrize("case", every_case(sorted(CASES.keys() - exactness.ROUNDED)))
def test_alone_equals_packed(case, uncompiled, device, dtype):
    dtype = "float32" if case in SINGLE else dtype
    exactness.assert_alone_equals_packed([trial(case, seed=seed, compute__dtype=dtype) for seed in range(5)], device)


@pytest.mark.parametrize("case", every_case(sorted(exactness.ROUNDED)))
def test_channels_are_equal_to_rounding(case, uncompiled, device):
    trials = [trial(case, seed=seed, compute__dtype="float64") for seed in range(2)]
    tolerance = 1e-6 if "adversarial" in case else 1e-12  # a search may end at another input
    exactness.assert_alone_equals_packed(trials, device, tolerance=tolerance)


@pytest.mark.parametrize("case", every_case([case for case in CASES if case not in SINGLE]))
def test_equals_plain_torch_in_double_precision(case, uncompiled):
    """Normal deviates are drawn in single precision, whose logarithm and cosine a compiler rounds differently."""
    long = {"stop__steps": 220, "stop__measure_steps": 50, "compute__dtype": "float64"}
    noisy = {"input noise", "hidden noise", "all at once"} | {name for name in CASES if "adversarial" in name}
    trials = [trial(case, seed=seed, **long) for seed in range(3)]
    exactness.assert_equals_plain_torch(trials, tolerance=1e-6 if case in noisy else 1e-10)


def test_one_program_serves_all_numbers_of_members_and_examples(uncompiled, monkeypatch):
    monkeypatch.setattr(program_files, "name_of", lambda *_: None)  # traced by torch; tests/test_program_files.py loads
    monkeypatch.setattr(compilation, "_compiled", {})
    torch._dynamo.reset()
    counters.clear()
    for members, examples in ((1, 50), (4, 90), (7, 130)):
        trials = [trial("decay", seed=seed, data__examples=examples, optimizer__epochs=2) for seed in range(members)]
        exactness.run(trials)
    assert counters["stats"]["unique_graphs"] == 2  # of training, of evaluation


def test_programs_whose_tensors_look_alike_are_told_apart(uncompiled):
    """Same sizes, same types, another activation: torch must not take one for the other."""
    for activation in ("relu", "tanh"):
        trials = [trial("decay", seed=seed, model__activation=activation) for seed in range(3)]
        ends, _ = exactness.run(trials)
        program = uncompiled(trials)
        state, _ = trainer.advance(program, trainer.init(program, trials), trials[0].next_measurement(0))
        while len(state.members) and state.step[0] < trials[0].budget:
            state, _ = trainer.advance(program, state, trainer.steps_to_measurement(state))
        for m, one in enumerate(trials):
            own = {name: value[m] for name, value in state.parameters.items()}
            assert exactness.deviation(ends[one.trial_id], own) < 1e-4


def test_members_may_leave_and_enter(uncompiled):
    exactness.test_admitted_trials_train_as_if_alone_and_nobody_else_changes()
    exactness.test_select_keeps_the_survivors_bits()


def test_a_wrong_step_is_caught(uncompiled):
    """The comparison with plain torch can fail: one example of one member moves its weights."""
    trials = [trial("decay", seed=seed, compute__dtype="float64") for seed in range(3)]
    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    state.examples.given[1, 0] = (state.examples.given[1, 0] + 1) % 10
    state, _ = trainer.advance(program, state, 5)  # every example once, at least
    plain = uncompiled(trials)
    other, _ = trainer.advance(plain, trainer.init(plain, trials), 5)
    moved = [np.abs(state.parameters[n].numpy() - other.parameters[n].numpy()) for n in state.parameters]
    assert [max(m[i].max() for m in moved) > 1e-10 for i in range(3)] == [False, True, False]


@pytest.mark.parametrize("part, is_wrong", [("rate", True), ("loss", True), ("nothing", False)])
def test_numbers_that_compiling_changes_are_not_used(monkeypatch, part, is_wrong):
    """On a GPU, where no compiled step has been compared; here, with a stand-in for torch's compiler."""

    def first_call(function, bound, values, name):
        def run(*values):
            if part == "rate" and function.__name__ == "train_step":
                values = (values[0], values[1]._replace(rate=1.1 * values[1].rate))
            result = bound(*values)
            if part == "loss" and function.__name__ == "_answers":
                result = result._replace(loss=result.loss + 1)
            return result

        return run, run(*values)

    monkeypatch.setattr(tracing, "first_call", first_call)
    monkeypatch.setattr(program_files, "name_of", lambda *_: None)
    monkeypatch.setattr(compilation, "_compiled", {})
    monkeypatch.setattr(compilation, "_failed", set())
    monkeypatch.setattr(compilation, "COMPARED_DEVICES", ("cpu",))
    trials = [trial("decay", seed=seed) for seed in range(3)]
    program = trainer.compose(trials, compiled=True)
    monkeypatch.setattr(trainer, "compose", lambda *_, **__: program)
    with pytest.warns(UserWarning, match="differ by") if is_wrong else nullcontext():
        ends, curves = exactness.run(trials)
    assert compilation.is_compiled(program) is not is_wrong
    monkeypatch.setattr(trainer, "compose", lambda *_, **__: program._replace(compiled=False))
    expected, points = exactness.run(trials)
    assert curves == points
    for trial_id, numbers in ends.items():
        assert exactness.deviation(numbers, expected[trial_id]) == 0


def test_what_torch_cannot_compile_runs_as_it_is(monkeypatch):
    """Here, a network that prints: a call of Python in the middle of the program."""

    class Loud(torch.nn.Linear):
        def forward(self, inputs):
            torch._dynamo.graph_break()
            return super().forward(inputs)

    monkeypatch.setattr("memsweep.engine.nn.models.imported", lambda name: lambda model, d, k: Loud(d, k))
    trials = [trial("sgd", seed=seed, model__family="tests.own:Loud", optimizer__epochs=1) for seed in range(2)]
    program = trainer.compose(trials, compiled=True)
    with pytest.warns(UserWarning, match="runs uncompiled"):
        state, _ = trainer.advance(program, trainer.init(program, trials), 5)
    assert not compilation.is_compiled(program)
    plain = trainer.compose(trials)
    same, _ = trainer.advance(plain, trainer.init(plain, trials), 5)
    assert exactness.deviation(state.parameters, same.parameters) == 0
