"""What a calibration measured is kept by the machine, and serves later folders with the same program alone."""

import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from memsweep.results.storage.store import Store
from memsweep.run import estimation
from memsweep.run import preview as previews
from memsweep.run.launch_options import LaunchOptions
from memsweep.run.packing import Pack, program_name
from memsweep.run.policy import calibration, execution_plan, timings
from memsweep.run.policy.execution_plan import choose
from memsweep.run.policy.timings import Calibration, Timing, calibrated, find
from memsweep.spec.code import NO_CODE, code_of
from memsweep.spec.sweep import Sweep
from tests.cases import trial

TIMINGS = tuple(
    Timing(mode, members, seconds, 1000, is_clean=True)
    for mode, members, seconds in (("serial", 2, 5e-4), ("fused", 8, 9e-5), ("fused", 32, 6e-5))
)
OWN = {"model__family": "tests.cases:Scored"}
"""A user's network."""


@pytest.fixture(autouse=True)
def measured(monkeypatch, tmp_path):
    """The programs that were measured, on a machine that keeps nothing yet; the measurement takes no time."""
    programs = []

    def calibrate(trials, device):
        programs.append(program_name(trials[0]))
        return Calibration(TIMINGS, measured_at=time.time(), is_whole=True)

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv(timings.VARIABLE, "1")
    monkeypatch.setattr(calibration, "calibrate", calibrate)
    monkeypatch.setattr(timings, "_source", lambda: "code")  # not of files that are edited while tests run
    return programs


def group(seeds=range(70), **fields):
    """Replicates of two settings of one program."""
    return [
        trial(seed=seed, regularization__weight_decay=decay, **{"stop__steps": 10**5, **fields})
        for decay in (0.0, 0.1)
        for seed in seeds
    ]


def files(tmp_path):
    return sorted((tmp_path / "cache/memsweep/calibrations").iterdir())


@pytest.mark.parametrize("fields", [{}, OWN], ids=["mlp", "own network"])
def test_a_program_is_measured_once_for_all_folders_whatever_the_seeds(measured, tmp_path, fields):
    assert not calibrated(group(**fields), "cpu").is_kept
    sent = Pack.from_json(Pack(tuple(group(**fields)), 1).to_json()).trials  # to a worker
    others = [sent, group(range(100, 170), **fields), group(range(99), **fields)]
    others += [group(**fields, optimizer__learning_rate=0.1), group(**fields, stop__fit=0.0)]  # defaults
    for trials in others:
        kept = calibrated(trials, "cpu")
        assert kept.is_kept and kept.timings == TIMINGS
    assert len(measured) == 1 and len(files(tmp_path)) == 1


def test_another_rate_is_the_same_measurement_but_none_is_not():
    calibrated(group(optimizer__learning_rate=0.2, optimizer__momentum=0.5), "cpu")
    assert find(group(optimizer__learning_rate=0.3, optimizer__momentum=0.9), "cpu")
    assert not find(group(optimizer__learning_rate=0.3), "cpu")
    assert not find(group(optimizer__learning_rate=0.0, optimizer__momentum=0.9), "cpu")


@pytest.mark.parametrize(
    "trials",
    [
        group(model__width=9),
        group(compute__dtype="float64"),
        group(data__examples=91),
        group(data__subset_fraction=0.5),
        group(data__validation_examples=41),
        group(stop__measure_steps=7),
        group(regularization__dropout=0.1),
        [*group(), trial(regularization__dropout=0.1)],
        group(range(10)),
        group(seeds__inputs=0),
        group(range(60)),
        group(**OWN),
    ],
    ids=lambda trials: f"{len(trials)} trials",
)
def test_other_trials_are_measured(measured, trials):
    calibrated(group(), "cpu")
    assert not calibrated(trials, "cpu").is_kept and len(measured) == 2


