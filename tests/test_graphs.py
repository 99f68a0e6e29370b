"""Graphs have the bits of single steps, on a stand-in for a GPU that repeats kernels at their addresses."""

import time
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from memsweep.engine.train import graphs, recordings, trainer
from memsweep.engine.train.evaluation import first_answers, numbers_of
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack
from memsweep.run.worker import execution
from memsweep.run.worker.execution import run_pack
from tests.cases import trial
from tests.test_exactness import deviation


class Tape(TorchDispatchMode):
    """Every operation of torch in a block, with its tensors; `replay` does them again, without the code that asked."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self.before = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a number is read on the host")
        if function._schema.is_mutable:
            self.before += [(tensor, tensor.clone()) for tensor in torch.utils._pytree.tree_leaves((args, kwargs))
                            if isinstance(tensor, torch.Tensor)]  # fmt: skip
        result = function(*args, **kwargs)
        self.operations.append((function, args, kwargs, result))
        return result

    def replay(self):
        with torch.no_grad():
            for function, args, kwargs, result in self.operations:
                fresh = function(*args, **kwargs)
                if not function._schema.is_mutable:
                    for old, new in zip(*map(torch.utils._pytree.tree_leaves, (result, fresh)), strict=True):
                        if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                            old.copy_(new)


class Recorder:
    """A backend that captures on a tape, and counts."""

    def __init__(self):
        self.counts = Counter()
        self.waiting = 0.0
        self.free = 1 << 30
        self.slip = None  # what a replay does wrong

    def captured(self, work):
        self.counts["captures"] += 1
        tape = Tape()
        with tape:
            work()
        for tensor, numbers in reversed(tape.before):  # a capture runs nothing
            tensor.copy_(numbers)

        def replay():
            self.counts["replays"] += 1
            tape.replay()
            if self.slip is not None:
                self.slip(tape)

        return replay

    def synchronize(self):
        time.sleep(self.waiting)

    def free_bytes(self):
        return self.free


@pytest.fixture
def recorder(monkeypatch):
    """Graphs on the CPU."""
    recorder = Recorder()
    monkeypatch.setattr(graphs, "BACKENDS", {"cpu": recorder})
    for name, empty in (("_entries", {}), ("_problems", {}), ("_bound", set()), ("_is_off", False)):
        monkeypatch.setattr(graphs, name, empty)
    monkeypatch.setattr(graphs, "replayed_steps", 0)
    monkeypatch.setattr(recordings, "are_possible", lambda program: False)  # as on a GPU
    monkeypatch.setattr(graphs, "WAITING", 1e9)  # a busy machine may stop this process anywhere
    return recorder


CASES = ("decay", "all at once", "adam", "averaged", "sam")
"""Of tests/cases.py, with noise and dropout, moments, averages, or two gradients a step."""


def pack(case="decay", count=5, **fields):
    fields = {"stop__steps": 150, "stop__measure_steps": 37, **fields}
    return [trial(case, seed=seed, **fields) for seed in range(count)]


def trained(trials, slots=3):
    """Curves and final numbers of trials that share slots, as in a pack: waiting trials enter, and the pack shrinks."""
    program = trainer.compose(trials)
    state, waiting = trainer.init(program, trials[:slots]), list(trials[slots:])
    curves, ends = {}, {}
    while len(state.members):
        state, measured = trainer.advance(program, state, trainer.steps_to_measurement(state))
        for m, member in enumerate(state.members):
            points = {name: values[m] for name, values in (measured.counts | measured.test).items()}
            curves[member.trial.trial_id, int(measured.step[m])] = points if measured.due[m] else None
            ends[member.trial.trial_id] = {name: value[m].clone() for name, value in numbers_of(state).items()}
        free = np.flatnonzero(~measured.active)
        entering, waiting = waiting[: len(free)], waiting[len(free) :]
        if entering:
            state = trainer.admit(program, state, free[: len(entering)], entering)
        state = trainer.select(state, np.delete(np.arange(len(state.members)), free[len(entering) :]))
    return curves, ends


def assert_same(mine, theirs):
    assert mine[0] == theirs[0] and mine[0]
    assert max(deviation(mine[1][trial_id], numbers) for trial_id, numbers in theirs[1].items()) == 0


@pytest.mark.parametrize("case", CASES)
def test_steps_from_graphs_have_the_bits_of_steps_one_by_one(case, recorder, monkeypatch):
    trials = pack(case)
    mine = trained(trials)
    steps = graphs.replayed_steps
    monkeypatch.setattr(graphs, "BACKENDS", {})
    assert_same(mine, trained(trials))
    assert steps > 100 and recorder.counts["replays"] > recorder.counts["captures"] >= 3 and not graphs._problems


def test_sixteen_steps_are_one_launch(recorder):
    """After the first calls; what is left of the steps is launched one by one."""
    trials = pack(count=3, stop__steps=400, stop__measure_steps=400)
    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    state, _ = trainer.train(program, state, 16 * (graphs.WARM_CALLS + 1))
    state, _ = trainer.train(program, state, graphs.WARM_CALLS + 1)
    assert recorder.counts == {"captures": 2, "replays": 2} and graphs.replayed_steps == 0
    state, norms = trainer.train(program, state, 3 * 16 + 5)
    kept = norms.clone()
    assert recorder.counts == {"captures": 2, "replays": 2 + 3 + 5} and graphs.replayed_steps == 53
    assert not torch.equal(trainer.train(program, state, 1)[1], kept) and torch.equal(norms, kept)


def test_an_evaluation_is_one_launch(recorder, monkeypatch):
    trials = pack(count=3)
    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    answers = [first_answers(program, state) for _ in range(graphs.WARM_CALLS + 2)]
    state.parameters["layers.0.weight"].data.mul_(0.5)  # unseen by autograd, as what a compiled program writes
    answers.append(first_answers(program, state))
    assert recorder.counts == {"captures": 1, "replays": 3} and graphs.replayed_steps == 0
    monkeypatch.setattr(graphs, "BACKENDS", {})
    assert all(map(torch.equal, answers[-1], first_answers(program, state)))
    assert all(map(torch.equal, answers[-2], answers[0])) and not torch.equal(answers[-1].loss, answers[0].loss)


def test_a_state_that_was_changed_elsewhere_is_read_anew(recorder, monkeypatch):
    """Weights of a checkpoint, and examples, are copied over those of the state."""

    def run():
        trials = pack(count=3, stop__steps=400, stop__measure_steps=400)
        program = trainer.compose(trials)
        state, other = (trainer.init(program, some) for some in (trials, trials[::-1]))
        for round in range(3):
            state, _ = trainer.train(program, state, 100)
            other, _ = trainer.train(program, other, 20)  # the same graph, other tensors
            if round == 1:
                state.parameters["layers.0.weight"].data[1].mul_(0.5)  # unseen by autograd, as a compiled program's
                state.examples.given[1, :20] = (state.examples.given[1, :20] + 1) % 10
        return numbers_of(state), numbers_of(other)

    mine = run()
    assert graphs.replayed_steps > 150
    monkeypatch.setattr(graphs, "BACKENDS", {})
    assert [deviation(one, two) for one, two in zip(mine, run(), strict=True)] == [0, 0]


def of_one_bit(tape):
    """The last number that the captured work wrote is one bit off."""
    for function, args, _, _ in reversed(tape.operations):
        if function is torch.ops.aten.copy_.default and args[0].dtype == torch.float32:
            args[0].flatten().view(torch.int32)[-1] ^= 1
            return


def refusing(work):
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


@pytest.mark.parametrize("how", ["bits", "capture", "memory"])
def test_what_a_graph_cannot_do_is_done_step_by_step(how, recorder, monkeypatch, tmp_path):
    if how == "bits":
        recorder.slip = of_one_bit
    elif how == "capture":
        recorder.captured = refusing
    else:
        recorder.free = 1000
    reason = {
        "bits": "the first replay had other bits",
        "capture": "RuntimeError: operation not permitted when stream is capturing",
        "memory": "too little free memory",
    }[how]
    trials = pack()
    mine = trained(trials)
    assert graphs.problem(trainer.compose(trials)) == reason and graphs.replayed_steps == 0
    assert recorder.counts["captures"] <= 1  # not tried again
    row, ends = stored(tmp_path / "mine", trials)
    assert row["cause"] == f"no CUDA graphs: {reason}" and row["graph_step_count"] == 0
    monkeypatch.setattr(graphs, "BACKENDS", {})
    assert_same(mine, trained(trials))
    assert stored(tmp_path / "theirs", trials)[1] == ends


def stored(folder, trials):
    """The row of a pack, and the fingerprints of its trials' weights."""
    store = Store(folder, create=True)
    for _ in run_pack(Pack(tuple(trials), 3), store):
        pass
    (row,) = store.read("packs").to_pylist()
    return row, {r["trial_id"]: (r["status"], r["weights_fingerprint"]) for r in store.trials().to_pylist()}


