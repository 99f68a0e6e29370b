"""The command line: what it prints, and its exit codes."""

import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from memsweep.cli import app, arguments
from memsweep.results.storage.store import Store
from memsweep.run import estimation, plan
from memsweep.run.launch_options import LaunchOptions
from memsweep.spec.budget import Budget
from memsweep.spec.part import Part
from memsweep.spec.schema import Status
from tests.cases import ended
from tests.commands import TRIALS, own_folder, process, read_back, run, snapshot, store
from tests.test_launch import memsweep_

VERBS = [command.name or command.callback.__name__ for command in app.app.registered_commands]
FORMATS = ("table", "csv", "jsonl", "parquet")


def test_the_shell_completes_names_of_sweeps(process):
    words = {"_MEMSWEEP_COMPLETE": "complete_bash", "COMP_WORDS": "memsweep plan gener", "COMP_CWORD": "2"}
    assert process(**words).stdout.split() == ["generalization"]


# Help.


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example(run, verb):
    code, out, err = run(verb, "--help")
    assert code == 0 and f"Example: memsweep {verb}" in out and err == ""


def test_help_names_every_verb(process):
    found = process("--help")
    assert found.returncode == 0 and found.stderr == ""
    assert all(f"  {verb} " in found.stdout for verb in VERBS)


def test_without_a_verb_help_is_shown(run):
    code, out, err = run()
    assert code == 2 and "Usage:" in out + err


@pytest.mark.parametrize(
    "arguments",
    [
        ["launhc", "smoke"],
        ["plan"],
        ["query"],
        ["status", "--format", "xml"],
        ["plan", "smoke", "--limit", "0"],
        ["plan", "smoke", "--members", "x"],
        ["plan", "smoke", "--device", "tpu"],
        ["launch", "smoke", "--budget", "soon"],
        ["launch", "smoke", "--budget", "-3m"],
        ["launch", "smoke", "--budget", "inf"],
        ["launch", "smoke", "--budget", "nan"],
        ["launch", "smoke", "--budget", "1e400trials"],
        ["launch", "smoke", "--budget", "0steps"],
        ["launch", "smoke", "--patience", "0"],
        ["launch", "smoke", "--checkpoint", "often"],
    ],
)
def test_wrong_usage_ends_with_2_and_the_word_that_is_wrong(run, arguments):
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and "Error" in err and "Traceback" not in err
    assert snapshot() == {}


@pytest.mark.parametrize("text, seconds", [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("0.5m", 30)])
def test_budgets_are_times(text, seconds):
    assert arguments.parsed_seconds(text, "--budget") == seconds


