"""A program that did not pay to compile is compiled after the launch, so that the next new folder finds it."""

import os
import shutil
import subprocess
import sys

import pytest

from memsweep.results.storage.store import Store
from memsweep.run import compiling
from memsweep.run.packing import Pack, program_name
from memsweep.run.policy import execution_plan
from memsweep.run.policy.execution_plan import COMPILE_SECONDS, ExecutionPlan
from memsweep.run.policy.savings import SAVED_UNMEASURED
from memsweep.spec import compiled_code
from tests.cases import trial

ENOUGH = round(COMPILE_SECONDS["loaded"] / SAVED_UNMEASURED) + 1  # member steps that pay for loading


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The commands started, on a machine with a compiler that has compiled nothing yet."""
    commands = []
    monkeypatch.setattr(execution_plan, "has_compiler", lambda: True)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv(compiling.VARIABLE, "1")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(compiling.background, "detach", lambda command, log, environment: commands.append(command))
    return commands


def requested():
    return [Pack.from_json(path.read_text()) for path in sorted((compiled_code.folder() / "requests").glob("*.json"))]


def start(*packs, workers=1):
    programs = {}
    compiling.collect(packs, programs)
    plans = {program_name(pack.trials[0]): ExecutionPlan() for pack in packs}
    return compiling.start(programs, plans, workers)


def packs_of(count, **fields):
    """Packs of two trials that together pay for loading."""
    fields = {"stop__steps": -(-ENOUGH // (2 * count)), **fields}
    return [Pack((trial(seed=2 * i, **fields), trial(seed=2 * i + 1, **fields)), 2) for i in range(count)]


def test_what_would_pay_once_it_is_on_the_disk_is_requested(started):
    ((message,), (again,)) = (start(*packs_of(3)) for _ in range(2))
    assert message == again and message.startswith("Programs that ran uncompiled: 1.")
    assert len(started) == 2 and started[0][1:] == ["-m", "memsweep.run.compiling"]
    (pack,) = requested()  # the same request, written twice
    assert pack.compiled and [t.trial_id for t in pack.trials] == [t.trial_id for t in packs_of(3)[0].trials]
    few = packs_of(3)[:2]
    compiled = [Pack(pack.trials, 2, compiled=True) for pack in packs_of(3)]
    in_turn = [Pack(pack.trials, 2, mode="serial") for pack in packs_of(3)]
    assert [start(*few), start(*packs_of(3), workers=2), start(*compiled), start(*in_turn)] == [[]] * 4
    assert start(*packs_of(1, model__family="torch.nn:Identity")) == []  # a user's code is not kept on the disk
    execution_plan.note_cached(execution_plan.variant(few[0].trials))
    assert start(*packs_of(3)) == [] and len(started) == 2


def test_a_program_is_requested_for_each_set_of_fields_that_add_code(started):
    plain, dropping = packs_of(1), packs_of(1, regularization__dropout=0.5)
    mixed = Pack((*plain[0].trials, *dropping[0].trials), 4)
    assert start(*plain, *dropping, mixed)[0].startswith("Programs that ran uncompiled: 2.")
    assert sorted(sorted(t.regularization.dropout for t in pack.trials) for pack in requested()) == [
        [0.0, 0.0],
        [0.5, 0.5],
    ]


@pytest.mark.parametrize("name, value", [(compiling.VARIABLE, "0"), ("SLURM_JOB_ID", "7")])
def test_nothing_is_compiled_later_where_it_is_turned_off_or_would_be_ended(started, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert start(*packs_of(3)) == [] and not started and not requested()


@pytest.mark.launches
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler: g++")
def test_a_request_is_met_once_and_the_next_new_folder_compiles(tmp_path):
    """In the user's cache, so that the program, of the case "decay", is compiled once for several tests."""
    trials = tuple(trial("decay", seed=seed) for seed in range(3))
    name, folder = execution_plan.variant(trials), compiled_code.folder() / "requests"
    execution_plan._marker(name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    request = folder / "0.json"
    request.write_text(Pack(trials, 3, compiled=True).to_json())
    with Store(folder).lock("requests"):
        meet(tmp_path)
        assert request.exists()  # another process is at work
    (folder / "1.json").write_text("{}")  # a damaged one stops no other
    meet(tmp_path)
    assert not request.exists() and not (folder / "1.json").exists()
    assert execution_plan.compile_seconds(name) == COMPILE_SECONDS["loaded"]
    plans = execution_plan.choose([trial("decay", seed=9, stop__steps=ENOUGH)], None, "cpu", 1)
    assert [plan.compiled for plan in plans.values()] == [True]


def meet(folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # not at the lowest priority, at which it would not run beside busy tests
    command = [sys.executable, "-c", "from memsweep.run import compiling; compiling.meet_requests()"]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
