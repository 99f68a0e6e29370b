"""The progress of a launch that runs, as another process shows it."""

import json
import re
import subprocess
import sys
import time

import pytest

from memsweep.cli.printing import duration
from memsweep.results.progress import sentences
from memsweep.results.storage.store import Store
from memsweep.run import progress_note
from memsweep.run.packing import COMPILING, STARTING, TRAINING, Pack, Tally
from memsweep.run.progress_note import PackAtWork, ProgressNote, datetime
from memsweep.run.worker import execution
from memsweep.run.worker.execution import run_pack
from tests.cases import trial

PACK = Pack(tuple(trial(seed=seed) for seed in range(2)), 2)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def at_work(tally):
    return PackAtWork(PACK, "box", datetime.now().astimezone(), tally)


def test_a_launch_at_work_is_described(store):
    note = ProgressNote(store.note_progress)
    note.update(Tally(trained=100, left=900, steps=1000, phase=TRAINING), [at_work(Tally(left=900, phase=TRAINING))])
    assert sentences(store, duration) == []  # no launch holds the folder
    with store.lock():
        launch, pack = sentences(store, duration)
    assert re.fullmatch(r"launch at work for .+: training, 100 of 1,000 steps \(10%\)", launch)
    assert re.match(rf"pack {PACK.pack_id} on box for .+: training, 2 trials, 900 steps left; mlp 64-", pack)


def test_a_note_is_written_now_and_then_with_the_rate(store, monkeypatch):
    now, notes = [100.0], []
    monkeypatch.setattr(progress_note.time, "monotonic", lambda: now[0])
    note = ProgressNote(notes.append)
    for second in range(20):
        now[0] += 1
        note.update(Tally(trained=50 * second, left=10, steps=960), [at_work(None)])
    assert len(notes) == 10 and notes[-1]["rate"] == pytest.approx(50)
    assert notes[0]["phase"] == STARTING and notes[0]["packs"][0]["left"] == PACK.steps


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"packs": 3}'])
def test_a_note_that_cannot_be_read_is_left_out(store, text):
    (store.results / "progress.json").write_text(text)
    with store.lock():
        assert sentences(store, duration) == []


def test_a_pack_reports_its_phase(store, monkeypatch):
    monkeypatch.setattr(execution, "FIRST_STEPS", 3)
    assert {tally.phase for tally in run_pack(PACK, store)} == {TRAINING}
    compiled = Pack(PACK.trials, 2, compiled=True)
    assert next(run_pack(compiled, store)).phase == COMPILING


def test_status_watches_a_launch_until_it_ends(tmp_path):
    hold = (
        "import sys, time\nfrom memsweep.results.storage.store import Store\n"
        "store = Store(sys.argv[1], create=True)\nwith store.lock():\n    print(1, flush=True)\n    sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    results = str(tmp_path / "results")
    with subprocess.Popen([sys.executable, "-c", hold, results], **pipes) as launch:
        assert launch.stdout.readline() == "1\n"
        store = Store(results)
        store.write("wanted", [{"sweep": "q", "trial_id": "a"}])
        ProgressNote(store.note_progress).update(Tally(steps=10, left=10, phase=COMPILING), [at_work(None)])
        command = [sys.executable, "-m", "memsweep", "status", "--watch", "--results", results, "--format", "jsonl"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
            first = json.loads(watch.stdout.readline())
            assert (first["sweep"], first["missing"]) == ("q", 1)
            assert "compiling, 0 of 10 steps (0%)" in watch.stderr.readline()
            time.sleep(0.1)
            assert watch.poll() is None
            launch.stdin.close()
            out, err = watch.communicate(timeout=60)
            assert watch.returncode == 0 and json.loads(out.splitlines()[-1])["missing"] == 1
            assert err.count("launch at work") < out.count("\n")  # the last look is after the end of the launch
