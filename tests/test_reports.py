"""How a launch ends, for Python and for people: counts, causes, and how to go on."""

import os

import pytest

import memsweep
from memsweep.results.storage.store import Store
from memsweep.run import checkpoints, launcher
from memsweep.run.launch_options import LaunchOptions
from memsweep.run.packing import Pack
from memsweep.run.worker.execution import run_pack
from memsweep.spec.budget import Budget
from memsweep.spec.sweep_files import load_sweep
from tests.cases import ended
from tests.commands import own_folder, run  # noqa: F401

SWEEP = load_sweep("smoke")
TRIALS = SWEEP.trials
NOTHING = Budget(trials=0)  # so that Ray is not started


@pytest.fixture
def store():
    """Seven trials that finished, five that failed, of two causes."""
    made = Store("results", create=True)
    causes = [None] * 7 + ["Traceback\nValueError: no luck"] * 4 + ["Traceback\nKeyError: 'x'"]
    made.write(
        "trials",
        [
            ended(t.trial_id, "failed" if cause else "finished", cause=cause)
            for t, cause in zip(TRIALS, causes, strict=True)
        ],
    )
    return made


def test_a_report_counts_the_causes_of_failures(store):
    report = memsweep.launch(SWEEP, "results", progress=False)
    first, second = report.causes
    assert first.startswith("failed: ValueError: no luck. ") and second.startswith("failed: KeyError: 'x'. ")
    assert list(report.causes.values()) == [4, 1]
    lines = str(report).splitlines()
    results = os.path.abspath("results")
    assert lines[0] == f"smoke: 7 of 12 trials finished, 0 of them run now, 5 failed, 0 missing; in {results}"
    assert lines[1:3] == [f"4 {first}", f"1 {second}"]
    assert lines[3].startswith(f"memsweep status --results {results} lists the failed trials")
    assert repr(report) == str(report)


def test_a_report_of_many_causes_shows_the_first():
    store = Store("results", create=True)
    store.write("trials", [ended(t.trial_id, "failed", cause=f"Error: {i}") for i, t in enumerate(TRIALS)])
    lines = str(memsweep.launch(SWEEP, "results", progress=False)).splitlines()
    assert all(line.startswith("1 failed: Error: ") for line in lines[1:4])
    assert lines[4].startswith("9 other causes. memsweep status") and len(lines) == 5


def test_the_command_prints_the_report_once(store, run):  # noqa: F811
    code, out, err = run("launch", "smoke")
    assert code == 1 and out == ""
    assert err.count("7 of 12 trials finished") == err.count("no luck") == 1


def test_python_shows_the_progress_of_the_command(store, capfd):
    store.write("trials", [ended(t.trial_id, attempt_id="b", minute=1) for t in TRIALS])
    told = []
    memsweep.launch(SWEEP, "results", watch=lambda *counts: told.append(counts))
    assert capfd.readouterr().err == "smoke: 12 of 12 trials\n"
    assert told and told[0][:2] == (12, 12)
    memsweep.launch(SWEEP, "results", progress=False)
    assert capfd.readouterr().err == ""


def test_an_interrupted_launch_says_how_to_go_on(tmp_path):
    store = Store("results", create=True)
    report = launcher.launch(SWEEP, store, LaunchOptions(budget=NOTHING))
    assert report.saved == (0, 0, 12 * 40)
    assert "Launch again to continue with the 12 missing trials: no checkpoint holds their steps." in str(report)
    running = run_pack(Pack(TRIALS[:3], 3), store)
    next(running)
    running.close()
    steps = sum(checkpoints.steps(store).values())
    report = launcher.launch(SWEEP, store, LaunchOptions(budget=NOTHING))
    assert report.saved == (3, steps, 12 * 40) and steps > 0
    assert f"the 12 missing trials: checkpoints hold 3 of them, with {steps} of all 480 steps." in str(report)


def test_a_launch_interrupted_before_it_trains_says_how_to_go_on(run, monkeypatch):  # noqa: F811
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher, "launch", interrupt)
    code, _, err = run("launch", "smoke")
    assert code == 130 and err == "smoke: interrupted. All trials that ended are stored; launch again to continue.\n"
