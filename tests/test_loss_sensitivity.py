"""Loss sensitivity through unrolled training, against torch's own derivative of the whole training."""

import numpy as np
import pytest
import torch

from memsweep.engine.probes import loss_sensitivity
from memsweep.engine.train import trainer
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import ConfigError, TrialConfig
from tests.cases import trial

SMALL = {"data__examples": 12, "optimizer__batch_size": 5, "optimizer__epochs": 3, "model__width": 4}
EXACT = {**SMALL, "compute__dtype": "float64", "model__activation": "tanh"}


def trained(trials):
    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    while (state.step < trials[0].budget).all():
        state, _ = trainer.advance(program, state, trainer.steps_to_measurement(state))
    return program, state


def unrolled(program, trials, m):
    """dL_t/dx by one graph over all steps: {t: {class or None: [N, D]}}."""
    state = trainer.init(program, trials)
    member, steps = state.members[m], trials[m].budget
    rows, rates = trainer.batches(program, state, steps)[:, m], trainer.learning_rates(program, state, steps)[:, m]
    x = torch.tensor(member.data.inputs, dtype=program.dtype, requires_grad=True)
    y = torch.tensor(member.data.labels)
    own = {name: value[m].clone().requires_grad_() for name, value in state.parameters.items()}
    decay = state.coefficients.decay[m]
    found = {}

    def losses(weights, inputs, labels):
        return torch.nn.functional.cross_entropy(
            torch.func.functional_call(program.evaluated, weights, (inputs,)), labels, reduction="none"
        )

    for s in range(steps):
        gradients = torch.autograd.grad(losses(own, x[rows[s]], y[rows[s]]).mean(), own.values(), create_graph=True)
        own = {n: w - rates[s] * (g + decay * w) for (n, w), g in zip(own.items(), gradients, strict=True)}
        each = losses(own, x.detach(), y)  # x in the loss itself does not count
        parts = {None: each.mean(), **{k: (each * (y == k)).mean() for k in range(program.classes)}}
        found[s + 1] = {k: torch.autograd.grad(part, x, retain_graph=True)[0] for k, part in parts.items()}
    return found


@pytest.mark.parametrize("fields", [{}, {"regularization__weight_decay": 0.05}, {"optimizer__schedule": "step:1:0.5"}])
def test_sensitivities_are_the_derivatives_of_the_whole_training(fields):
    trials = [trial(seed=seed, **EXACT, **fields) for seed in range(3)]
    program, state = trained(trials)
    sensitivity = loss_sensitivity.measure(program, state)
    by_class = loss_sensitivity.measure_classes(program, state)
    for m in range(3):
        exact = unrolled(program, trials, m)
        at = [exact[t][None] for t in sensitivity.steps]
        for name, norm in loss_sensitivity.NORMS.items():
            each = torch.stack([torch.linalg.vector_norm(g, norm, dim=-1) for g in at])
            expected = each.cumsum(0) / torch.arange(1, len(at) + 1)[:, None]
            assert torch.allclose(sensitivity.mean[name][m], expected, rtol=1e-9, atol=1e-12)
        labels = torch.tensor(state.members[m].data.labels)
        late = sorted({max(1, round(trials[m].budget * (i + 1) / 4)) for i in range(4)})
        for i in labels.unique():
            sums = torch.stack([exact[t][int(i)].abs().sum(-1) for t in late]).mean(0)
            for j in labels.unique():
                assert by_class.mean[m, i, j].item() == pytest.approx(sums[labels == j].mean().item(), rel=1e-8)
    assert by_class.examples.sum(1).tolist() == [12] * 3


def test_training_that_is_repeated_ends_at_the_same_weights():
    trials = [trial(seed=seed, regularization__weight_decay=0.01) for seed in range(3)]
    program, state = trained(trials)
    last = loss_sensitivity.retrained(program, state).weights[-1]
    for name, value in state.parameters.items():
        assert torch.allclose(last[name], value, atol=1e-5)


def test_a_member_alone_is_as_sensitive_as_in_a_pack():
    trials = [trial(seed=seed, **SMALL) for seed in range(3)]
    packed, classes = (f(*trained(trials)) for f in (loss_sensitivity.measure, loss_sensitivity.measure_classes))
    for m, own in enumerate(trials):
        alone, own_classes = (f(*trained([own])) for f in (loss_sensitivity.measure, loss_sensitivity.measure_classes))
        assert torch.allclose(alone.mean["l1"][0], packed.mean["l1"][m], rtol=1e-4, atol=1e-7)
        assert torch.allclose(own_classes.mean[0], classes.mean[m], rtol=1e-4, atol=1e-7, equal_nan=True)


def test_an_example_that_was_never_read_moves_nothing():
    few = trial(**{**SMALL, "data__examples": 40, "optimizer__epochs": 1, "stop__steps": 2})
    program, state = trained([few])
    read = np.unique(trainer.batches(program, trainer.init(program, [few]), 2)[:, 0])
    sensitivity = loss_sensitivity.measure(program, state)
    moved = np.flatnonzero(sensitivity.mean["l1"][0, -1].numpy())
    assert set(moved) <= set(read) and len(moved) > 5


def test_the_gini_coefficient_is_that_of_mean_differences():
    values = torch.rand(4, 9, dtype=torch.float64)
    expected = [np.abs(row[:, None] - row).mean() / (2 * row.mean()) for row in values.numpy()]
    assert loss_sensitivity.gini(values).tolist() == pytest.approx(expected)


def test_a_pack_stores_them(tmp_path):
    """Members that end together after other numbers of steps, on other numbers of examples."""
    probes = {"probes": ("loss_sensitivity", "class_sensitivity")}
    trials = [trial(seed=0, **probes), trial(seed=1, data__examples=50, stop__steps=10, **probes)]
    store = Store(tmp_path, create=True)
    for _ in run_pack(Pack(tuple(trials), 2), store):
        pass
    for own in trials:
        rows, by_class = (
            [r for r in store.current(table).to_pylist() if r["trial_id"] == own.trial_id] for table in probes["probes"]
        )
        assert max(r["step"] for r in rows) == own.budget and {r["example_count"] for r in rows} == {own.data.examples}
        assert all(0 < r["gini_l1"] < 1 for r in rows)
        assert sum(r["example_count"] for r in by_class if r["output_class"] == 0) == own.data.examples


@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer.momentum": 0.9},
        {"optimizer.name": "adamw"},
        {"regularization.dropout": 0.1},
        {"optimizer.clip": 1.0},
        {"model.family": "cnn"},
    ],
)
def test_what_can_not_be_unrolled_is_refused(fields):
    with pytest.raises(ConfigError, match="loss_sensitivity"):
        TrialConfig.of({"probes": ("loss_sensitivity",), **fields})
