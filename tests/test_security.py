"""What SECURITY.md promises and no other test holds: nothing shared is pickled, and who may run code is known."""

import ast
import json
import os
import subprocess
import sys

import pytest
import safetensors.torch

import memsweep
from memsweep.results.parts import read_part
from memsweep.schema import SCHEMAS
from tests.test_imports import FILES, NAMES, imports

PICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}
LOADERS = {"torch.load", "torch.save", "np.load", "numpy.load", "pd.read_pickle", "joblib.load", "joblib.dump"}
RUNNERS = {"exec": {"memsweep/sweep.py"}, "eval": set(), "__import__": set()}
"""Who turns text into a program: sweep files are programs."""


def calls(path):
    """Every name that a file calls, dotted: torch.load."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_is_pickled_or_unpickled(path):
    assert {module.partition(".")[0] for module in imports(path)} & PICKLING == set()
    assert set(calls(path)) & LOADERS == set()


@pytest.mark.parametrize("name", RUNNERS)
def test_only_sweep_files_are_run_from_text(name):
    assert {file for file, path in zip(NAMES, FILES, strict=True) if name in calls(path)} == RUNNERS[name]


@pytest.mark.parametrize("first", ["import ray", "import memsweep"])
def test_a_program_that_has_imported_ray_before_launches_and_is_told(first, tmp_path):
    code = f"""{first}
import os, memsweep
report = memsweep.launch("smoke", "results", limit=2)
print(report.ran, any("asks nobody" in remark for remark in report.remarks), os.environ["RAY_AUTH_MODE"])
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.stdout.split() == ["2", str(first == "import ray"), "token"], ended.stderr


def test_a_results_folder_holds_formats_that_run_nothing(tmp_path):
    """Also in the middle of a sweep, with checkpoints."""
    sweep = memsweep.Sweep("long", {"optimizer.epochs": 400}, seeds=range(3))
    memsweep.launch("smoke", tmp_path, limit=2)
    report = memsweep.launch(sweep, tmp_path, budget="4s", checkpoint_seconds=0.5)
    assert report.interrupted
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
