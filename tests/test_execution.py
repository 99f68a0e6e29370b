"""A pack that is stopped, runs out of memory or meets a user's error ends with the numbers of an undisturbed one."""

import pytest
import torch

from memsweep.engine.nn import models
from memsweep.engine.train import trainer
from memsweep.results.storage.store import Store
from memsweep.run import checkpoints
from memsweep.run.packing import CANNOT_BE_FUSED, Pack
from memsweep.run.worker import execution, writer
from memsweep.run.worker.execution import run_pack
from memsweep.spec.schema import error_line, reproduction
from tests.cases import trial

TRIALS = tuple(
    trial("decay", seed=seed, data__examples=examples, stop__fit=fit, optimizer__epochs=10, probes=("examples",))
    for seed, (examples, fit) in enumerate([(90, 0.0), (60, 0.5), (90, 0.3), (40, 0.0), (90, 0.0), (60, 0.0)])
)
PACK = Pack(TRIALS, slots=3)
ELSEWHERE = {"attempt_id", "pack_id", "wall_seconds", "finished_at", "host"}


def store_of(path, *packs, **options):
    """A results folder in which these packs have run to their ends."""
    store = Store(path, create=True)
    for pack in packs:
        for _ in run_pack(pack, store, **options):
            pass
    return store


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return store_of(tmp_path_factory.mktemp("undisturbed"), PACK)


def numbers(store, trials=TRIALS):
    """All rows of these trials, without times and places."""
    ids = {t.trial_id for t in trials}
    rows = [
        (table, row["trial_id"], row.get("step") or 0, row.get("example") or 0, row)
        for table in ("trials", "steps", "examples")
        for row in store.current(table).to_pylist()
        if row["trial_id"] in ids
    ]
    ordered = sorted(rows, key=lambda row: row[:4])
    return [(table, {n: v for n, v in row.items() if n not in ELSEWHERE}) for table, *_, row in ordered]


def packs_of(store):
    """The executions, in the order of their ends: parts have none."""
    return sorted(store.read("packs").to_pylist(), key=lambda row: row["finished_at"])


def files(store):
    return sorted(path.name for path in (store.results / checkpoints.FOLDER).glob("*"))


def stopped_after(store, chunks, pack=PACK, **options):
    """Runs the pack for some chunks, then closes it, as Ctrl-C does."""
    running = run_pack(pack, store, **options)
    for _ in range(chunks):
        next(running)
    running.close()


def killed_after(store, chunks, pack=PACK):
    """Runs the pack, saving it whenever it can, then leaves it as `kill -9` does: nothing more is written."""
    running = run_pack(pack, store, checkpoint_seconds=0.0)
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(chunks):
            next(running)
        patch.setattr(store, "write", lambda table, *part: store.results / table / "unwritten.parquet")
        patch.setattr(execution, "write_whole", lambda path, content: None)
        patch.setattr(checkpoints, "tidy", lambda *_: None)
        running.close()


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(execution, "FIRST_STEPS", 3)
    monkeypatch.setattr(execution, "CHUNK_SECONDS", 1e-3)


def test_an_undisturbed_pack_leaves_no_checkpoint(undisturbed):
    assert files(undisturbed) == []
    assert [row["cause"] for row in packs_of(undisturbed)] == [None]


@pytest.mark.parametrize("chunks", [1, 2, 10, 40])
def test_a_closed_pack_goes_on_where_it_was(undisturbed, tmp_path, chunks):
    store = store_of(tmp_path)
    stopped_after(store, chunks)
    assert files(store) == [f"{PACK.pack_id}.safetensors"]
    assert "interrupted" in store.trials(["status"])["status"].to_pylist()
    stopped_after(store, 5)
    for _ in run_pack(PACK, store):
        pass
    assert numbers(store) == numbers(undisturbed)
    assert files(store) == []


def test_no_step_is_trained_twice(undisturbed, tmp_path):
    store = store_of(tmp_path)
    stopped_after(store, 20)
    (saved,) = checkpoints.stored(store)
    assert sum(saved.steps.values()) > 0 and set(saved.trials) < {t.trial_id for t in TRIALS}
    left = Pack(tuple(t for t in TRIALS if t.trial_id in saved.trials), PACK.slots)
    for _ in run_pack(left, store):
        pass
    steps = [sum(row["member_step_count"] for row in packs_of(s)) for s in (store, undisturbed)]
    assert steps[0] == steps[1]
    assert numbers(store) == numbers(undisturbed)


