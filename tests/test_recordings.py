"""Recorded steps: the same bits as the function, recorded when it pays, and never where that could change a result."""

import subprocess
import sys

import pytest
import torch

from memsweep.engine.train import recordings, trainer
from memsweep.engine.train.state import equal_bits
from memsweep.run.policy import calibration
from tests.cases import CASES, trial

RECURRENT = {name for name, fields in CASES.items() if fields.get("model.family") == "recurrent"}
OWN_CODE = ("model.family", "optimizer.name", "optimizer.objective", "regularization.penalty")
OWN = {name for name, fields in CASES.items() if any(":" in fields.get(field, "") for field in OWN_CODE)}


@pytest.fixture(autouse=True)
def from_the_start(monkeypatch):
    monkeypatch.setattr(recordings, "_entries", {})
    monkeypatch.setattr(recordings, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(recordings, "LONGEST_SECONDS", 60.0)  # a ResNet takes 0.05 s on a slow machine


def trained(trials, advances=3):
    """Returns the state and all measurements after `advances` calls of `trainer.advance`, four steps each."""
    program = trainer.compose(trials)
    state, found = trainer.init(program, trials), []
    for _ in range(advances):
        state, measured = trainer.advance(program, state, min(4, trainer.steps_to_measurement(state)))
        found += [value.tolist() for value in (*measured.counts.values(), *measured.test.values())]
        state = trainer.select(state, measured.active)
    return state, found


def numbers(state):
    return state.parameters, state.buffers, state.moments, state.averages, tuple(state.history)


def recorded():
    """Functions that are recorded, and why others could not be."""
    entries = recordings._entries.values()
    return [entry for entry in entries if entry.repeat], [entry.problem for entry in entries if entry.problem]


@pytest.mark.parametrize("case", [case for case in CASES if case not in OWN | RECURRENT])
def test_recorded_steps_have_the_bits_of_the_function(case, monkeypatch):
    trials = [trial(case, seed=seed) for seed in range(3)]
    state, measured = trained(trials)
    repeated, in_vain = recorded()
    assert repeated and not in_vain
    monkeypatch.setattr(recordings, "are_possible", lambda program: False)
    plain_state, plain_measured = trained(trials)
    assert equal_bits(numbers(state), numbers(plain_state))
    assert str(measured) == str(plain_measured)  # nan included


def test_a_function_runs_as_it_is_until_recording_it_pays(monkeypatch):
    monkeypatch.setattr(recordings, "PATIENCE_SECONDS", 1e9)
    trained([trial("momentum"), trial("momentum", seed=1)])
    assert recordings._entries and recorded() == ([], [])


def test_a_long_call_is_not_recorded(monkeypatch):
    monkeypatch.setattr(recordings, "LONGEST_SECONDS", 0.0)
    trained([trial("momentum"), trial("momentum", seed=1)])
    assert recordings._entries and recorded() == ([], [])


def test_other_numbers_of_members_are_other_recordings():
    for members in (2, 3, 2):
        trained([trial("momentum", seed=seed) for seed in range(members)])
    rows = {key[2][0][0][0] for key in recordings._entries}  # of the first tensor, the members
    assert rows == {2, 3}


def test_a_calibration_times_functions_as_they_are():
    trials = [trial("momentum", seed=seed) for seed in range(4)]
    assert calibration.calibrate(trials, "cpu").timings
    assert not recorded()[0] and not recordings._is_off


def test_recordings_are_few(monkeypatch):
    monkeypatch.setattr(recordings, "MOST_RECORDINGS", 2)
    for members in range(2, 6):
        trained([trial("momentum", seed=seed) for seed in range(members)])
    assert len(recordings._entries) == 2


def test_a_recording_that_is_given_up_leaves_nothing(monkeypatch):
    sources = torch.fx.graph_module._loader.eval_cache  # code of all GraphModules, which torch keeps for good
    before = len(sources)
    trained([trial("momentum", seed=seed) for seed in range(2)])
    assert recorded()[0] and len(sources) == before


def steered(program, tensor):
    return tensor + 1 if tensor.sum() > 0 else tensor - 1


def drawn(program, tensor):
    return tensor + torch.rand(3)


def counted(program, tensor, calls=[]):  # noqa: B006
    calls.append(0)
    return tensor.add_(len(calls)).clone()


def unrelated(program, tensor, kept=torch.zeros(3)):  # noqa: B008
    return kept


@pytest.mark.parametrize("function", [steered, drawn, counted, unrelated])
def test_a_function_that_may_do_something_else_at_the_next_call_runs_as_it_is(function):
    """Of numbers, of torch's generator, of a counter; and a result that no operation made."""
    program = trainer.compose([trial("momentum")])
    for _ in range(5):
        recordings.call(function, program, torch.ones(3))
    assert not recorded()[0] and recorded()[1]


def test_what_a_function_changes_in_place_is_changed_by_its_recording():
    def moved(program, tensors):
        tensors["a"].add_(tensors["b"])
        return tensors["a"].sum()

    program, tensors = trainer.compose([trial("momentum")]), {"a": torch.zeros(2), "b": torch.ones(2)}
    sums = [float(recordings.call(moved, program, tensors)) for _ in range(6)]
    assert sums == [2, 4, 6, 8, 10, 12] and recorded()[0]


def test_a_tensor_that_the_call_before_left_alone_is_changed_once():
    calls = []

    def moved(program, tensors):
        calls.append(0)
        tensors["a" if len(calls) < 2 else "b"].add_(1)
        return tensors["a"] + tensors["b"]

    program, tensors = trainer.compose([trial("momentum")]), {"a": torch.zeros(2), "b": torch.zeros(2)}
    sums = [float(recordings.call(moved, program, tensors).sum()) for _ in range(4)]
    assert sums == [2, 4, 6, 8] and recorded()[0]


@pytest.mark.parametrize("case", sorted(OWN))
def test_a_users_code_is_not_recorded(case):
    trained([trial(case, seed=seed) for seed in range(2)])
    assert not recordings._entries


def test_programs_that_run_otherwise_are_not_recorded():
    trials = [trial("momentum")]
    assert recordings.are_possible(trainer.compose(trials))
    assert not recordings.are_possible(trainer.compose(trials, mode="serial"))
    assert not recordings.are_possible(trainer.compose(trials, compiled=True))
    assert not recordings.are_possible(trainer.compose(trials)._replace(device=torch.device("cuda")))
    assert not recordings.are_possible(trainer.compose([trial("lstm, copy")]))


def test_recording_does_not_import_the_compiler():
    code = """
import sys
from memsweep.engine.train import recordings, trainer
from tests.cases import trial
recordings.PATIENCE_SECONDS, recordings.LONGEST_SECONDS = 0, 60
trials = [trial("momentum"), trial("momentum", seed=1)]
program = trainer.compose(trials)
trainer.advance(program, trainer.init(program, trials), 5)
assert any(entry.repeat for entry in recordings._entries.values())
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