PARTS = {
    "torch": ("version", lambda name: "2.14.0"),
    "code": ("_source", lambda: "edited"),
    "processor": ("compiled_code.processor", lambda names: ["flags : avx"]),
    "machine": ("platform.node", lambda: "other"),
    "python": ("platform.python_version", lambda: "3.99.0"),
    "installed processors": ("processors.installed", lambda: 77),
    "allotted processors": ("processors.allotted", lambda: 77),
    "user's code": ("code_of", lambda paths: code_of(paths)._replace(fingerprint="edited")),
    "user's packages": ("code_of", lambda paths: code_of(paths)._replace(packages={"lab": "2"})),
}
UNKNOWN = {
    "edited code": ("_source", lambda: None),
    "unknown processor": ("compiled_code.processor", lambda names: []),
    "edited user's code": ("psutil.Process", lambda: SimpleNamespace(create_time=lambda: 0.0)),
    "unknown user's code": ("code_of", lambda paths: NO_CODE),
}


@pytest.mark.parametrize("part", PARTS)
def test_another_machine_or_code_is_measured(monkeypatch, part):
    calibrated(group(**OWN), "cpu")
    target, value = PARTS[part]
    monkeypatch.setattr(f"memsweep.run.policy.timings.{target}", value)
    assert not find(group(**OWN), "cpu") and not calibrated(group(**OWN), "cpu").is_kept
    assert find(group(**OWN), "cpu")


def test_another_setting_of_torch_is_measured(monkeypatch):
    calibrated(group(), "cpu")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert not find(group(), "cpu")


@pytest.mark.parametrize("part", [*UNKNOWN, "off", "cuda"])
def test_what_is_not_known_is_measured_and_not_kept(monkeypatch, measured, tmp_path, part):
    """Nor is anything kept on a GPU, or where it is turned off."""
    if part == "off":
        monkeypatch.setenv(timings.VARIABLE, "0")
    elif part in UNKNOWN:
        monkeypatch.setattr(f"memsweep.run.policy.timings.{UNKNOWN[part][0]}", UNKNOWN[part][1])
    device = "cuda" if part == "cuda" else "cpu"
    assert [calibrated(group(**OWN), device).is_kept for _ in range(2)] == [False, False]
    assert len(measured) == 2 and not (tmp_path / "cache").exists()


def test_a_file_that_cannot_be_read_has_no_measurement():
    assert find(group(data__task="file:/nowhere.npz"), "cpu") is None


def test_a_measurement_with_a_failure_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "calibrate", lambda trials, device: Calibration(TIMINGS, measured_at=time.time()))
    assert not calibrated(group(), "cpu").is_kept and not (tmp_path / "cache").exists()


def test_code_that_is_edited_during_the_measurement_is_not_kept(monkeypatch, tmp_path):
    def calibrate(trials, device):
        monkeypatch.setattr(timings, "_source", lambda: "edited")
        return Calibration(TIMINGS, measured_at=time.time(), is_whole=True)

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    calibrated(group(), "cpu")
    assert not (tmp_path / "cache").exists()


def kept_text(measured_at, **changes):
    return json.dumps({"measured_at": measured_at, "timings": [list(TIMINGS[0]._replace(**changes))]})


NOW = time.time()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        '{"measured_at": 1e999, "timings": []}',
        kept_text(NOW)[:-1],
        kept_text(str(NOW)),
        kept_text(10**400),
        kept_text(NOW - timings.KEPT_SECONDS),
        kept_text(NOW + 3600),
        kept_text(NOW, mode="both"),
        kept_text(NOW, members=0),
        kept_text(NOW, seconds=-1.0),
        kept_text(NOW, seconds=float("nan")),
        kept_text(NOW, seconds="1"),
        kept_text(NOW, bytes_a_member=None),
        json.dumps({"measured_at": NOW, "timings": []}),
    ],
    ids=lambda _: "text",  # without the time in it: the workers of pytest must collect the same names
)
def test_a_damaged_or_old_file_is_replaced(measured, tmp_path, text):
    calibrated(group(), "cpu")
    (path,) = files(tmp_path)
    path.write_text(kept_text(NOW))
    assert find(group(), "cpu")
    path.write_text(text)
    assert not calibrated(group(), "cpu").is_kept and calibrated(group(), "cpu").is_kept
    assert files(tmp_path) == [path] and len(measured) == 2


