"""What is wrong with what the user gave is one message: where, what was found, what is allowed, what to do next."""

import io
import os
import re
from pathlib import Path

import pytest

from memsweep.check import packages
from memsweep.run.launch_options import LaunchOptions
from memsweep.spec.config import ConfigError
from tests.cases import ended
from tests.commands import TRIALS, own_folder, process, read_back, refused, run, snapshot, store

SWEEP = "from memsweep import Sweep\nSWEEP = Sweep('q', {base}, axes={axes})\n"
WRONG_FILES = {
    "wrong key": (SWEEP.format(base={}, axes={"model.witdh": [1]}), "Did you mean 'model.width'?"),
    "wrong value": (SWEEP.format(base={"data.noise_fraction": 1.2}, axes={}), "must lie in [0, 1]"),
    "empty axis": (SWEEP.format(base={}, axes={"model.width": []}), "axis 'model.width' is empty"),
    "syntax error": ("SWEEP = = 3\n", "line 1: invalid syntax"),
    "exception": ("\n1 / 0\n", "line 2: ZeroDivisionError"),
    "no sweep": ("x = 3\n", "has no SWEEP"),
    "too many examples": (SWEEP.format(base={"data.examples": 5000}, axes={}), "use fewer"),
}


@pytest.mark.parametrize("verb", ["plan", "launch"])
@pytest.mark.parametrize("text, word", WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_sweep_file_is_one_message(refused, tmp_path, verb, text, word):
    (tmp_path / "mine.py").write_text(text)
    message = refused(verb, "mine.py")
    assert word in message and ("mine.py" in message or "data.examples" in message)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("verb", ["plan", "missing", "launch"])
@pytest.mark.parametrize(
    "arguments, word",
    [
        (["smok"], "Did you mean 'smoke'?"),
        (["smoke", "--set", "model.witdh=3"], "Did you mean 'model.width'?"),
        (["smoke", "--set", "model.width=wide"], "'wide' is no whole number"),
        (["smoke", "--set", "model.width=-3"], "model.width = -3"),
        (["smoke", "--set", "model.width=8,8"], "duplicate trial"),
        (["smoke", "--set", "model.width=8", "--set", "model.width=16"], "--set model.width=8,16"),
        (["smoke", "--set", "model.colour=8"], "model has family, width"),
        (["smoke", "--set", "seeds=3:3"], "seeds is empty"),
        (["smoke", "--set", "data.noise_kind=none"], "data.noise_kind"),
    ],
)
def test_wrong_words_are_one_message(refused, verb, arguments, word):
    assert word in refused(verb, *arguments)
    assert snapshot() == {}


@pytest.mark.parametrize("verb", ["plan", "launch", "slurm"])
@pytest.mark.parametrize(
    "words, message", [(["0"], "should be greater"), (["17"], "should be less"), (["4"], "Add --device cuda")]
)
def test_workers_that_share_a_gpu_need_one(run, verb, words, message):
    code, out, err = run(verb, "smoke", "--workers-per-gpu", *words)
    assert code == 2 and not out and message in err and "Traceback" not in err
    assert snapshot() == {}


@pytest.mark.parametrize(
    "value, device", [(0, "cuda"), (17, "cuda"), (1.5, "cuda"), (True, "cuda"), (2, None), (2, "cpu")]
)
def test_python_refuses_them_too(value, device):
    with pytest.raises(ConfigError, match=r"^workers_per_gpu = .*: (must be a whole number from 1 to 16|needs GPUs)"):
        LaunchOptions(workers_per_gpu=value, device=device)


MILLIONS = ["--set", "optimizer.learning_rate=linspace(0.01,1,1000)", "--set", "model.width=1:1001"]


@pytest.mark.parametrize(
    "verb, remedy", [("plan", "--limit 1000"), ("missing", "--limit 1000"), ("launch", "confirm it with --yes")]
)
def test_millions_of_trials_are_confirmed_or_bounded(refused, verb, remedy):
    message = refused(verb, "smoke", *MILLIONS)
    assert message.startswith("smoke has 12,000,000 trials, more than 1,000,000") and remedy in message
    assert snapshot() == {}


def test_the_first_of_millions_are_shown_at_their_own_cost(run):
    code, out, _ = run("missing", "smoke", *MILLIONS, "--limit", 2, "--format", "jsonl")
    assert code == 0 and [row["seed"] for row in read_back("jsonl", out)] == [0, 1]


def test_a_launch_of_millions_is_asked_for_on_a_terminal(run, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"n\n")))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    code, out, err = run("launch", "smoke", *MILLIONS)
    assert code == 1 and "Launch all of them? [y/N]" in err + out and snapshot() == {}


