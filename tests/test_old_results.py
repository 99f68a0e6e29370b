"""Results of older versions are read, extended, verified, merged and moved; a raised protocol sets them apart."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest

import memsweep
from memsweep.check.inspection import damaged
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.worker import provenance
from memsweep.spec.schema import SCHEMAS
from memsweep.spec.sweep import Sweep
from memsweep.spec.sweep_files import load_sweep
from tests.commands import run  # noqa: F401
from tests.test_launch import memsweep_

pytestmark = pytest.mark.launches

GENERATIONS = ("2026-11-23", "2026-11-26", "2026-11-29")
OLDEST_AND_NEWEST = GENERATIONS[0], GENERATIONS[-1]
TRIALS = load_sweep("smoke").trials[:4]
ROUNDING_ALONE = 3
"""Exit code of verify."""
NUMBERS = ["trial_id", "step", "train_correct_count", "validation_correct_count", "train_loss_sum_nats"]


def copied(generation, results):
    return shutil.copytree(Path(__file__).parent / "stored" / generation, results, dirs_exist_ok=True)


@pytest.fixture(params=GENERATIONS)
def results(request, tmp_path):
    return copied(request.param, tmp_path / "results")


def numbers(results):
    frame = memsweep.table("steps", results)[NUMBERS].sort_values(["trial_id", "step"])
    return frame.reset_index(drop=True)


def test_there_are_two_generations_that_lack_columns_of_today():
    import pyarrow.parquet as pq

    for generation in ("2026-11-23", "2026-11-26"):
        (part, *_) = (Path(__file__).parent / "stored" / generation / "wanted").glob("*.parquet")
        assert set(pq.read_schema(part).names) < set(SCHEMAS["wanted"].names)


def test_every_table_is_read_with_todays_columns(results):
    for table, schema in SCHEMAS.items():
        assert list(memsweep.table(table, results).columns) == schema.names
    trials = memsweep.table("trials", results)
    assert set(trials["trial_id"]) == {trial.trial_id for trial in TRIALS} and set(trials["status"]) == {"finished"}
    assert len(numbers(results)) == 40 and damaged(Store(results)) == []


def test_nothing_of_it_is_run_again(results, run):  # noqa: F811
    work = plan.work(TRIALS, Store(results))
    assert len(work.settled) == 4 and not work.missing
    code, listed, _ = run("missing", "smoke", "--results", results, "--format", "csv")
    assert code == 0 and listed.count("\n") == 1 + 8


@pytest.mark.parametrize("results", OLDEST_AND_NEWEST, indirect=True)
def test_it_is_verified_drawn_and_compacted(results, run):  # noqa: F811
    before = numbers(results)
    found = memsweep_("verify", TRIALS[0].trial_id, "--results", results, "--format", "csv")
    # another make of processor rounds otherwise; on the one that trained it, to the bit
    (trained_on,) = set(memsweep.table("packs", results)["device_name"])
    is_same = provenance.processor() in (trained_on, f"{trained_on}, AVX2")  # older tables lack the instructions
    complete = "incomplete" not in found.stderr  # the newest generation wants trials that its launch left out
    assert found.returncode in (0 if complete else 1, *([] if is_same else [ROUNDING_ALONE])), found.stderr
    assert "0 differ" in found.stderr and ("1 exact" in found.stderr or not is_same), found.stderr
    assert run("report", "--results", results)[0] == 0
    assert memsweep.figure("smoke", results=results).axes
    assert run("compact", "--results", results)[0] == 0
    assert numbers(results).equals(before) and len(list(results.glob("steps/*.parquet"))) == 1


@pytest.mark.parametrize("results", OLDEST_AND_NEWEST, indirect=True)
def test_it_is_extended_by_todays_trials(results, ray_address):
    launched = memsweep_("launch", "smoke", "--limit", "6", "--results", results, "--address", ray_address)
    assert launched.returncode == 0 and "2 of them run now" in launched.stderr, launched.stderr
    assert len(memsweep.table("trials", results)) == 6 and len(memsweep.table("wanted", results)) == 12


def test_all_generations_hold_the_same_numbers_and_can_be_copied_into_one_folder(tmp_path, run):  # noqa: F811
    alone = [numbers(copied(generation, tmp_path / generation)) for generation in GENERATIONS]
    assert alone[1].equals(alone[0])
    pd.testing.assert_frame_equal(alone[2], alone[0], rtol=1e-5)  # the newest was trained on another make of processor
    for generation in GENERATIONS:
        copied(generation, tmp_path / "all")
    assert numbers(tmp_path / "all").equals(alone[0])
    assert len(memsweep.table("trials", tmp_path / "all")) == 4
    assert len(memsweep.table("wanted", tmp_path / "all")) == 12  # the newest names what its launch left out, too
    assert run("compact", "--results", tmp_path / "all")[0] == 0
    assert numbers(tmp_path / "all").equals(alone[0])
    assert Store(tmp_path / "all").read("trials", ["trial_id"]).num_rows == 4  # the others' attempts are dropped


def test_a_raised_protocol_sets_old_rows_apart_and_leaves_them_readable(results):
    smoke = load_sweep("smoke")
    raised = Sweep("smoke", {**smoke.base, "protocol": 2}, axes=smoke.axes, seeds=smoke.seeds).trials[:4]
    assert len(plan.work(raised, Store(results)).missing) == 4
    assert memsweep.sql("select distinct protocol from trials", results)["protocol"].tolist() == [1]


@pytest.mark.parametrize("results", OLDEST_AND_NEWEST, indirect=True)
def test_it_is_read_where_there_is_neither_torch_nor_ray(results):
    script = """
        import sys
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("torch", "ray", "mlflow", "optuna"):
                    raise ModuleNotFoundError(f"no {name} here")
        sys.meta_path.insert(0, Absent())
        from memsweep.cli.app import main
        codes, query = [], ["query", "select count(*) from steps"]
        for words in (["status"], query, ["report"], ["compact"], ["claims"], ["doctor"]):
            sys.argv = ["memsweep", *words, "--results", sys.argv[-1]]
            try:
                main()
                codes.append(0)
            except SystemExit as end:
                codes.append(end.code or 0)
        print(*codes[:-1])  # doctor finds that torch is missing
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(results)]
    found = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert found.returncode == 0 and found.stdout.endswith("\n0 0 0 0 0\n"), found.stdout + found.stderr
    assert "all parts are complete" in found.stdout and "Traceback" not in found.stderr