def test_a_folder_that_cannot_be_written_is_harmless(measured, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    assert [calibrated(group(), "cpu").is_kept for _ in range(2)] == [False, False]


def kept_choice(trials, store=None):
    return choose(trials, store, "cpu", 1, calibrate=lambda groups, device: [calibrated(g, device) for g in groups])


def test_a_new_folder_says_where_its_choice_comes_from_and_an_old_one_keeps_it(monkeypatch, tmp_path):
    monkeypatch.setattr(execution_plan, "WORTH_CALIBRATING_SECONDS", 0)
    stores = [Store(tmp_path / name, create=True) for name in ("first", "second")]
    for store in stores:
        execution_plan.note(store, kept_choice(group(), store))
    (first,), (second,) = (store.programs().values() for store in stores)
    assert (first["is_reused"], second["is_reused"]) == (False, True)
    assert first["measured_at"] == second["measured_at"] and first["slots"] == second["slots"] == 32
    (path,) = files(tmp_path)
    measured_at = datetime.fromtimestamp(int(json.loads(path.read_text())["measured_at"]), UTC)
    assert datetime.fromisoformat(first["measured_at"]) == measured_at
    path.write_text(kept_text(NOW))  # in turn
    assert choose(group(), stores[0], "cpu", 1) == kept_choice(group(), stores[0])
    assert [plan.slots for plan in kept_choice(group(), stores[0]).values()] == [32]
    assert [plan.mode for plan in kept_choice(group()).values()] == ["serial"]


@pytest.mark.parametrize(("machines", "is_joined", "task_count"), [(1, False, 1), (1, True, 2), (2, False, 2)])
def test_a_launch_on_this_machine_starts_no_worker_for_what_is_kept(monkeypatch, machines, is_joined, task_count):
    """Elsewhere a worker reads what its machine keeps."""
    from memsweep.run import ray_tasks

    programs = [group(), group(model__width=9)]
    calibrated(programs[1], "cpu")
    measure = []
    monkeypatch.setattr(ray_tasks.ray, "nodes", lambda: [{"Alive": True}] * machines + [{"Alive": False}])
    remote = SimpleNamespace(options=lambda **_: remote, remote=lambda text: measure[-1](text))
    monkeypatch.setattr(ray_tasks.ray, "remote", lambda function: measure.append(function) or remote)
    waited = []
    monkeypatch.setattr(ray_tasks.ray, "wait", lambda pending, **_: waited.append(1) or (pending[:1], pending[1:]))
    monkeypatch.setattr(ray_tasks.ray, "get", lambda result: result)
    answers = ray_tasks.calibrate(programs, "cpu", 60.0, is_joined=is_joined)
    assert [answer.is_kept for answer in answers] == [False, True] and len(waited) == task_count


def test_a_plan_counts_measuring_where_the_launch_measures_again(monkeypatch):
    seconds = []
    estimate = estimation.estimate
    monkeypatch.setattr(estimation, "CALIBRATION_SECONDS", 0.0)
    monkeypatch.setattr(
        estimation, "estimate", lambda *a, measuring, **k: seconds.append(measuring) or estimate(*a, **k)
    )
    sweep = Sweep("kept", {"model.family": "tests.cases:Scored", "optimizer.epochs": 1}, seeds=range(3))
    for variable in ("1", "0"):
        monkeypatch.setenv(timings.VARIABLE, variable)
        previews.preview(sweep, None, LaunchOptions(device="cpu", workers=1), lambda _: None)
    assert seconds[0] == 0 < seconds[1]
