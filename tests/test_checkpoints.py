"""Which checkpoints of a folder are found, adopted and deleted. What they restore is in test_checkpoint.py."""

import json

import pytest
import torch
from safetensors.torch import save

from memsweep.results.storage.parts import write_whole
from memsweep.results.storage.store import Store
from memsweep.run import checkpoints, plan
from memsweep.run.launcher import _tidy
from memsweep.run.packing import Pack, make_packs
from memsweep.run.policy.execution_plan import choose
from tests.cases import ended, trial

TRIALS = tuple(trial(seed=seed) for seed in range(8))
IDS = [t.trial_id for t in TRIALS]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def saved(store, steps, waiting=(), slots=4, device="cpu"):
    """A file with a checkpoint's header: trial number -> step."""
    pack = Pack(tuple(TRIALS[i] for i in (*steps, *waiting)), slots)
    note = checkpoints.note([t.trial_id for t in pack.trials], slots, checkpoints.execution(pack, device))
    header = {**note, "members": [IDS[i] for i in steps], "steps": list(steps.values())}
    path = checkpoints.path_of(store, pack)
    write_whole(path, save({"step": torch.tensor(list(steps.values()))}, {"memsweep": json.dumps(header)}))
    return path


def planned(store, trials=TRIALS, members=None):
    return plan.packs(trials, 2, members, choose(trials, store, "cpu", 2), checkpoints.stored(store))


def numbers(pack):
    return [IDS.index(t.trial_id) for t in pack.trials]


def test_there_may_be_none(store):
    assert checkpoints.stored(store) == [] and checkpoints.steps(store) == {}
    assert [pack.trials for pack in planned(store)] == [pack.trials for pack in make_packs(TRIALS, 2, 64)]


def test_a_pack_cut_short_comes_first_and_as_it_was(store):
    saved(store, {5: 40, 2: 70}, waiting=(7,), slots=2)
    first, *others = planned(store)
    assert numbers(first) == [5, 2, 7] and first.slots == 2
    assert sorted(n for pack in others for n in numbers(pack)) == [0, 1, 3, 4, 6]


def test_only_what_is_missing_is_adopted(store):
    saved(store, {5: 40, 2: 70}, waiting=(7,), slots=3)
    first, *_ = planned(store, TRIALS[:6])
    assert numbers(first) == [5, 2] and first.slots == 2
    saved(store, {6: 90}, waiting=(7,))
    assert [numbers(pack) for pack in planned(store, TRIALS[:2])] == [[0], [1]]


def test_a_trial_of_two_checkpoints_is_adopted_once_where_it_is_furthest(store):
    saved(store, {0: 40, 1: 40, 2: 40, 3: 40})
    saved(store, {0: 90, 1: 90})
    packs = planned(store)
    assert [numbers(pack) for pack in packs[:2]] == [[0, 1], [2, 3]]
    assert checkpoints.steps(store) == {IDS[0]: 90, IDS[1]: 90, IDS[2]: 40, IDS[3]: 40}


def test_fewer_members_may_be_asked_for(store):
    saved(store, {0: 40, 1: 40, 2: 40, 3: 40})
    assert planned(store, members=2)[0].slots == 2


def test_what_holds_the_furthest_of_nobody_left_is_deleted(store):
    old, new = saved(store, {0: 40, 1: 40, 2: 40}), saved(store, {0: 90, 1: 90})
    checkpoints.tidy(store, IDS)
    assert old.exists() and new.exists()  # 2 would go on from the old one
    checkpoints.tidy(store, set(IDS) - {IDS[2]})
    assert not old.exists() and new.exists()
    checkpoints.tidy(store, ())
    assert not new.exists()


def test_a_pack_touches_no_checkpoint_of_strangers(store):
    mine, others = saved(store, {0: 40}), saved(store, {0: 30, 5: 30})
    checkpoints.tidy(store, (), {IDS[0], IDS[1]})
    assert not mine.exists() and others.exists()


def test_a_checkpoint_of_another_way_to_run_takes_no_place(store):
    here, there = saved(store, {0: 40}), saved(store, {0: 90}, device="cuda", slots=2)
    checkpoints.tidy(store, IDS)
    assert here.exists() and there.exists()


@pytest.mark.parametrize("damage", ["cut", "header", "foreign", "empty"])
def test_a_launch_tells_and_deletes_what_is_damaged(store, damage):
    path = saved(store, {0: 40})
    whole = saved(store, {1: 40})
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[:-1], "header": content[:60], "foreign": save({"a": torch.ones(1)}), "empty": b""}[damage]
    )
    assert planned(store) and checkpoints.steps(store) == {IDS[1]: 40}
    (remark,) = _tidy(TRIALS, store)
    assert str(path) in remark and "deleted" in remark
    assert not path.exists() and whole.exists()


def test_a_launch_deletes_checkpoints_of_trials_that_have_ended(store):
    paths = [saved(store, {i: 40}) for i in range(4)]
    rows = [
        ended(trial_id, status) for trial_id, status in zip(IDS, ("finished", "failed", "interrupted"), strict=False)
    ]
    store.write("trials", rows)
    (store.results / checkpoints.FOLDER / "dead.txt").write_text("last words of a launch that was killed")
    assert _tidy((), store) == []
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert not list(paths[0].parent.glob("*.txt"))


def test_another_sweeps_launch_keeps_what_it_does_not_want(store):
    path = saved(store, {0: 40})
    _tidy(TRIALS[4:], store)
    assert path.exists()


def test_what_a_killed_writer_left_half_written_is_deleted_without_a_word(store):
    path = saved(store, {0: 5})
    leftover = path.parent / f".{path.stem}-1.tmp"
    leftover.write_bytes(b"half")
    assert checkpoints.remove_damaged(store) == []
    assert path.exists() and not leftover.exists()
