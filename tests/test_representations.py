"""What networks make of the same inputs: hidden layers, logits and input gradients, against plain torch."""

import numpy as np
import pytest
import torch

from memsweep.engine.probes import representations
from memsweep.results.storage.store import Store
from memsweep.spec.config import ConfigError
from tests.cases import trial
from tests.test_repeated_probes import measured, ran, trained


def told(program, state):
    return {(r.part, r.quantity, r.layer): r.values for r in representations.measure(program, state)}


def by_hand(program, state, m, part):
    """Of one member, by hooks and autograd."""
    member = state.members[m]
    inputs = member.data.inputs if part == "train" else member.data.held_out_inputs[: member.data.validation_count]
    x = torch.tensor(inputs[: representations.EXAMPLES]).to(program.dtype).requires_grad_()
    own = {name: value[m] for name, value in {**state.parameters, **state.buffers}.items()}
    layers = []

    def hidden(h, _layer):
        layers.append(h.mean((2, 3)) if h.dim() == 4 else h)
        return h

    logits = torch.func.functional_call(program.evaluated, own, (x,), {"hidden": hidden})
    chosen = logits.gather(1, logits.argmax(1, keepdim=True)).sum()
    (gradient,) = torch.autograd.grad(chosen, x)
    return gradient, layers, logits


@pytest.mark.parametrize(("case", "depth"), [("sgd", 2), ("deep tanh", 3), ("cnn", 4)])
def test_they_are_those_of_a_plain_network(case, depth):
    program, state = trained([trial(case, seed=seed) for seed in range(2)])
    found = told(program, state)
    assert len(found) == depth + 3
    for m in range(2):
        gradient, layers, logits = by_hand(program, state, m, "validation")
        expected = {("gradient", 0): gradient, ("logits", depth + 1): logits}
        expected |= {("hidden", i + 1): layer for i, layer in enumerate(layers)}
        for place, values in expected.items():
            torch.testing.assert_close(found["validation", *place][m], values)
        torch.testing.assert_close(found["train", "logits", depth + 1][m], by_hand(program, state, m, "train")[2])


@pytest.mark.parametrize("case", ["sgd", "cnn"])
def test_a_member_alone_has_those_that_it_has_in_a_pack(case):
    trials = [trial(case, seed=seed) for seed in range(3)]
    packed, serial = told(*trained(trials)), told(*trained(trials, "serial"))
    for m, own in enumerate(trials):
        alone = told(*trained([own]))
        for place, values in packed.items():
            torch.testing.assert_close(alone[place][0], values[m], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(serial[place][m], values[m], rtol=1e-4, atol=1e-5)


def test_networks_of_other_weights_are_asked_about_the_same_inputs(tmp_path):
    """And training is what it is without the probe."""
    shared = {"seeds__inputs": 0, "seeds__labels": 0}
    probed = [trial(seed=s, probes=("representations",), probe_steps=(0,), **shared) for s in range(2)]
    ran(store := Store(tmp_path / "probed", create=True), probed, 2, checkpoint_seconds=0)
    ran(plain := Store(tmp_path / "plain", create=True), [trial(seed=s, **shared) for s in range(2)], 2)
    assert measured(store) == measured(plain)
    rows = store.current("representations").to_pylist()
    assert len(rows) == 2 * 2 * 5 and {row["step"] for row in rows} == {0, probed[0].budget}
    assert all(len(row["numbers"]) == row["width"] * (40 if row["part"] == "validation" else 90) for row in rows)
    assert np.array_equal(*(own.data.held_out_inputs for own in trained(probed, steps=0)[1].members))


def test_sequences_have_none():
    with pytest.raises(ConfigError, match="mlp and cnn"):
        trial("lstm, copy", probes=("representations",))