@pytest.mark.parametrize(
    "options",
    [
        LaunchOptions(),
        LaunchOptions(
            *("auto", 3, 8, 100, "cuda", True, True, True, "keep", "weights", (4, 8), True),
            *(Budget.of("500trials"), 60.0, 0.5, "none"),
        ),
        LaunchOptions(compiling=False, budget=Budget.of("1e16steps")),
        LaunchOptions(budget=Budget.of("1.5h"), patience_seconds=1e16, part=Part(2, 4)),
        LaunchOptions(device="cuda", workers_per_gpu=4),
    ],
)
def test_the_words_of_options_give_the_same_launch(run, options, monkeypatch):
    """What `submit` sends, `launch` reads."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    launches = []

    def launch(sweeps, store, options, update):
        launches.append(options)
        return SimpleNamespace(unfinished=0, failed=0)

    monkeypatch.setattr("memsweep.run.launcher.launch", launch)
    assert run("launch", "smoke", *options.words())[0] == 0
    assert launches == [options]


# Plan, missing, status, query, doctor.


def test_plan_counts_what_is_left_and_starts_nothing(run, store, monkeypatch):
    monkeypatch.setattr(estimation, "CALIBRATION_SECONDS", 0.0)
    before = snapshot()
    code, out, err = run("plan", "smoke", "--device", "cpu", "--members", 2, "--format", "jsonl")
    (row,) = read_back("jsonl", out)
    assert code == 0 and err == ""
    assert {name: row[name] for name in ("sweep", "wanted", "settled", "failed", "missing")} == {
        "sweep": "smoke",
        "wanted": 12,
        "settled": 2,
        "failed": 1,
        "missing": 9,
    }
    assert row["members_at_a_time"] == 2 and row["packs"] >= 5 and row["seconds"] >= 0
    assert snapshot() == before


def test_plan_is_read_by_people_as_a_column(run, monkeypatch):
    monkeypatch.setattr(estimation, "CALIBRATION_SECONDS", 0.0)
    code, out, _ = run("plan", "smoke", "--limit", 1, "--set", "seeds=5")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0 and (lines["sweep"], lines["wanted"], lines["missing"]) == ("smoke", "1", "1")
    assert snapshot() == {}


def test_plan_writes_minutes_for_people_and_seconds_for_programs(run, monkeypatch):
    monkeypatch.setattr(estimation, "estimate", lambda *_, **__: estimation.Estimate(250.2, 0.08, 1 << 20))
    _, out, _ = run("plan", "smoke", "--device", "cpu")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (lines["time"], lines["time_error"]) == ("4 min 10 s", "20 s") and "seconds" not in lines
    _, out, _ = run("plan", "smoke", "--device", "cpu", "--format", "jsonl")
    (row,) = read_back("jsonl", out)
    assert (row["seconds"], row["seconds_error"]) == (250.2, 20.0) and "time" not in row


def test_plan_of_a_finished_sweep_is_empty(run, store):
    store.write("trials", [ended(t.trial_id, attempt_id="b") for t in TRIALS])
    code, out, _ = run("plan", "smoke", "--format", "csv")
    (row,) = read_back("csv", out)
    assert code == 0 and (row["settled"], row["missing"], row["packs"], row["seconds"]) == (12, 0, 0, 0)


def test_missing_lists_trials_with_what_tells_them_apart(run, store):
    code, out, _ = run("missing", "smoke", "--format", "jsonl")
    rows = read_back("jsonl", out)
    assert code == 0 and [row["trial_id"] for row in rows] == [t.trial_id for t in TRIALS[2:]]
    assert set(rows[0]) == {"trial_id", "seed", "data.noise_fraction", "regularization.weight_decay"}


def test_missing_where_nothing_is_stored_is_everything(run):
    code, out, _ = run("missing", "smoke", "--results", "nowhere", "--limit", 5)
    assert code == 0 and len(read_back("table", out)) == 5 and snapshot() == {}


@pytest.mark.parametrize("verb", ["status", "missing", "verify"])
def test_rows_that_are_none_keep_their_columns(run, verb):
    made = Store("results", create=True)
    made.write("trials", [ended(t.trial_id) for t in TRIALS] if verb == "missing" else [])
    words = ["smoke"] if verb == "missing" else []
    _, out, _ = run(verb, *words, "--format", "csv")
    first = {"status": "sweep", "missing": "trial_id", "verify": "trial_id"}[verb]
    assert out.startswith(f'"{first}","') and len(out.splitlines()) == 1
    _, out, _ = run(verb, *words, "--format", "parquet")
    assert first in pq.read_schema(io.BytesIO(out)).names
    assert run(verb, *words, "--format", "jsonl")[1] == run(verb, *words)[1] == ""


def test_status_of_an_empty_folder_says_so(run):
    os.mkdir("results")
    assert run("status") == (0, "", f"No sweep was launched in {os.path.abspath('results')}.\n")


def test_status_counts_and_tells_causes(run, store):
    code, out, err = run("status", "--format", "csv")
    (row,) = read_back("csv", out)
    assert code == 0 and (row["wanted"], row["finished"], row["diverged"], row["failed"], row["missing"]) == (
        12,
        1,
        1,
        1,
        9,
    )
    assert err.strip() == f"{TRIALS[2].trial_id} failed: ValueError: no luck. {Status.FAILED.advice}"


def test_results_may_come_from_the_environment(run, store, monkeypatch):
    os.rename("results", "elsewhere")
    monkeypatch.setenv("MEMSWEEP_RESULTS", "elsewhere")
    assert run("query", "select count(*) from trials")[:2] == (0, "count_star()\n------------\n           4\n")


@pytest.mark.parametrize("output", FORMATS)
@pytest.mark.parametrize("verb", ["status", "missing", "query", "doctor"])
def test_rows_are_read_back_in_every_format(run, store, verb, output):
    arguments = {
        "status": [],
        "missing": ["smoke"],
        "query": ["select trial_id, train_count from trials order by 1"],
        "doctor": [],
    }[verb]
    code, out, _ = run(verb, *arguments, "--format", output)
    assert code == 0
    if (verb, output) == ("doctor", "table"):
        assert out.split()[:3] == ["check", "state", "found"]
        return
    rows = read_back(output, out)
    assert len(rows) == {"status": 1, "missing": 10, "query": 4}.get(verb, len(rows)) > 0
    if verb == "query":
        assert [(row["trial_id"], int(row["train_count"])) for row in rows] == sorted(
            (trial.trial_id, 7) for trial in TRIALS[:4]
        )


@pytest.mark.parametrize("output", FORMATS)
def test_an_answer_without_rows_is_an_answer(run, store, output):
    code, out, err = run("query", "select trial_id from trials where false", "--format", output)
    assert (code, err, read_back(output, out)) == (0, "", [])


NUMBERS = ("'nan'::double", "'inf'::double", "null", "1::decimal(4, 2)", "true")
TEXTS = ("'two\nlines'", "'é'", "'x'::blob", "now()", "time '10:00'", "interval 1 day", "[1, 2]", "{'a': 1}")


@pytest.mark.parametrize("output", FORMATS)
@pytest.mark.parametrize("value", [*NUMBERS, *TEXTS])
def test_any_value_is_printed_or_refused(run, store, value, output):
    code, _, err = run("query", f"select {value} as x, 1 as y", "--format", output)
    assert code == 0 or (code == 2 and err.startswith("memsweep: "))


def test_values_that_json_does_not_know_are_null(run, store):
    code, out, _ = run("query", "select 'nan'::double as x, 1 as y", "--format", "jsonl")
    assert code == 0 and read_back("jsonl", out) == [{"x": None, "y": 1}]


def test_columns_of_equal_name_are_all_printed(run, store):
    _, out, _ = run("query", "select 1 as a, 2 as a", "--format", "jsonl")
    assert list(read_back("jsonl", out)[0].values()) == [1, 2]


def test_a_table_is_aligned(run, store):
    _, out, _ = run("query", "values (1, 'a'), (200, 'bcd')")
    assert out.splitlines() == ["col0  col1", "----  ----", "   1  a", " 200  bcd"]


def test_a_reader_that_leaves_early_is_no_error(store):
    command = [sys.executable, "-m", "memsweep", "query", "select repeat('x', 1000) as x from range(5000)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode in (0, 1, 141)


def test_doctor_finds_this_environment_fit(run):
    code, out, _ = run("doctor", "--format", "jsonl")
    states = {row["check"]: row["state"] for row in read_back("jsonl", out)}
    assert code == 0 and states["torch"] == states["data digits"] == "ok" and "wrong" not in states.values()
    assert snapshot() == {}


def test_doctor_finds_a_damaged_part(run, store):
    (part,) = store.parts("trials")
    part.write_bytes(b"")
    before = snapshot()
    code, out, _ = run("doctor", "--format", "jsonl")
    (row,) = [row for row in read_back("jsonl", out) if row["state"] == "wrong"]
    assert code == 2 and part.name in row["found"] and "Move it out of the folder" in row["found"]
    assert snapshot() == before


# The same in processes of their own.


def test_a_wrong_word_ends_a_process_with_2(process):
    found = process("plan", "smoke", "--set", "model.witdh=3")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "memsweep: --set 'model.witdh' is no field of a trial. Did you mean 'model.width'?\n"


def test_a_writing_statement_ends_a_process_with_2(process, store):
    before = snapshot()
    found = process("query", "copy trials to 'stolen.csv'")
    assert (found.returncode, found.stdout) == (2, "") and "only SELECT" in found.stderr
    assert snapshot() == before


def test_bytes_that_are_no_text_end_a_process_with_2(process, store):
    found = process("query", os.fsdecode(b"select \xff"))
    assert found.returncode == 2 and "Traceback" not in found.stderr


def test_times_are_printed_in_utc_wherever_the_machine_is(process, store):
    found = process("query", "select finished_at from trials limit 1", "--format", "csv", TZ="Asia/Tokyo")
    assert found.returncode == 0 and found.stdout.splitlines()[1].startswith("2026-01-01 12:00:00")


def test_plan_tells_a_price_for_so_many_workers(tmp_path):
    words = [
        "plan",
        "smoke",
        "--results",
        tmp_path / "none",
        "--workers",
        "3",
        "--hourly-price",
        "2",
        "--format",
        "jsonl",
    ]
    row = json.loads(memsweep_(*words).stdout)
    assert row["workers"] <= 3 and row["price"] == pytest.approx(row["seconds"] / 3600 * row["workers"] * 2, abs=0.01)
