"""The arrows between rooms. A new arrow is a decision, written here."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import memsweep
from memsweep.results.storage.store import Store
from tests.cases import ended

ROOT = Path(__file__).parent.parent
ROOMS = {
    # room: (rooms that it may import, other packages that it may import)
    "spec": ({"spec"}, {"numpy", "pyarrow", "scipy"}),
    "data": ({"spec", "data"}, {"numpy", "torch", "pyarrow", "PIL"}),
    "engine": ({"spec", "data", "engine"}, {"numpy", "torch", "safetensors"}),
    "results": (
        {"spec", "results"},
        {"numpy", "pyarrow", "pandas", "duckdb", "mlflow", "sqlalchemy", "alembic", "safetensors"},
    ),
    "run": ({"spec", "data", "engine", "results", "run"}, {"numpy", "torch", "ray", "optuna", "psutil", "yaml"}),
    "check": ({"spec", "data", "engine", "results", "run", "check"}, {"numpy", "pyarrow", "torch", "psutil"}),
    "cli": (
        {"spec", "data", "engine", "results", "run", "check", "analysis", "cli"},
        {"typer", "rich", "pyarrow", "pandas", "IPython"},  # IPython is there in a notebook, and imported there alone
    ),
    "memsweep": (
        {"memsweep", "spec", "results", "run", "check", "analysis", "cli"},
        {"numpy", "pandas", "matplotlib", "torch"},
    ),
    "sweeps": ({"spec"}, set()),
    "analysis": (
        {"spec", "results", "analysis"},
        {"numpy", "pandas", "pyarrow", "matplotlib", "fontTools", "scipy", "sklearn", "joblib", "plotly", "jinja2"},
    ),
}
HOMES = {
    "ray": {f"memsweep/run/{name}.py" for name in ("cluster", "jobs", "ray_start", "ray_tasks", "ray_tune")},
    "mlflow": {
        f"memsweep/results/mlflow/{name}.py"
        for name in ("sync", "run_writer", "bulk", "training", "pages", "databases")
    },
    "sqlalchemy": {"memsweep/results/mlflow/bulk.py", "memsweep/results/mlflow/databases.py"},
    "alembic": {"memsweep/results/mlflow/databases.py"},
    "optuna": {"memsweep/run/rounds/search.py"},
    "duckdb": {"memsweep/results/query.py", "memsweep/results/needed_columns.py"},
    "IPython": {"memsweep/cli/progress.py"},
    "PIL": {"memsweep/data/images.py"},
    "yaml": {"memsweep/run/kubernetes.py"},
    "safetensors": {"memsweep/engine/train/checkpoint.py", "memsweep/results/networks.py"},
}
FILES = sorted(path for folder in ("memsweep", "sweeps", "analysis") for path in (ROOT / folder).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def room_of(module):
    """The room of a dotted module, such as memsweep.run.plan."""
    top, *rest = module.split(".")
    return rest[0] if top == "memsweep" and rest and rest[0] in ROOMS else top


@cache
def imports(path):
    """Every module that a file imports, wherever in the file, `from a import b` as a.b where that is a module."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def ours(module):
    return module.partition(".")[0] == "memsweep"


def resolved(module):
    """The module itself, where the last part is a name within it: memsweep.Sweep comes from memsweep.spec.sweep."""
    top, _, name = module.partition(".")
    if top == "memsweep" and name in memsweep.__all__ and name not in ROOMS:
        return getattr(memsweep, name).__module__
    return module


def test_there_are_files_to_look_at():
    assert {room_of(name.removesuffix(".py").replace("/", ".")) for name in NAMES} >= ROOMS.keys()


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_arrows_point_one_way(path):
    room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    rooms, packages = ROOMS[room]
    for module in imports(path):
        if ours(module):
            assert room_of(resolved(module)) in rooms, f"{room} must not import {module}"
        else:
            top = module.partition(".")[0]
            assert top in sys.stdlib_module_names or top in packages, f"{room} must not import {module}"


@pytest.mark.parametrize("package", HOMES)
def test_a_package_is_at_home_in_one_file(package):
    users = {name for name, path in zip(NAMES, FILES, strict=True) if package in heads(path)}
    assert users <= HOMES[package]


def heads(path):
    return {module.partition(".")[0] for module in imports(path)}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_public_names_of_others_are_imported(path):
    for module in imports(path):
        if not ours(module) and module != "__future__.annotations":
            assert not any(part.startswith("_") for part in module.split(".")), module


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nobody_imports_the_command_line(path):
    if path.name != "__main__.py":
        assert not any(module.startswith("memsweep.cli.app") for module in imports(path))


def loaded_by(code, *others):
    """Packages, and other modules of these, in memory after this code ran in a fresh process."""
    heavy = (*others, "torch", "ray", "pandas", "duckdb", "pyarrow", "numpy", "mlflow", "optuna", "sklearn", "rich")
    report = f"import sys; print(*[name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


@pytest.mark.parametrize("module", ["memsweep.run.launcher", "memsweep.results.mlflow.background"])
def test_a_launch_does_not_wait_for_mlflow(module):
    assert not loaded_by(f"import {module}") & {"mlflow", "duckdb"}


def test_tables_are_read_without_torch_or_ray():
    assert not loaded_by("import memsweep.results.query") & {"torch", "ray", "mlflow", "optuna", "sklearn"}


def test_a_launch_starts_without_torch():
    """Workers alone need torch; a launch with nothing to do needs no Ray either."""
    assert not loaded_by("import memsweep.run.launcher, memsweep.cli.launching") & {"torch", "ray", "sklearn"}


def test_packs_train_uncompiled_without_dynamo():
    """Dynamo takes a second to import, in every worker."""
    code = (
        "from memsweep.engine.train import trainer\nfrom tests.cases import trial\n"
        "trials = [trial('decay', seed=seed) for seed in range(2)]\nprogram = trainer.compose(trials)\n"
        "state, _ = trainer.advance(program, trainer.init(program, trials), 1)\n"
    )
    assert "torch._dynamo" not in loaded_by(code, "torch._dynamo")


def test_a_query_imports_no_pandas_until_a_frame_is_made(tmp_path):
    Store(tmp_path, create=True).write("trials", [ended("t")])
    code = f"from memsweep.cli.reading import query\nquery('select trial_id from trials', {str(tmp_path)!r})"
    assert "pandas" not in loaded_by(code)
    assert "pandas" in loaded_by(f"{code}\nimport memsweep\nmemsweep.table('trials', {str(tmp_path)!r})")


def test_queries_run_without_torch_or_ray(tmp_path):
    code = f"import memsweep; memsweep.sql('select count(*) from trials', {str(tmp_path)!r})"
    assert not loaded_by(code) & {"torch", "ray", "mlflow", "optuna", "sklearn"}


@pytest.mark.parametrize("module", ["memsweep", "memsweep.cli.app", "memsweep.spec.config", "memsweep.spec.sweep"])
def test_help_is_instant(module):
    assert not loaded_by(f"import {module}") - {"numpy", "rich"}


def test_a_sweep_file_is_loaded_without_heavy_packages():
    assert not loaded_by("from memsweep.spec.sweep_files import load_sweep; load_sweep('smoke')")
