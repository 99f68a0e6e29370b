"""What may break while a sweep runs, broken for real; afterwards the tables are those of a sweep left in peace.

FAILURES.md beside this holds what each cell said when it was last run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from memsweep.results.storage.location import ObjectPath, location
from memsweep.results.storage.store import Store
from tests.cluster.machines import BIN, ROOT, Machines, in_namespaces, may_have_namespaces, on_loopback
from tests.processes import family, kill
from tests.test_launch import memsweep_, rows

TABLE = Path(__file__).parent / "FAILURES.md"
ONE, SEVERAL, NAMESPACES = SETUPS = ("one machine", "several raylets", "network namespaces")
HEAD = """# What breaks, and what the tables hold afterwards

Written by `make test-failures`. Each cell is a sweep of 24 trials, broken in training. *identical*: after the same
launch again, or after nothing at all where Ray repeats the pack, `trials` and `steps` are those of a sweep that nothing
disturbed.

"""
CELLS: dict[tuple[str, str], str] = {}
SMOKE = ["smoke", "--set", "optimizer.epochs=700", "--set", "seeds=0:6", "--members", "6", "--compile", "never"]
"""24 trials in 4 packs, of some seconds each."""
OPTIONS = ["--checkpoint", "1s", "--tracking-uri", "none"]
TRIALS = 24
NOTICED_SECONDS = 30
"""A lost host's pack begins anew within this: 8 s of health checks, and the start of a worker."""


class NoCell(Exception):
    """Why a fault can't be had in a setup."""