def test_a_pack_stores_how_many_of_its_steps_graphs_ran(recorder, monkeypatch, tmp_path):
    row, ends = stored(tmp_path / "mine", pack())
    assert 300 < row["graph_step_count"] < row["member_step_count"] == 5 * 150 and row["cause"] is None
    monkeypatch.setattr(graphs, "BACKENDS", {})
    row, others = stored(tmp_path / "theirs", pack())
    assert ends == others and row["graph_step_count"] == 0


def test_memory_that_runs_out_ends_graphs_before_it_halves_a_pack(recorder, monkeypatch, tmp_path):
    advance, raised = trainer.advance, []

    def short(program, state, *how):
        if graphs.replayed_steps and len(raised) < 2:
            raised.append(len(state.members))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return advance(program, state, *how)

    monkeypatch.setattr(execution.trainer, "advance", short)
    row, ends = stored(tmp_path, pack(count=3))
    first, second = row["cause"].split("; ", 1)
    assert first == "out of memory" and second.startswith("continued without CUDA graphs; out of memory with 3 slots")
    assert raised == [3, 3] and not graphs._entries and {status for status, _ in ends.values()} == {"finished"}


def test_what_the_device_takes_long_for_is_not_captured(recorder, monkeypatch):
    monkeypatch.setattr(graphs, "WAITING", 1.5)
    recorder.waiting = 0.2
    trained(pack(count=3))
    assert not recorder.counts and not graphs._problems and {key[0] for key in graphs._bound} >= {trainer._steps}


def loss(outputs, labels, inputs):
    return torch.nn.functional.cross_entropy(outputs, labels, reduction="none")


def test_code_of_the_users_is_not_captured(recorder):
    """It may do other things than kernels."""
    trained(pack(count=3, optimizer__objective="tests.test_graphs:loss"))
    assert not recorder.counts and not graphs._problems