def test_a_file_of_several_sweeps_is_planned_by_the_name_of_one(refused, run, tmp_path):
    (tmp_path / "mine.py").write_text("from memsweep import Sweep\nONE, TWO = Sweep('one'), Sweep('two')\n")
    assert refused("missing", "mine.py") == "mine.py: defines ONE, TWO: name one of them, such as mine.py:ONE."
    assert run("missing", "mine.py:TWO")[0] == 0


@pytest.mark.parametrize("verb", ["plan", "launch"])
def test_code_of_the_program_itself_is_refused(refused, verb):
    assert "__main__:Net: is defined in the program itself" in refused(
        verb, "smoke", "--set", "model.family=__main__:Net"
    )


@pytest.mark.parametrize("verb", ["plan", "launch"])
def test_a_missing_dataset_is_told_with_what_to_do(refused, tmp_path, monkeypatch, verb):
    (tmp_path / "datasets").mkdir()
    monkeypatch.setenv("MEMSWEEP_DATA", str(tmp_path / "datasets"))
    message = refused(verb, "smoke", "--set", "data.task=mnist")
    assert "train-images-idx3-ubyte" in message and str(tmp_path / "datasets") in message and "\n" not in message
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("verb", ["plan", "launch"])
def test_all_that_is_wrong_with_the_data_is_told_at_once(refused, verb):
    message = refused(verb, "smoke", "--set", "data.examples=5000,6000")
    assert "data.examples = 5000" in message and "data.examples = 6000" in message


@pytest.mark.parametrize("results", ["taken", "taken/below"])
def test_results_that_cannot_be_written_are_told_before_anything_starts(refused, tmp_path, results):
    (tmp_path / "taken").write_text("a file of mine")
    assert "--results" in refused("launch", "smoke", "--results", results)
    assert snapshot() == {"./taken": b"a file of mine"}


@pytest.mark.parametrize("arguments", [["status"], ["query", "select 1"]])
def test_results_that_are_not_there_are_told(refused, arguments):
    assert refused(*arguments, "--results", "nowhere") == (
        "no results at nowhere: launch a sweep first, or choose another folder with --results."
    )
    assert snapshot() == {}


@pytest.mark.parametrize(
    "arguments", [["status"], ["query", "from trials"], ["missing", "smoke"], ["plan", "smoke"], ["launch", "smoke"]]
)
def test_a_damaged_part_is_told_and_nothing_is_lost(refused, store, arguments):
    (part,) = store.parts("trials")
    part.write_bytes(part.read_bytes()[:-9])
    before = snapshot()
    message = refused(*arguments)
    assert part.name in message and "Move it out of the folder" in message and "\n" not in message
    after = snapshot()
    after.pop("./results/launch.lock", None)
    assert after == before


@pytest.mark.parametrize(
    "statement, word",
    [
        ("selec 1", "syntax error"),
        ("select * from tirals", "Did you mean 'trials'?"),
        ("select sead from trials", "seed"),
        ("delete from trials", "only SELECT"),
        ("drop table trials", "only SELECT"),
        ("copy trials to 'stolen.csv'", "only SELECT"),
        ("select 1; select 2", "found 2 statements"),
        ("", "found 0 statements"),
        ("select * from read_csv('results/x.csv')", "Permission Error"),
        ("\udcff", ""),
    ],
)
def test_a_wrong_statement_is_one_message_and_changes_nothing(refused, store, statement, word):
    before = snapshot()
    assert word in refused("query", statement)
    assert snapshot() == before


def test_a_launch_beside_another_is_refused(refused, store):
    with store.lock("launch"):
        assert f"process {os.getpid()} " in refused("launch", "smoke")


