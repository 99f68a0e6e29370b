"""What Tune is told, for as many workers as a cluster may have."""

import os
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from memsweep.results.storage.store import Store
from memsweep.run import cluster, ray_tune
from memsweep.run.jobs import ClusterError
from memsweep.run.launch_options import MOST_PER_GPU
from memsweep.run.packing import Pack
from memsweep.spec.sweep_files import load_sweep
from tests.test_launch import memsweep_


@pytest.fixture
def told(monkeypatch, tmp_path):
    """What Tune is told when so many workers are launched."""
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "16")
    asked = {}

    class Tuner:
        def __init__(self, trainable, *, tune_config, run_config):
            asked["config"], asked["trainable"] = tune_config, trainable

        def fit(self):
            asked["starting"] = os.environ["TUNE_MAX_PENDING_TRIALS_PG"]

    monkeypatch.setattr(ray_tune.tune, "Tuner", Tuner)

    def run(workers, device="cpu", workers_per_gpu=1):
        packs = [Pack(load_sweep("smoke").trials, 4)]
        notes = {"note_progress": lambda note: None}
        driver = SimpleNamespace(reached=lambda packs: [0 for _ in packs], **notes)
        limits = ray_tune.WorkerLimits(30, 600)
        store = Store(tmp_path, create=True)
        ray_tune.run(packs, store, device, workers, None, limits, driver, workers_per_gpu)
        return asked

    return run


def test_all_workers_of_a_cluster_start_at_once(told):
    """Else each pack that ends keeps one of the few that are starting from ever doing so."""
    asked = told(200)
    assert asked["starting"] == "200" and asked["config"].max_concurrent_trials == 200


@pytest.mark.parametrize("workers, seconds", [(1, 1.0), (50, 1.0), (200, 4.0), (1000, 20.0)])
def test_the_driver_is_told_fifty_times_a_second_at_most(told, workers, seconds):
    assert told(workers)["config"].search_alg.settings["report_seconds"] == seconds


def test_workers_share_a_gpu(told, monkeypatch):
    """As many as the option names fit on it by Ray's arithmetic, and not one more."""
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    assert [cluster.worker_count(*how) for how in (("cpu",), ("cuda",), ("cuda", 3))] == [8, 2, 6]
    for count in range(1, MOST_PER_GPU + 1):
        (bundle,) = bundles(told(2 * count, "cuda", count))
        units = round(bundle["GPU"] * cluster.RAY_UNITS)
        assert bundle["CPU"] == 1 and count * units <= cluster.RAY_UNITS < (count + 1) * units
    assert bundles(told(8)) == [{"CPU": 1}]


def bundles(asked):
    return asked["trainable"].default_resource_request({}).bundles


def long_folder(tmp_path):
    """As batch systems make them."""
    folder = tmp_path / ("scratch-of-a-job-" * 8)
    folder.mkdir()
    return folder


@pytest.fixture
def started(monkeypatch):
    """The folder that Ray is given, and whether it was there."""
    given = []

    def init(*, _temp_dir, **options):
        given.append(_temp_dir)
        raise RuntimeError("enough")

    monkeypatch.setattr(cluster.ray, "init", init)

    def start():
        with pytest.raises(RuntimeError, match="enough"), cluster.cluster():
            pass
        return given[-1]

    return start


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_ray_has_its_sockets_where_their_paths_are_short_enough(name, started, monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, str(long_folder(tmp_path)))
    folder = started()
    assert len(f"{folder}{cluster.SOCKET}") <= 107 and Path(folder).is_absolute()
    assert not Path(folder).parent.exists()  # it goes with the launch


@pytest.mark.parametrize("usual", ["/tmp", "/var/tmp"])
def test_ray_has_its_sockets_where_it_has_them_by_itself(usual, started, monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", usual)
    assert started() is None


@pytest.mark.parametrize("usual", ["scratch", "~/scratch"])
def test_a_folder_that_is_not_where_it_says_is_not_taken_for_sockets(usual, started, monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", usual)
    assert Path(started()).is_absolute()


def test_without_a_short_place_one_message_says_so(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(folder := long_folder(tmp_path)))
    monkeypatch.setattr(cluster.tempfile, "mkdtemp", lambda prefix, dir: str(folder))
    with (
        pytest.raises(ClusterError, match=r"TMPDIR=/.*Set RAY_TMPDIR to a folder with a short path"),
        cluster.cluster(),
    ):
        pass


def test_a_local_cluster_has_no_process_that_a_launch_does_not_use(ray_address):
    commands = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            commands.append(" ".join(process.cmdline()))
    assert any("raylet" in command for command in commands)
    unused = ("dashboard/dashboard.py", "log_monitor.py", "autoscaler/_private/monitor.py")
    assert not [command for command in commands if any(name in command for name in unused)]


def test_a_launch_with_a_long_folder_of_temporary_files_runs(tmp_path):
    folder = long_folder(tmp_path)
    arguments = ("launch", "smoke", "--limit", 1, "--tracking-uri", "none", "--results", tmp_path / "results")
    found = memsweep_(*arguments, env={**os.environ, "TMPDIR": str(folder)})
    assert found.returncode == 0 and "1 of 12 trials finished, 1 of them" in found.stderr
    assert not [path for path in folder.iterdir() if "inductor" not in path.name], "left behind"


def test_a_program_that_is_connected_to_ray_is_asked_to_leave_it(monkeypatch):
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: True)
    with pytest.raises(ClusterError, match=r"Call ray\.shutdown\(\) before"), cluster.cluster():
        pass