@pytest.mark.parametrize("chunks", [1, 7, 30])
def test_a_killed_pack_goes_on_from_its_checkpoint(undisturbed, tmp_path, chunks):
    store = store_of(tmp_path)
    killed_after(store, chunks)
    (saved,) = checkpoints.stored(store)
    assert saved.slots == 3
    for _ in run_pack(PACK, store):
        pass
    assert numbers(store) == numbers(undisturbed)
    assert packs_of(store)[-1]["member_step_count"] < packs_of(undisturbed)[0]["member_step_count"]
    assert files(store) == []


def test_halves_of_a_pack_go_on_from_its_checkpoint(undisturbed, tmp_path):
    """The checkpoint stays until the last of its members has settled."""
    store = store_of(tmp_path)
    killed_after(store, 8)
    saved = files(store)
    members = TRIALS[:2], TRIALS[2:]
    for _ in run_pack(Pack(members[0], 2), store):
        pass
    assert files(store) == saved
    for _ in run_pack(Pack(members[1], 2), store):
        pass
    assert numbers(store) == numbers(undisturbed)


def test_a_damaged_checkpoint_is_told_and_deleted(undisturbed, tmp_path):
    store = store_of(tmp_path)
    stopped_after(store, 10)
    (saved,) = checkpoints.stored(store)
    content = saved.path.read_bytes()
    saved.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for _ in run_pack(PACK, store):
        pass
    assert numbers(store) == numbers(undisturbed)
    assert "is deleted, because it is damaged" in packs_of(store)[-1]["cause"]
    assert files(store) == []


def test_a_checkpoint_of_another_way_to_run_is_no_use(undisturbed, tmp_path, monkeypatch):
    store = store_of(tmp_path)
    stopped_after(store, 4)
    (saved,) = checkpoints.stored(store)
    assert checkpoints.execution(PACK, "cpu") == saved.execution
    assert checkpoints.execution(Pack(TRIALS, 3, compiled=True), "cpu") != saved.execution
    assert checkpoints.execution(PACK, "cuda") != saved.execution
    monkeypatch.setattr(checkpoints, "version", lambda package: "9.9")
    for _ in run_pack(PACK, store):
        pass
    assert packs_of(store)[-1]["member_step_count"] == packs_of(undisturbed)[0]["member_step_count"]


def test_a_disk_that_refuses_a_checkpoint_costs_nothing_else(undisturbed, tmp_path, monkeypatch):
    def refuse(path, content):
        raise execution.StoreError(f"{path}: can't be written. The disk is full.")

    monkeypatch.setattr(execution, "write_whole", refuse)
    store = store_of(tmp_path, PACK, checkpoint_seconds=0.0)
    assert numbers(store) == numbers(undisturbed)
    assert "The disk is full" in packs_of(store)[0]["cause"]


# Memory.


@pytest.fixture
def memory_for(monkeypatch):
    """Lets the engine train so many members and no more."""

    def limit(members, error, unless=lambda state: False):
        advance = trainer.advance

        def limited(program, state, steps, clock=None):
            if len(state.members) > members and not unless(state):
                raise error
            return advance(program, state, steps, clock)

        monkeypatch.setattr(trainer, "advance", limited)

    return limit


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: not enough memory"),
    ],
)
def test_where_memory_runs_out_half_the_slots_go_on(undisturbed, tmp_path, memory_for, error):
    memory_for(1, error)
    store = store_of(tmp_path, PACK)
    assert numbers(store) == numbers(undisturbed)
    assert packs_of(store)[0]["cause"] == "out of memory with 3 slots; continued with 1"


def test_memory_that_runs_out_late_repeats_little(undisturbed, tmp_path, memory_for):
    memory_for(1, MemoryError(), unless=lambda state: state.step.max() < 15)
    store = store_of(tmp_path, PACK, checkpoint_seconds=0.0)
    assert numbers(store) == numbers(undisturbed)
    assert "continued with 1" in packs_of(store)[0]["cause"]
    assert files(store) == []


def test_a_member_that_fits_nowhere_is_out_of_memory_and_the_rest_go_on(undisturbed, tmp_path, memory_for):
    large = TRIALS[1].trial_id
    memory_for(0, MemoryError("no room"), unless=lambda state: large not in [m.trial.trial_id for m in state.members])
    store = store_of(tmp_path, PACK)
    others = [t for t in TRIALS if t.trial_id != large]
    assert numbers(store, others) == numbers(undisturbed, others)
    (row,) = (row for row in store.trials().to_pylist() if row["trial_id"] == large)
    assert row["status"] == "out_of_memory"
    assert error_line(row["cause"]) == "MemoryError: no room" and "Traceback" in row["cause"]
    assert row["cause"].splitlines()[-1] == reproduction(TRIALS[1], store.results)


