"""A packed member trains as it would alone, and as plain torch would: to the bit where the tolerance is zero."""

import numpy as np
import pytest
import torch

from memsweep.engine.train import optim, step, streams, trainer
from memsweep.engine.train import plain as plain_torch
from memsweep.engine.train.evaluation import numbers_of
from memsweep.engine.train.program import MODES
from tests.cases import CASES, SINGLE, Delayed, trial

pytestmark = pytest.mark.usefixtures("wide_boxes")
SLOW = pytest.mark.slow
ROUNDED = {"own buffers", "sam, own buffers", "averaged, own buffers", "own resnet", "batch norm"}
ROUNDED |= {case for case in CASES if case.startswith(("cnn", "resnet"))}
"""Lifted, convolutions and batch normalizations run over all members' channels, whose sums round otherwise than one's
alone; in turn they are exact."""


def run(trials, device="cpu", steps=None, mode="fused"):
    """Trains trials together to their end; the final state of each, by trial, with its curve."""
    program = trainer.compose(trials, device, mode=mode)
    state = trainer.init(program, trials)
    ends, curves = {}, {t.trial_id: [] for t in trials}
    while len(state.members):
        state, measured = trainer.advance(program, state, steps or trainer.steps_to_measurement(state))
        for m, member in enumerate(state.members):
            own = {name: value[m].item() for name, value in measured.counts.items()}
            if measured.due[m]:
                curves[member.trial.trial_id].append(own)
            if not measured.active[m]:
                weights = {name: value[m].clone() for name, value in numbers_of(state).items()}
                ends[member.trial.trial_id] = weights
        state = trainer.select(state, measured.active)
    return ends, curves


def deviation(a, b):
    return max((a[name] - b[name]).abs().max().item() for name in a)