def test_a_launch_of_a_finished_sweep_repeats_nothing(run, store):
    store.write("trials", [ended(t.trial_id, attempt_id="b") for t in TRIALS])
    code, out, err = run("launch", "smoke")
    assert (code, out) == (0, "") and "12 of 12 trials finished, 0 of them run now, 0 failed, 0 missing" in err


def test_a_launch_tells_scripts_how_it_ended(run, store):
    store.write("trials", [ended(t.trial_id, attempt_id="b") for t in TRIALS])
    code, out, _ = run("launch", "smoke", "--format", "jsonl")
    (row,) = read_back("jsonl", out)
    counts = {
        "wanted": 12,
        "settled_before": 12,
        "ran": 0,
        "failed": 0,
        "missing": 0,
        "interrupted": False,
        "gained_steps": 0,
    }
    assert code == 0 and row == {"sweeps": "smoke", **counts}


def test_errors_of_the_program_itself_are_not_hidden(run, monkeypatch):
    def fail(_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("memsweep.spec.sweep_files.load_sweep", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("plan", "smoke")


# Packages that are absent, as in an environment that only reads.

ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def reader(process, tmp_path):
    """`memsweep ...` where these packages can't be imported."""

    def call(names, *arguments):
        (tmp_path / "site").mkdir(exist_ok=True)
        (tmp_path / "site" / "sitecustomize.py").write_text(ABSENT.format(names=set(names)))
        paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return process(*arguments, PYTHONPATH=os.pathsep.join(paths), MLFLOW_TRACKING_URI="")

    return call


PAGE = (Path(__file__).parents[1] / "docs" / "how-to" / "results.md").read_text()
INSTALLED = {*re.search(r"reader/bin/pip install -c constraints.txt (.*)", PAGE)[1].split(), "joblib", "pillow", "rich"}
"""What a reader installs, by the page, and what comes with it."""
IMPORTED = {"pyyaml": "yaml"}
READER = (
    *sorted(IMPORTED.get(name, name) for name in packages.requirements().keys() - INSTALLED),
    "sqlalchemy",
    "alembic",
)
"""What a reader does not have."""


@pytest.mark.parametrize(
    "names, arguments, absent",
    [
        (["psutil"], ["launch", "smoke"], "psutil"),
        (["psutil"], ["plan", "smoke"], "psutil"),
        (["psutil"], ["ui"], "psutil"),
        (["mlflow"], ["ui"], "mlflow"),
        (["mlflow"], ["track"], "mlflow"),
        (["torch"], ["verify"], "torch"),
        (["duckdb"], ["query", "select 1 from trials"], "duckdb"),
        (READER, ["launch", "smoke"], ""),
        (READER, ["ui"], ""),
        (READER, ["track"], ""),
    ],
)
def test_an_absent_package_is_one_line_with_the_remedy(reader, store, names, arguments, absent):
    found = reader(names, *arguments, "--results", store.results)
    lines = [line for line in found.stderr.splitlines() if "Warning" not in line]
    assert found.returncode == 2 and found.stdout == "" and len(lines) == 1, found.stderr
    assert f"the package {absent}" in lines[0] and f"pip install -c constraints.txt {absent}" in lines[0]


def test_a_reader_installs_what_memsweep_requires_and_neither_torch_nor_ray():
    assert packages.requirements().keys() > INSTALLED and {"torch", "ray", "mlxtend", "yaml"} <= set(READER)


@pytest.mark.parametrize("arguments", [["doctor"], ["status"], ["report"], ["query", "select 1 from trials"]])
def test_who_only_reads_needs_no_more(reader, store, arguments):
    found = reader(READER, *arguments, "--results", store.results)
    assert found.returncode in (0, 2) and found.stdout and "Traceback" not in found.stderr, found.stderr


def test_a_package_that_is_none_of_ours_keeps_its_traceback():
    assert packages.remedy(ModuleNotFoundError("No module named 'mine'", name="mine")) is None


def test_a_program_that_is_not_installed_knows_its_version_and_needs(monkeypatch):
    installed = packages.version(), packages.requirements()

    def absent(name):
        raise packages.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "version", absent)
    monkeypatch.setattr(packages.metadata, "requires", absent)
    assert (packages.version(), packages.requirements().keys()) == (installed[0], installed[1].keys())


def test_the_version_is_said(run):
    assert run("--version") == (0, f"memsweep {packages.version()}\n", "")