# Errors of users' code.


class Picky(torch.nn.Module):
    """A user's network that fails for some first weights: when it is made, or when it is run."""

    def __init__(self, model, input_dim, classes, fails="run"):
        super().__init__()
        self.out = torch.nn.Linear(input_dim, classes)
        is_bad = torch.rand(()) < 0.3
        if is_bad and fails == "made":
            raise ValueError("these weights can't be had")
        self.metric = torch.nn.Parameter(torch.eye(2) * (-1 if is_bad else 1))

    def forward(self, inputs):
        return self.out(inputs) + 0 * torch.linalg.cholesky(self.metric).sum()


class Unbuildable(Picky):
    def __init__(self, model, input_dim, classes):
        super().__init__(model, input_dim, classes, fails="made")


def of(family, trials=TRIALS):
    return tuple(t.with_fields({"model.family": f"tests.test_execution:{family}"}) for t in trials)


def is_bad(picky):
    return models.build(picky, 64, 10).metric[0, 0] < 0


@pytest.mark.parametrize(
    "family, message", [("Picky", "not positive-definite"), ("Unbuildable", "these weights can't be had")]
)
def test_only_the_guilty_fail(tmp_path, family, message):
    trials = of(family, [t.with_fields({"seeds.init": seed}) for seed, t in enumerate(TRIALS)])
    guilty = [t for t, same in zip(trials, of("Picky", trials), strict=True) if is_bad(same)]
    innocent = [t for t in trials if t not in guilty]
    assert 0 < len(guilty) < len(innocent)
    store = store_of(tmp_path / "mixed", Pack(trials, slots=4))
    rows = {row["trial_id"]: row for row in store.trials().to_pylist()}
    for t in guilty:
        row = rows[t.trial_id]
        assert row["status"] == "failed" and message in error_line(row["cause"])
        assert "Traceback" in row["cause"]
        assert row["cause"].splitlines()[-1] == reproduction(t, store.results)
    assert numbers(store, innocent) == numbers(store_of(tmp_path / "pure", Pack(tuple(innocent), 4)), innocent)


def test_where_all_fail_each_fails_by_itself(tmp_path):
    trials = [t.with_fields({"seeds.init": seed}) for seed, t in zip(range(40), TRIALS * 7, strict=False)]
    guilty = tuple(t for t in of("Picky", trials) if is_bad(t))
    store = store_of(tmp_path, Pack(guilty, slots=len(guilty)))
    assert store.trials(["status"])["status"].to_pylist() == ["failed"] * len(guilty)


def test_a_full_disk_is_nobodys_fault(tmp_path, monkeypatch):
    store = store_of(tmp_path)
    write, refused = store.write, []

    def refuse_once(table, *part):
        if not refused:
            refused.append(table)
            raise execution.StoreError("the disk is full")
        return write(table, *part)

    monkeypatch.setattr(store, "write", refuse_once)
    monkeypatch.setattr(writer, "FLUSH_SECONDS", 0.0)  # while members are still in training
    with pytest.raises(execution.StoreError, match="the disk is full"):
        for _ in run_pack(PACK, store):
            pass
    assert set(store.trials(["status"])["status"].to_pylist()) <= {"finished"}


# Networks that turn out not to be liftable when they run.


@pytest.mark.parametrize("probes", [(), ("critical_samples",)])
def test_a_pack_that_cannot_be_fused_goes_on_in_turn_and_names_the_line(tmp_path, probes):
    """As folders of older versions have it planned: `fused`, although its first evaluation cannot be lifted."""
    own = {"model__family": "tests.test_choices:Reading", "optimizer__epochs": 1, "probes": probes}
    trials = tuple(trial(seed=seed, **own) for seed in range(3))
    fused = store_of(tmp_path / "fused", Pack(trials, slots=2, compared=True))
    serial = store_of(tmp_path / "serial", Pack(trials, slots=2, mode="serial"))
    assert fused.trials()["status"].to_pylist() == ["finished"] * 3
    assert numbers(fused, trials) != []
    assert without_deviation(numbers(fused, trials)) == without_deviation(numbers(serial, trials))
    (row,) = packs_of(fused)
    assert row["mode"] == "serial" and row["program_deviation"] == 0.0
    assert row["cause"].startswith(CANNOT_BE_FUSED) and "test_choices.py, line" in row["cause"]
    assert "the layer's line" in row["cause"] and "Batching rule not implemented" in row["cause"]


def without_deviation(rows):
    return [(table, {name: value for name, value in row.items() if name != "deviation"}) for table, row in rows]