def assert_alone_equals_packed(trials, device="cpu", mode="fused", tolerance=None):
    """Weights and every measurement of the first, a middle and the last member, to the bit on a CPU.

    Elsewhere, or with a tolerance, weights alone.
    """
    packed, packed_curves = run(trials, device, mode=mode)
    if tolerance is None:
        tolerance = 0 if device == "cpu" else 1e-10 if trials[0].compute.dtype == "float64" else 1e-2
    for one in dict.fromkeys((trials[0], trials[len(trials) // 2], trials[-1])):
        alone, curves = run([one], device, mode=mode)
        assert deviation(alone[one.trial_id], packed[one.trial_id]) <= tolerance
        if tolerance == 0:
            assert curves[one.trial_id] == packed_curves[one.trial_id]


def assert_equals_plain_torch(trials, tolerance, mode="fused", device="cpu"):
    """Plain torch on the same device, after 100 steps."""
    steps = trials[0].next_measurement(0)
    program = trainer.compose(trials, device, mode=mode)
    state = trainer.init(program, trials)
    while state.step[0] < 100:
        state, _ = trainer.advance(program, state, steps)
    for m, one in enumerate(trials):
        model, _ = plain_torch.train(one, int(state.step[0]), device)
        plain = {name: value.detach() for name, value in model.state_dict().items()}
        assert deviation({name: value[m] for name, value in numbers_of(state).items()}, plain) <= tolerance


@pytest.mark.parametrize("case", sorted(CASES.keys() - ROUNDED))
def test_alone_equals_packed(case, device, dtype):
    dtype = "float32" if case in SINGLE else dtype
    assert_alone_equals_packed([trial(case, seed=seed, compute__dtype=dtype) for seed in range(5)], device)


def test_many_members_are_equal_to_one_alone():
    """Vectors of 8 and more are computed otherwise than short ones, where nobody takes care."""
    trials = [trial("all at once", seed=seed, compute__dtype="float64", optimizer__epochs=10) for seed in range(40)]
    packed, _ = run(trials)
    for one in (trials[0], trials[7], trials[39]):
        assert deviation(run([one])[0][one.trial_id], packed[one.trial_id]) == 0


@pytest.mark.parametrize("case", sorted(ROUNDED))
def test_fused_channels_are_equal_to_rounding(case, device):
    trials = [trial(case, seed=seed, compute__dtype="float64") for seed in range(2)]
    assert_alone_equals_packed(trials, device, tolerance=1e-12)


STEPWISE = {
    case
    for case, fields in CASES.items()
    if "data.sequence_length" in fields
    and case not in ("lstm, copy", "pru_c+plus_state, recall", "attention, strings", "transformer, strings")
}
"""Further cells and sequence tasks: `make test-slow` runs them. tests/test_cells.py tests every cell's gradients."""


@pytest.mark.parametrize("case", [pytest.param(case, marks=SLOW if case in STEPWISE else ()) for case in CASES])
def test_alone_equals_packed_in_turn(case, device, dtype):
    """Members in turn, by the library's own kernels."""
    dtype = "float32" if case in SINGLE else dtype
    trials = [trial(case, seed=seed, compute__dtype=dtype) for seed in range(2)]
    assert_alone_equals_packed(trials, device, mode="serial")


HANDED = ("sam, own buffers", "own buffers, handed on", "own buffers, shared", "sam, own buffers, handed on")
LENGTHY = (
    {("cnn, adversarial", "fused"), ("adversarial, dropout", "fused")}
    | {(case, "serial") for case in CASES.keys() - {"decay", "adamw", "cnn", "muon", "sam", *HANDED}}
    | {(case, "fused") for case in (*STEPWISE, "own resnet", "own gpt, sam")}
    | {(case, "fused") for case in ("layer norm, dropout", "resnet", "resnet, group norm")}
)
"""These take minutes, or, in turn, share all but the lifting with fused ones: `make test-slow` runs them."""
EVERY_CASE = [
    pytest.param(case, mode, marks=SLOW if (case, mode) in LENGTHY else ())
    for case in CASES
    for mode in MODES
    if case not in SINGLE
]


@pytest.mark.parametrize("case, mode", EVERY_CASE)
def test_equals_plain_torch_in_double_precision(case, mode, device):
    long = {"stop__steps": 120, "stop__measure_steps": 50, "compute__dtype": "float64"}
    trials = [trial(case, seed=seed, **long) for seed in range(2)]
    assert_equals_plain_torch(trials, tolerance=1e-10, mode=mode, device=device)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("change", [torch.Tensor.double, torch.Tensor.flatten])
def test_a_buffer_that_is_replaced_keeps_its_type_and_shape(mode, change, monkeypatch):
    """Plain torch goes on with the other type or shape; a pack cannot, and must not convert it unsaid."""
    forward = Delayed.forward

    def changed(self, inputs):
        logits = forward(self, inputs)
        self.now = change(self.now)
        return logits

    monkeypatch.setattr(Delayed, "forward", changed)
    trials = [trial("own buffers, handed on", seed=seed) for seed in range(2)]
    with pytest.raises(TypeError, match="the buffer 'now' was replaced by a tensor"):
        run(trials, mode=mode)


TO_THE_BIT = ["decay", "dropout", "cnn", "resnet", "layer norm", "autocast", "autocast, cnn", "autocast, transformer"]


@pytest.mark.parametrize("case", [*TO_THE_BIT, pytest.param("cnn, adversarial", marks=SLOW)])
def test_members_in_turn_equal_plain_torch_to_the_bit(case):
    assert_equals_plain_torch([trial(case, seed=seed, stop__steps=120) for seed in range(2)], 0, mode="serial")


@pytest.mark.parametrize("width", [8, 32, 37])
def test_equals_plain_torch_to_the_bit_in_single_precision(width):
    """For SGD on MLPs of this size; other cases round differently and are compared in double precision."""
    long = {"stop__steps": 120, "stop__measure_steps": 50, "model__width": width}
    assert_equals_plain_torch([trial("decay", seed=seed, **long) for seed in range(8)], tolerance=0)


def test_company_order_and_strangers_change_nothing():
    own = trial("decay", seed=3)
    strangers = [
        trial("adversarial", seed=2),
        trial("all at once", seed=0, optimizer__name="sgd", optimizer__learning_rate=0.01),
        trial("all at once", seed=1, optimizer__name="sgd", optimizer__learning_rate=1.0),
    ]
    alone, curves = run([own])
    for company in ([own, *strangers], [*strangers, own], [strangers[0], own, *strangers[1:]]):
        ends, packed_curves = run(company)
        assert deviation(alone[own.trial_id], ends[own.trial_id]) == 0
        assert curves[own.trial_id] == packed_curves[own.trial_id]


def test_members_with_other_numbers_of_examples_share_a_pack():
    assert_alone_equals_packed(
        [
            trial("decay", seed=n, data__examples=n, data__validation_examples=v)
            for n, v in ((13, 40), (90, 7), (300, 0))
        ]
    )


def test_a_diverging_neighbour_changes_nothing():
    own, wild = trial("decay", seed=1), trial("decay", seed=2, optimizer__learning_rate=1e12)
    alone, curves = run([own])
    ends, packed_curves = run([wild, own])
    assert not np.isfinite(packed_curves[wild.trial_id][-1]["train_loss_sum_nats"])
    assert deviation(alone[own.trial_id], ends[own.trial_id]) == 0
    assert curves[own.trial_id] == packed_curves[own.trial_id]


def test_the_size_of_an_advance_changes_nothing():
    trials = [trial("all at once", seed=seed) for seed in range(3)]
    assert all(deviation(run(trials)[0][t.trial_id], run(trials, steps=1)[0][t.trial_id]) == 0 for t in trials)


def test_select_keeps_the_survivors_bits():
    trials = [trial("decay", seed=seed) for seed in range(4)]
    whole, _ = run(trials)
    program = trainer.compose(trials)
    state, _ = trainer.advance(program, trainer.init(program, trials), 5)
    state = trainer.select(state, np.array([False, True, False, True]))
    while True:
        state, measured = trainer.advance(program, state, trainer.steps_to_measurement(state))
        if not measured.active.any():
            break
    for m, one in enumerate((trials[1], trials[3])):
        assert deviation({name: value[m] for name, value in state.parameters.items()}, whole[one.trial_id]) == 0


def test_admitted_trials_train_as_if_alone_and_nobody_else_changes():
    first = [trial("all at once", seed=seed) for seed in range(3)]
    late = trial("all at once", seed=9, data__examples=140)
    program = trainer.compose([*first, late])
    state, _ = trainer.advance(program, trainer.init(program, first), 5)
    state = trainer.admit(program, state, np.array([1]), [late])
    ends = {}
    while len(state.members):
        state, measured = trainer.advance(program, state, trainer.steps_to_measurement(state))
        for m in np.flatnonzero(~measured.active):
            ends[state.members[m].trial.trial_id] = {n: v[m].clone() for n, v in state.parameters.items()}
        state = trainer.select(state, measured.active)
    assert set(ends) == {t.trial_id for t in (first[0], first[2], late)}
    for one in (first[0], first[2], late):
        assert deviation(run([one])[0][one.trial_id], ends[one.trial_id]) == 0


def test_gradients_across_members_are_exactly_zero():
    """A change of one member's data moves nobody else's gradient, not even in the last bit."""
    trials = [trial("decay", seed=seed) for seed in range(4)]
    program = trainer.compose(trials)

    def after_a_step(changed):
        state = trainer.init(program, trials)
        if changed:
            state.examples.given[2] = (state.examples.given[2] + 1) % 10
        return trainer.advance(program, state, 1)[0].parameters

    before, after = after_a_step(False), after_a_step(True)
    moved = torch.stack([(before[name] - after[name]).flatten(1).abs().amax(1) for name in before]).amax(0)
    assert (moved > 0).tolist() == [False, False, True, False]


# The checks above are worth something only if a wrong engine fails them.


def test_averaging_the_loss_over_members_is_caught(monkeypatch):
    """As a published tuner does: each gradient is divided by M, so decay is M times as strong as asked."""
    right = step.answer_loss
    monkeypatch.setattr(step, "answer_loss", lambda *args, **options: right(*args, **options) / 4)
    long = {"stop__steps": 120, "stop__measure_steps": 50, "compute__dtype": "float64"}
    with pytest.raises(AssertionError):
        assert_equals_plain_torch([trial("decay", seed=seed, **long) for seed in range(4)], tolerance=1e-10)


def test_a_leak_between_members_is_caught(monkeypatch):
    right = optim.sgd_

    def leaking(parameters, gradients, moments, coefficients):
        for gradient in gradients.values():
            gradient.add_(gradient.mean(0, keepdim=True), alpha=1e-6)
        right(parameters, gradients, moments, coefficients)

    monkeypatch.setattr(optim, "sgd_", leaking)
    with pytest.raises(AssertionError):
        test_gradients_across_members_are_exactly_zero()
    with pytest.raises(AssertionError):
        test_company_order_and_strangers_change_nothing()


def test_masks_from_one_shared_generator_are_caught(monkeypatch):
    shared = torch.Generator().manual_seed(0)
    monkeypatch.setattr(streams, "uniform", lambda keys, count: torch.rand(len(keys), count, generator=shared))
    with pytest.raises(AssertionError):
        assert_alone_equals_packed([trial("dropout", seed=seed) for seed in range(3)])


def test_an_order_that_depends_on_the_slot_is_caught(monkeypatch):
    right = streams.permutations
    monkeypatch.setattr(streams, "permutations", lambda keys, size: right(keys + torch.arange(len(keys)), size))
    with pytest.raises(AssertionError):
        assert_alone_equals_packed([trial("decay", seed=seed) for seed in range(3)])


@pytest.mark.parametrize("task", ["lstm, copy", "gru, adding, truncated", "pru_c+plus_state, recall"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "pru_c+plus_state"])
def test_long_sequences_round_alike_alone_and_packed(cell, task):
    """At sizes at which the library chooses other ways to multiply and to sum."""
    size = {"model__width": 32, "optimizer__batch_size": 32, "stop__steps": 4, "stop__measure_steps": 4}
    size |= {"data__sequence_length": 40, "data__vocabulary": 48 if "recall" in task else 0, "model__cell": cell}
    assert_alone_equals_packed([trial(task, seed=seed, **size) for seed in range(7)], "cpu")


# Products that the library rounds by the number of members, or by where a member's matrix begins.

UNEVEN = [
    (20, 1, 64, 10),
    (25, 17, 64, 10),
    (20, 7, 12, 3),
    (50, 33, 12, 10),
    (25, 6, 64, 10),
    (3, 64, 13, 2),
    (1, 7, 63, 3),
]
"""(batch size, width, D, K) of MLPs that were not exact; what else is so small runs by a loop."""


def mlp(batch, width, inputs, classes, **fields):
    shape = {"data__input_dim": inputs, "data__classes": classes, "model__width": width, "optimizer__batch_size": batch}
    short = {"stop__steps": 6, "stop__measure_steps": 2, "optimizer__momentum": 0.9}
    return [trial("synthetic", seed=seed, **{**shape, **short, **fields}) for seed in range(4)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", UNEVEN)
def test_uneven_layers_are_exact(shape, mode, dtype):
    assert_alone_equals_packed(mlp(*shape, compute__dtype=dtype), "cpu", mode=mode)


@pytest.mark.parametrize("shape", UNEVEN)
def test_uneven_layers_equal_plain_torch_in_double_precision(shape):
    long = {"stop__steps": 120, "stop__measure_steps": 50, "compute__dtype": "float64"}
    assert_equals_plain_torch(mlp(*shape, **long)[:2], tolerance=1e-10)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("network", ["Scored", "OneHidden"])
def test_a_users_layers_of_one_column_are_exact(network, mode, dtype):
    fields = {"model__family": f"tests.cases:{network}", "model__width": 64, "compute__dtype": dtype}
    trials = [trial("momentum", seed=seed, optimizer__epochs=2, **fields) for seed in range(4)]
    assert_alone_equals_packed(trials, "cpu", mode=mode)


def test_even_layers_are_torchs_own():
    """Their programs keep their bits and their speed, whatever the batch size and the number of classes."""
    for batch, width, inputs, classes in [(20, 8, 64, 10), (25, 32, 64, 10), (13, 64, 784, 7), (50, 10, 12, 10)]:
        program = trainer.compose(mlp(batch, width, inputs, classes))
        assert {type(layer) for layer in program.module.layers} == {torch.nn.Linear}