@pytest.fixture(scope="module", autouse=True)
def table():
    """FAILURES.md, with what was run now in place of what was there."""
    rows = [line.strip("| ").split(" | ") for line in TABLE.read_text().splitlines()] if TABLE.exists() else []
    known = {(row[0], setup): cell for row in rows for setup, cell in zip(SETUPS, row[1:], strict=False)}
    yield
    cells = {**known, **CELLS}
    lines = [f"| what breaks | {' | '.join(SETUPS)} |", "|---" * (1 + len(SETUPS)) + "|"]
    lines += [
        f"| {fault} | {' | '.join(cells.get((fault, setup), 'not run') for setup in SETUPS)} |" for fault in FAULTS
    ]
    TABLE.write_text(HEAD + "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    results = tmp_path_factory.mktemp("reference") / "results"
    found = memsweep_("launch", *SMOKE, *OPTIONS, "--results", results)
    assert found.returncode == 0, found.stderr
    return results


def assert_identical(results, reference):
    for name in ("trials", "steps"):
        mine, theirs = (rows(place, name, {"pack_id"}) for place in (results, reference))
        assert len(mine) and mine.equals(theirs), mine.compare(theirs)
    assert len(Store(results).trials(["trial_id"])) == TRIALS
    assert not list(Store(results).results.glob("checkpoints/[!.]*"))


class Launch:
    """A launch in a process of its own, on the head of a cluster if there is one."""

    def __init__(self, scene: Scene, verb: str, environment: dict[str, str]):
        self.scene = scene
        words, prefix, own = [verb, *SMOKE, *OPTIONS, "--results", str(scene.results)], (), dict(os.environ)
        if cluster := scene.cluster:
            words += ["--workers", "2", "--address", cluster.page if verb == "submit" else cluster.address]
            prefix, own = cluster.hosts[0].prefix, cluster.environment
        with open(scene.log, "a") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "memsweep", *words],
                **{"cwd": ROOT, "env": {**own, **scene.environment, **environment}},
                **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log},
            )

    def wait_for_checkpoint(self, seconds: float = 150) -> None:
        """Until a pack is in training and has saved something; in an object store, which is slow, has begun."""
        until = time.monotonic() + seconds
        while not self._has_saved():
            assert self.process.poll() is None and time.monotonic() < until
            time.sleep(0.1)

    def _has_saved(self) -> bool:
        with suppress(Exception):  # no folder yet
            results = location(self.scene.results)
            begun = "running.json" if isinstance(results, ObjectPath) else "checkpoints/[!.]*.safetensors"
            return any(results.glob(begun))
        return False

    def workers(self) -> list[psutil.Process]:
        """At work anywhere on these machines."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if "ResourceTrainable" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def end(self, seconds: float = 400) -> int:
        """Its exit code."""
        return self.process.wait(seconds)


class Scene:
    """A sweep in training, on one machine or several."""

    def __init__(self, setup: str, folder: Path, stack: ExitStack, request: pytest.FixtureRequest):
        self.setup, self.folder, self.stack, self.request = setup, folder, stack, request
        self.results: Path | str = folder / "results"
        self.log = folder / "launch.log"
        self.environment: dict[str, str] = {}
        self.cluster: Machines | None = None
        self.launches: list[Launch] = []

    def begin(self, verb: str = "launch") -> Launch:
        """The machines, and a launch on them that has saved something."""
        if self.setup == NAMESPACES:
            if not may_have_namespaces():
                raise NoCell("no namespaces: this user may not make any")
            hosts = self.stack.enter_context(in_namespaces())
        else:
            hosts = on_loopback()
        if self.setup != ONE:
            self.cluster = Machines(hosts, self.environment, dashboard=verb == "submit")
            self.stack.callback(self.cluster.kill)
        launch = self.start(verb)
        launch.wait_for_checkpoint()
        return launch

    def start(self, verb: str = "launch", **environment: str) -> Launch:
        self.launches.append(Launch(self, verb, environment))
        self.stack.callback(lambda: kill(family(self.launches[-1].process.pid)))
        return self.launches[-1]

    def again(self, verb: str = "launch", **environment: str) -> None:
        assert self.start(verb, **environment).end() == 0

    def said(self) -> str:
        return self.log.read_text()

    def busy_machine(self):
        """One with a worker on it."""
        for machine in self.cluster.workers:
            if any("ResourceTrainable" in " ".join(process.cmdline()) for process in family(machine.process.pid)):
                return machine
        raise AssertionError("no machine has a worker")


def kill_worker(scene):
    launch = scene.begin()
    launch.workers()[0].kill()
    assert launch.end() == 0


def kill_raylet(scene):
    launch = scene.begin()
    if scene.cluster is None:
        (raylet,) = [c for c in psutil.Process(launch.process.pid).children() if c.name() == "raylet"]
        workers = launch.workers()
        raylet.kill()
        for worker in workers:  # which could end the sweep before Ray notices
            with suppress(psutil.Error):
                worker.suspend()
        assert launch.end(60) == 130
        assert "Ray's raylet on this machine has ended" in scene.said()
        scene.again()
    else:
        machine = scene.busy_machine()
        machine.raylet().kill()
        scene.cluster.add(machine.host)
        assert launch.end() == 0


def kill_driver(scene):
    launch = scene.begin()
    launch.process.kill()
    launch.end()
    time.sleep(3)  # workers of a cluster that is still there end by themselves
    scene.again()


def kill_head(scene):
    """All of the head's processes, the driver of a job with them; the next head takes the job anew."""
    if scene.setup == ONE:
        launch = scene.begin()
        (head,) = [c for c in psutil.Process(launch.process.pid).children() if c.name() == "gcs_server"]
        head.kill()
        assert launch.end(150) == 1
        scene.again()
        return
    launch = scene.begin("submit")
    scene.cluster.head.kill()
    assert launch.end(150) == 2  # nobody answers whoever follows the job
    assert "no longer responds" in scene.said()
    scene.cluster.kill()
    scene.cluster.begin()
    scene.again("submit")


def cut_cable(scene):
    """The host behind the cut lives on, and so does its worker; then the cable is back."""
    if scene.setup != NAMESPACES:
        raise NoCell("no cable: all on one address")
    launch = scene.begin()
    machine = scene.busy_machine()
    behind = [process for process in family(machine.process.pid) if process in launch.workers()]
    machine.host.plug("down")
    assert launch.end() == 0
    assert any(process.is_running() for process in behind), "nobody lived on behind the cut"
    machine.host.plug("up")
    _, alive = psutil.wait_procs(behind, timeout=150)  # told that it is dead, the host ends its workers
    assert not alive
    scene.again()  # has nothing to run, and tidies


