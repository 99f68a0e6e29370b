"""An installation adds one package, memsweep, and works from a folder that has its own `analysis` and `sweeps`."""

import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.launches

ROOT = Path(__file__).parents[1]
FOLDERS = {"memsweep": "memsweep", "memsweep.analysis": "analysis", "memsweep.sweeps": "sweeps"}
"""Package -> its folder."""
SWEEP = """from memsweep import Sweep
SWEEP = Sweep("mine", base={"data.task": "digits", "optimizer.epochs": 2}, axes={"model.width": (8, 16)})
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that what earlier builds have left beside the sources is not packed."""
    source, target = tmp_path_factory.mktemp("source") / "memsweep", tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", target, source], check=True
    )
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `bin` folder of a fresh environment with the wheel, and this environment's other packages."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    elsewhere = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "elsewhere.pth").write_text("\n".join(elsewhere))  # without what .pth files there add, as memsweep
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel], check=True
    )
    return folder / "bin"


def test_the_wheel_has_every_file_below_one_package(wheel):
    expected = {"memsweep/py.typed", *(f"memsweep/analysis/report/page/{path.name}" for path in PAGE.iterdir())}
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            expected.add(f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder)}")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected


PAGE = ROOT / "analysis" / "report" / "page"


def test_the_conda_environment_has_the_requirements_and_the_pins():
    environment = yaml.safe_load((ROOT / "environment.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    *conda, last = environment["dependencies"]
    assert last == {"pip": ["-c constraints.txt", *project["dependencies"]]}
    assert {f"python{project['requires-python']}", "pip"} <= set(conda)


def test_every_package_is_listed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts])
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(listed["packages"]) == packages and listed["package-dir"] == FOLDERS


def test_it_works_from_a_folder_with_an_analysis_and_sweeps_of_its_own(installed, tmp_path):
    (tmp_path / "analysis").mkdir()
    for name in ("__init__.py", "figures.py"):
        (tmp_path / "analysis" / name).write_text("raise RuntimeError('the analysis of another project')")
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.py").write_text(SWEEP)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PATH": f"{installed}:{os.environ['PATH']}",
    }

    def run(text):
        done = subprocess.run(["bash", "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("memsweep launch mine smoke --limit 6 --tracking-uri none")  # a bare name of its own, and one that comes along
    run("memsweep report")
    assert {"mine", "smoke"} <= {path.name.partition("-")[0] for path in (tmp_path / "results" / "figures").iterdir()}
    run("""python -c 'import memsweep; memsweep.figure("mine").savefig("mine.png")'""")
    assert (tmp_path / "mine.png").stat().st_size > 10_000
    home = run("python -c 'import memsweep.run.packing, memsweep.analysis, sys; print(memsweep.__file__)'")
    assert Path(home.strip()).is_relative_to(installed.parent)
