"""Options of the tests: --device and --dtype run the engine's properties on an accelerator or in another precision."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from memsweep.analysis.core import figures
from memsweep.engine import adversarial
from memsweep.engine.train import program_files, recordings
from memsweep.spec import processors

os.environ["MEMSWEEP_COMPILE_LATER"] = "0"  # a process in the background for half a minute; see test_compiling.py
os.environ["MEMSWEEP_KEEP_CALIBRATIONS"] = "0"  # files in the user's folder of compiled programs; see test_timings.py
os.environ["MLFLOW_TRACKING_URI"] = "none"  # filling a database takes as long as a small launch; see `tracked`


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # one of pytest-xdist's processes: a launch beside others takes one processor
        os.environ["SLURM_CPUS_PER_TASK"] = "1"
        # Ray starts workers at niceness 15: 1/28 of a processor that a test is busy on
        os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112


LONGEST = ("exactness", "launch", "search_launch", "readme", "wheel", "tracking_processes", "report", "questions")
LONGEST += ("fuzz", "execution", "tracking", "claims")
"""Files that begin first, so that no process is left with one when the others have ended."""


@pytest.hookimpl(tryfirst=True)  # before marks select tests
def pytest_collection_modifyitems(items):
    rank = {f"test_{name}": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
    for item in items:
        if "ray_address" in item.fixturenames:  # a launch
            item.add_marker(pytest.mark.launches)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """A process for each processor that this one may use, and two for launches, which wait half of the time."""
    return processors.allotted() * (2 if config.option.markexpr.startswith("launches") else 1)


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="where the engine's tests train: cpu or cuda")
    parser.addoption("--dtype", choices=("float32", "float64"), help="default: float32 on a CPU, else float64")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_recordings(monkeypatch):
    """Nothing that another test recorded is repeated: some tests make the engine wrong."""
    monkeypatch.setattr(recordings, "_entries", {})


CLUSTER = """
import sys
from memsweep.run import cluster
with cluster.cluster():
    print(cluster.ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="session")
def importable(tmp_path_factory):
    """A folder of modules that the workers of `ray_address` can import; a test names it in PYTHONPATH for its commands.

    Several tests share it: each gives its module a name of its own.
    """
    return tmp_path_factory.mktemp("importable")


@pytest.fixture(scope="session")
def ray_address(importable):
    """Address of a Ray cluster that launches join where Ray's start and end, half of a small launch, are not tested.

    Its workers lack the environment of a test.
    """
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    folders = filter(None, [str(importable), os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}  # stdin ends with this process
    with subprocess.Popen([sys.executable, "-c", CLUSTER], start_new_session=True, env=environment, **pipes) as cluster:
        address = cluster.stdout.readline().strip()
        assert address
        yield address


@pytest.fixture(scope="module")
def tracked():
    """Launches fill MLflow, as they do by default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI")
        yield


@pytest.fixture(scope="session")
def device(request):
    name = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    return name


@pytest.fixture(scope="session")
def dtype(request, device):
    """In single precision a GPU rounds otherwise in a pack, and an activation at its kink may fall to either side."""
    return request.config.getoption("--dtype") or ("float32" if device == "cpu" else "float64")


@pytest.fixture
def texts(monkeypatch):
    """A folder of datasets with a text in it; the text's path."""
    monkeypatch.setenv("MEMSWEEP_DATA", str(Path(__file__).parent / "texts"))
    return Path(__file__).parent / "texts/characters/genesis.txt"


@pytest.fixture
def wide_boxes(monkeypatch):
    """The search for critical samples in boxes fifty times the paper's: networks as small as the tests' have some."""
    for name in ("ALPHA", "BETA", "RADIUS"):
        monkeypatch.setattr(adversarial, name, 50 * getattr(adversarial, name))
    monkeypatch.setattr(adversarial, "TRAINING_ITERATIONS", 3)
    code = program_files._code()
    monkeypatch.setattr(
        program_files, "_code", lambda: code and f"{code}, wide boxes"
    )  # compiled programs of another name


@pytest.fixture
def svg_alone(monkeypatch):
    """Figures are written as SVG alone: their PDF takes as long as all else of a report."""
    monkeypatch.setattr(figures, "UNDATED", {"svg": figures.UNDATED["svg"]})
