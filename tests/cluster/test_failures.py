"""What may break while a sweep runs, broken for real; afterwards the tables are those of a sweep left in peace.

FAILURES.md is written beside this when every cell was run and held.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from memsweep.results.store import Store
from tests.cluster.machines import LAUNCH, TRIALS, Launch, machines
from tests.test_launch import memsweep_, rows

TABLE = Path(__file__).parent / "FAILURES.md"
SETUPS = ("one machine", "several raylets")
CELLS: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module", autouse=True)
def table():
    """FAILURES.md, when every cell was run."""
    yield
    faults = list(dict.fromkeys(fault for fault, _ in CELLS))
    if {(fault, setup) for fault in FAULTS for setup in SETUPS} <= CELLS.keys():
        lines = [f"| what breaks | {' | '.join(SETUPS)} |", "|---" * (1 + len(SETUPS)) + "|"]
        lines += [f"| {fault} | {' | '.join(CELLS[fault, setup] for setup in SETUPS)} |" for fault in faults]
        head = "# What breaks, and what the tables hold afterwards\n\nWritten by `tests/cluster/test_failures.py`.\n\n"
        TABLE.write_text(head + "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    results = tmp_path_factory.mktemp("reference") / "results"
    found = memsweep_(*LAUNCH, "--results", results)
    assert found.returncode == 0, found.stderr
    return results


@pytest.fixture(scope="module")
def cluster():
    """Machines for the tests that leave them whole enough for the next."""
    with machines() as found:
        yield found


def assert_identical(results, reference):
    for name in ("trials", "steps"):
        mine, theirs = (rows(place, name, {"pack_id"}) for place in (results, reference))
        assert len(mine) and mine.equals(theirs), mine.compare(theirs)
    assert len(Store(results).trials(["trial_id"])) == TRIALS
    assert not list(Store(results).results.glob("checkpoints/[!.]*"))


class Scene:
    """A sweep in training, on one machine or several."""

    def __init__(self, setup, tmp_path, cluster):
        self.tmp_path, self.cluster = tmp_path, cluster
        self.results = tmp_path / "results"
        self.options = [] if cluster is None else ["--address", cluster.address]
        self.launch = self.start()
        self.launch.wait_for_checkpoint()

    def start(self, **options):
        return Launch(self.results, self.tmp_path, *self.options, **options)

    def again(self):
        launch = self.start()
        assert launch.end() == 0, (self.tmp_path / "launch.log").read_text()


def kill_worker(scene):
    scene.launch.workers()[0].kill()
    assert scene.launch.end() == 0


def kill_driver(scene):
    scene.launch.process.kill()
    scene.launch.end()
    time.sleep(3)  # workers of a cluster that is still there end by themselves
    scene.again()


def kill_raylet(scene):
    if scene.cluster is None:
        (raylet,) = [c for c in psutil.Process(scene.launch.process.pid).children() if c.name() == "raylet"]
        raylet.kill()
        assert scene.launch.end(60) == 130  # and says so
        assert "Ray's raylet here has ended" in (scene.tmp_path / "launch.log").read_text()
        scene.again()
    else:
        scene.cluster.raylet(-1).kill()
        scene.cluster.add()  # for those to come
        if scene.launch.end() != 0:  # it was the driver's own machine
            assert "Ray's raylet here has ended" in (scene.tmp_path / "launch.log").read_text()
            scene.again()


def preempt(scene):
    """As the provider's notice that an instance is taken away in so many seconds."""
    if scene.cluster is None:
        scene.launch.process.send_signal(signal.SIGTERM)  # what a machine that is shut down sends
        scene.launch.end()
        scene.again()
        return
    raylet = scene.cluster.raylets[-1]
    words = ["ray", "drain-node", f"--address={scene.cluster.address}", f"--node-id={raylet.node_id}"]
    words += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", "--deadline-remaining-seconds=5"]
    found = subprocess.run([str(Path(os.sys.executable).parent / words[0]), *words[1:]], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    time.sleep(5)
    with suppress(psutil.Error):
        scene.cluster.raylet(-1).kill()
    scene.cluster.add()
    if scene.launch.end() != 0:  # it was the driver's own machine
        scene.again()


SHIFTED = """
import time
_time = time.time
time.time = lambda: _time() + 3600
"""


def shift_clock(scene):
    """The launch is killed; the clock of the next one, and of workers that it starts itself, is an hour ahead."""
    scene.launch.process.kill()
    scene.launch.end()
    time.sleep(3)
    (scene.tmp_path / "sitecustomize.py").write_text(SHIFTED)
    launch = scene.start(environment={"PYTHONPATH": str(scene.tmp_path)})
    assert launch.end() == 0


FAULTS = {
    "a worker is killed": kill_worker,
    "a machine's raylet is killed": kill_raylet,
    "the driver is killed": kill_driver,
    "a clock is an hour off": shift_clock,
    "a spot instance is taken away, with notice": preempt,
}


@pytest.mark.slow  # a minute or two each
@pytest.mark.timeout(900)
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_tables_are_those_of_a_sweep_left_in_peace(fault, setup, tmp_path, reference, request):
    scene = Scene(setup, tmp_path, request.getfixturevalue("cluster") if setup == "several raylets" else None)
    try:
        FAULTS[fault](scene)
        assert_identical(scene.results, reference)
    except BaseException:
        print((tmp_path / "launch.log").read_text()[-4000:])
        raise
    finally:
        scene.launch.kill()
    CELLS[fault, setup] = "identical"