def pull_cable_briefly(scene):
    if scene.setup != NAMESPACES:
        raise NoCell("no cable: all on one address")
    launch = scene.begin()
    machine = scene.busy_machine()
    machine.host.plug("down")
    time.sleep(2)
    machine.host.plug("up")
    assert launch.end() == 0


def fill_disk(scene):
    disk = scene.folder / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk]).returncode:
        raise NoCell("no disk to fill: this user may not mount one")
    scene.stack.callback(lambda: subprocess.run(["umount", "--lazy", disk], check=True))
    scene.results = disk / "results"
    launch = scene.begin()
    ballast = disk / "ballast"
    with suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
    code = launch.end()
    ballast.unlink()
    assert code == 2 and "The disk is full, of bytes or of files" in scene.said(), code
    scene.again()


def trouble_storage(scene):
    if scene.setup == NAMESPACES:
        raise NoCell("as with several raylets: the object store listens on loopback")
    server = scene.request.getfixturevalue("s3_server")  # one for all: a process remembers where its store is
    scene.environment = {**server.environment, "XDG_STATE_HOME": str(scene.folder / "state")}
    patch = scene.stack.enter_context(pytest.MonkeyPatch.context())
    for name, value in scene.environment.items():
        patch.setenv(name, value)
    scene.results = f"s3://bucket/{scene.setup.replace(' ', '-')}"
    launch = scene.begin()
    server.fail_for(30)
    assert launch.end() == 0


SHIFTED = """
import time
_time = time.time
time.time = lambda: _time() + 3600
"""


def shift_clock(scene):
    """The launch is killed; the clock of the next one is an hour ahead, and that of a new machine's workers too."""
    launch = scene.begin()
    launch.process.kill()
    launch.end()
    (scene.folder / "sitecustomize.py").write_text(SHIFTED)
    shifted = {"PYTHONPATH": str(scene.folder)}
    if scene.cluster is not None:
        scene.cluster.workers.pop().kill()
        scene.cluster.add(environment=shifted)
    time.sleep(3)
    scene.again(**shifted)


def preempt(scene):
    """As the provider's notice that an instance is taken away in so many seconds."""
    launch = scene.begin()
    if scene.cluster is None:
        launch.process.send_signal(signal.SIGTERM)  # what a machine that is shut down sends
        launch.end()
        scene.again()
        return
    machine, cluster = scene.busy_machine(), scene.cluster
    words = ["ray", "drain-node", f"--address={cluster.address}", f"--node-id={machine.node_id}"]
    words += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", "--deadline-remaining-seconds=5"]
    drained = [*cluster.hosts[0].prefix, str(BIN / words[0]), *words[1:]]
    found = subprocess.run(drained, env=cluster.environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    time.sleep(5)
    machine.kill()
    cluster.add(machine.host)
    assert launch.end() == 0


FAULTS = {
    "a worker is killed": kill_worker,
    "a machine's raylet is killed": kill_raylet,
    "the driver is killed": kill_driver,
    "the head is killed, and the job sent again": kill_head,
    "a cable is cut during a pack; the worker behind it lives on": cut_cable,
    "a cable is pulled for 2 seconds": pull_cable_briefly,
    "the disk is full, and emptied": fill_disk,
    "storage answers errors for 30 seconds": trouble_storage,
    "a clock is an hour off": shift_clock,
    "a spot instance is taken away, with notice": preempt,
}


@pytest.mark.slow  # a minute or two each
@pytest.mark.timeout(900)
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_tables_are_those_of_a_sweep_left_in_peace(fault, setup, tmp_path, reference, request):
    CELLS[fault, setup] = "FAILED"
    with ExitStack() as stack:
        scene = Scene(setup, tmp_path, stack, request)
        try:
            FAULTS[fault](scene)
            assert_identical(scene.results, reference)
        except NoCell as reason:
            CELLS[fault, setup] = str(reason)
            pytest.skip(str(reason))
        except BaseException:
            if scene.log.exists():
                print(scene.said()[-4000:])
            raise
    CELLS[fault, setup] = "identical"
