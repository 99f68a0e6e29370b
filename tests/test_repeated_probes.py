"""Probes that are asked while members train: critical samples, and that each is asked once whatever happens."""

import numpy as np
import pytest
import torch

from memsweep.engine.adversarial import ALPHA, BETA, RADIUS
from memsweep.engine.probes import critical_samples
from memsweep.engine.train import streams, trainer
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack
from memsweep.run.worker.execution import run_pack
from memsweep.spec.seeds import key
from tests.cases import trial

PROBED = {"probes": ("critical_samples",), "probe_steps": (0, 7, 9)}


@pytest.fixture(autouse=True)
def few_iterations(monkeypatch):
    monkeypatch.setattr(critical_samples, "ITERATIONS", 6)


def trained(trials, mode="fused", steps=12):
    program = trainer.compose(trials, mode=mode)
    state = trainer.init(program, trials)
    while (ahead := steps - int(state.step.max())) > 0:
        state, _ = trainer.advance(program, state, min(ahead, trainer.steps_to_measurement(state)))
    return program, state


def counts(program, state):
    return {(c.part, c.multiple): c.critical.tolist() for c in critical_samples.measure(program, state)}


def searched_by_hand(program, state, m, part, multiple):
    """The same search for one member in plain torch."""
    member = state.members[m]
    own = {name: value[m] for name, value in {**state.parameters, **state.buffers}.items()}
    inputs = member.data.inputs if part == "train" else member.data.held_out_inputs[: member.data.validation_count]
    x = torch.tensor(inputs[: critical_samples.EXAMPLES]).to(program.dtype)
    stream = streams.subkeys(torch.tensor([key(0, "probes/critical_samples")]), multiple)
    span = multiple * member.data.input_range

    def answers(moved):
        return torch.func.functional_call(program.evaluated, own, (moved,))

    predicted = answers(x).argmax(1)
    moved, critical = x, torch.zeros(len(x), dtype=torch.bool)
    for i in range(critical_samples.ITERATIONS):
        moved = moved.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(answers(moved), predicted)
        (gradient,) = torch.autograd.grad(loss, moved)
        noise = streams.normal(streams.subkeys(stream, i), x.numel()).view(x.shape)
        moved = moved + span * (ALPHA * gradient.sign() + BETA * noise)
        moved = torch.clamp(moved, x - span * RADIUS, x + span * RADIUS)
        critical |= answers(moved).argmax(1) != predicted
    return int(critical.sum())


@pytest.mark.parametrize("case", ["sgd", "cnn", "ugrnn, digits by halves"])
def test_critical_samples_are_those_of_a_plain_search(case):
    program, state = trained([trial(case, seed=seed) for seed in range(2)])
    found = counts(program, state)
    assert set(found) == {(part, k) for part in critical_samples.PARTS for k in critical_samples.MULTIPLES}
    for (part, multiple), values in found.items():
        for m in range(2):
            assert values[m] == searched_by_hand(program, state, m, part, multiple)
    assert any(0 < value < 40 for values in found.values() for value in values)


@pytest.mark.parametrize("case", ["sgd", "cnn"])
def test_a_member_alone_has_the_critical_samples_that_it_has_in_a_pack(case):
    """In double precision: convolutions of several members round otherwise, and a sample at the edge would tell."""
    trials = [trial(case, seed=seed, compute__dtype="float64") for seed in range(3)]
    packed = counts(*trained(trials))
    for m, own in enumerate(trials):
        for mode in ("fused", "serial"):
            alone = counts(*trained([own], mode))
            assert {place: values[0] for place, values in alone.items()} == {p: v[m] for p, v in packed.items()}
    assert counts(*trained(trials, "serial")) == packed


def test_a_wider_box_holds_more(monkeypatch):
    monkeypatch.setattr(critical_samples, "MULTIPLES", (1, 10, 30, 100))  # six iterations go less far than a hundred
    found = counts(*trained([trial(seed=seed) for seed in range(3)]))
    for part in critical_samples.PARTS:
        by_multiple = np.array([found[part, k] for k in critical_samples.MULTIPLES])
        assert (np.diff(by_multiple, axis=0) >= 0).all() and (by_multiple[-1] > by_multiple[0]).all()


# Asked at steps, whatever happens to the pack.


def ran(store, trials, slots, stop_after=None, **options):
    """A pack runs, to its end or for some turns."""
    running = run_pack(Pack(tuple(trials), slots), store, **options)
    for turn, _ in enumerate(running):
        if stop_after is not None and turn >= stop_after:
            running.close()
            break


def asked(store):
    rows = store.current("critical_samples").to_pylist()
    return sorted((r["trial_id"], r["step"], r["part"], r["radius_multiple"], r["critical_count"]) for r in rows)


def measured(store):
    """What training found, without what says when and where."""
    return {
        r["trial_id"]: (r["status"], r["weights_fingerprint"], r["train_loss_sum_nats"])
        for r in store.trials().to_pylist()
    }


def test_members_are_asked_at_their_steps_and_at_their_end(tmp_path):
    """Two slots for three trials: one enters when another leaves. One of the steps is no measurement."""
    probed = [trial(seed=seed, **PROBED) for seed in range(3)]
    ran(store := Store(tmp_path / "probed", create=True), probed, 2)
    ran(plain := Store(tmp_path / "plain", create=True), [trial(seed=seed) for seed in range(3)], 2)
    expected = sorted((own.trial_id, step) for own in probed for step in (0, 7, 9, own.budget))
    places = len(critical_samples.PARTS) * len(critical_samples.MULTIPLES)
    assert [row[:2] for row in asked(store)[::places]] == expected
    assert len({row[:4] for row in asked(store)}) == len(asked(store)) == places * len(expected)
    assert measured(store) == measured(plain)
    assert store.read("packs").to_pylist()[0]["probe_seconds"] > 0


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_what_was_asked_before_a_stop_is_stored_once(turns, tmp_path):
    probed = [trial(seed=seed, **PROBED) for seed in range(2)]
    ran(whole := Store(tmp_path / "whole", create=True), probed, 2)
    ran(stopped := Store(tmp_path / "stopped", create=True), probed, 2, stop_after=turns, checkpoint_seconds=0)
    assert {r["status"] for r in stopped.trials().to_pylist()} == {"interrupted"}
    ran(stopped, probed, 2)
    assert asked(stopped) == asked(whole) and measured(stopped) == measured(whole)


def test_other_numbers_of_examples_in_the_pack_change_nothing(tmp_path):
    sizes = [{"data__examples": 60}, {"data__examples": 90, "data__validation_examples": 20}]
    trials = [
        trial(seed=seed, probes=("critical_samples", "representations"), **size) for seed, size in enumerate(sizes)
    ]
    ran(together := Store(tmp_path / "together", create=True), trials, 2)
    found = []
    for number, own in enumerate(trials):
        ran(alone := Store(tmp_path / str(number), create=True), [own], 1)
        found += asked(alone)
        told, of_all = (
            [(r["part"], r["layer"], r["quantity"], len(r["numbers"])) for r in rows if r["trial_id"] == own.trial_id]
            for rows in (store.current("representations").to_pylist() for store in (alone, together))
        )
        assert sorted(told) == sorted(of_all)
    assert asked(together) == sorted(found)
    counts_of = {(r["trial_id"], r["part"], r["example_count"]) for r in together.read("critical_samples").to_pylist()}
    assert {count for _, part, count in counts_of if part == "train"} == {60, 90}
