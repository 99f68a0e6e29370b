"""What SECURITY.md promises and no other test holds: nothing shared is pickled, and who may run code is known."""

import ast
import json
import os
import subprocess
import sys
from functools import cache

import pytest
import safetensors.torch

import memsweep
from memsweep.results.storage.parts import read_part
from memsweep.results.storage.store import Store
from memsweep.run import jobs
from memsweep.run.packing import Pack
from memsweep.run.worker.execution import run_pack
from memsweep.spec.schema import SCHEMAS
from memsweep.spec.sweep_files import load_sweep
from tests.test_imports import FILES, NAMES, imports

PICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}
LOADERS = {"torch.load", "torch.save", "np.load", "numpy.load", "pd.read_pickle", "joblib.load", "joblib.dump"}
SOURCES = {"memsweep/spec/sweep_files.py", "memsweep/engine/train/recordings.py"}
RUNNERS = {"exec": SOURCES, "eval": set(), "__import__": set()}
"""Who turns text into a program: sweep files are programs, and torch writes recorded operations as source code."""


@cache
def calls(path):
    """Every name that a file calls, dotted: torch.load; NumPy's load without pickles is none of the loaders."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    return {ast.unparse(node.func) for node in calls if "allow_pickle=False" not in map(ast.unparse, node.keywords)}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_is_pickled_or_unpickled(path):
    assert {module.partition(".")[0] for module in imports(path)} & PICKLING == set()
    assert calls(path) & LOADERS == set()


@pytest.mark.parametrize("name", RUNNERS)
def test_only_sweep_files_are_run_from_text(name):
    assert {file for file, path in zip(NAMES, FILES, strict=True) if name in calls(path)} == RUNNERS[name]


STRANGER = "import ray, sys; ray.init(address=sys.argv[1], logging_level='ERROR')"


@pytest.mark.parametrize(
    "first",
    [
        "import ray",
        "import ray; ray.init(address='local', num_cpus=1, include_dashboard=False); ray.shutdown()",
        "import memsweep",
    ],
    ids=["imported", "used", "not yet imported"],
)
def test_ray_asks_for_a_token_whoever_imported_it_first(first, tmp_path):
    code = f"""{first}
import os, subprocess, sys
from memsweep.run import cluster
with cluster.cluster():
    assert cluster.ray.get(cluster.ray.remote(lambda: 7).remote()) == 7
    address = cluster.ray.get_runtime_context().gcs_address
    without = {{name: value for name, value in os.environ.items() if not name.startswith("RAY_")}}
    stranger = [sys.executable, "-c", {STRANGER!r}, address]
    refused = subprocess.run(stranger, env={{**without, "RAY_AUTH_MODE": "disabled"}}, capture_output=True, text=True)
    print(refused.returncode, "token" in refused.stderr, os.environ["RAY_AUTH_MODE"])
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["HOME"] = str(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.stdout.split() == ["1", "True", "token"], ended.stderr
    tokens = list(tmp_path.glob(".ray/auth_token"))
    assert len(tokens) == ("ray" in first)
    if first == "import ray":
        assert tokens[0].stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_switches_the_token_of_ray_off(path):
    assert '"disabled"' not in path.read_text("utf-8")


@pytest.mark.parametrize("before", [None, "token", "disabled"])
@pytest.mark.parametrize("needs_token, seen", [(True, "token"), (False, None)])
def test_how_another_cluster_is_asked_leaves_the_environment_as_it_was(needs_token, seen, before, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if before:
        monkeypatch.setenv("RAY_AUTH_MODE", before)
    with jobs._authentication_mode(needs_token):
        assert os.environ.get("RAY_AUTH_MODE") == seen
    assert os.environ.get("RAY_AUTH_MODE") == before


def test_a_results_folder_holds_formats_that_run_nothing(tmp_path, ray_address):
    """Also with the checkpoint of a pack that did not end."""
    memsweep.launch("smoke", tmp_path, limit=2, address=ray_address)
    running = run_pack(Pack(load_sweep("smoke").trials[2:5], 3), Store(tmp_path))
    next(running)
    running.close()
    kinds = set()
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        kinds.add(path.suffix)
        if path.suffix == ".parquet":
            read_part(path, SCHEMAS[path.parent.name])
        elif path.suffix == ".safetensors":
            safetensors.torch.load_file(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert path.suffix in (".lock", "") and path.read_bytes().isascii(), path
    assert {".parquet", ".safetensors", ".json"} <= kinds
