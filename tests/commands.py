"""The command in this process, or in one of its own, and the results of a launch cut short; fixtures to import."""

import io
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from memsweep.cli import app
from memsweep.results.storage.store import Store
from memsweep.spec.sweep_files import load_sweep
from tests.cases import ended, step

TRIALS = load_sweep("smoke").trials


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEMSWEEP_RESULTS", raising=False)
    monkeypatch.delenv("MEMSWEEP_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def run(monkeypatch, capfdbinary):
    """`memsweep ...` in this process: exit code, stdout and stderr. An error that would print a traceback is raised."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["memsweep", *map(str, arguments)])
        capfdbinary.readouterr()
        code = 0
        try:
            app.main()
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out if "parquet" in arguments else out.decode(), err.decode()

    return call


@pytest.fixture
def refused(run):
    """`memsweep ...`, which must end with exit code 2, one message and no rows."""

    def call(*arguments):
        code, out, err = run(*arguments)
        assert code == 2 and len(out) == 0
        assert err.startswith("memsweep: ") and "Traceback" not in err
        return err.removeprefix("memsweep: ").strip()

    return call


@pytest.fixture
def process():
    """`python -m memsweep ...` in a process of its own."""

    def call(*arguments, **environment):
        command = [sys.executable, "-m", "memsweep", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})

    return call


def told(trial):
    return {"trial_id": trial.trial_id, "seed": trial.seed, "configuration": json.dumps(trial.flat())}


@pytest.fixture
def store():
    """Four of the twelve trials of `smoke`, as if a launch had been cut short."""
    made = Store("results", create=True)
    made.write("wanted", [{"sweep": "smoke", **told(trial)} for trial in TRIALS])
    ends = zip(TRIALS, ("finished", "diverged", "failed", "interrupted"), strict=False)
    causes = {"failed": "Traceback\nValueError: no luck"}
    made.write(
        "trials", [ended(t.trial_id, end, cause=causes.get(end), train_count=7, step_count=8) for t, end in ends]
    )
    made.write("steps", [step(TRIALS[0].trial_id, number=n, train_count=7) for n in (4, 8)])
    return made


def snapshot(folder="."):
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(where, name), "rb") as file:
                found[os.path.join(where, name)] = file.read()
    return found


def read_back(output, text):
    """Rows of a printed answer."""
    if output == "parquet":
        return pq.read_table(io.BytesIO(text)).to_pylist()
    if output == "csv":
        return pa.csv.read_csv(io.BytesIO(text.encode())).to_pylist()
    if output == "jsonl":
        return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    header, rule, *lines = text.splitlines()
    assert set(rule) <= {"-", " "}
    return [dict(zip(header.split(), line.split(), strict=True)) for line in lines]
