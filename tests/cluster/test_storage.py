"""Results in an object store: what a folder does, whoever is killed, and whatever the store answers for a while."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import memsweep
from memsweep.check import recording
from memsweep.check.inspection import damaged
from memsweep.results import forgetting, kept_files, networks, notes
from memsweep.results.compaction import compact
from memsweep.results.export import export
from memsweep.results.storage import clock, launch_lock, locks
from memsweep.results.storage.location import location
from memsweep.results.storage.store import LockedError, Store, StoreError
from memsweep.run import continuation
from memsweep.run.packing import Pack
from memsweep.run.worker.execution import run_pack
from memsweep.spec.part import Part
from memsweep.spec.schema import SCHEMAS
from memsweep.spec.schema.own_probes import PLACES
from memsweep.spec.sweep import Sweep
from tests.cases import ended, step
from tests.cluster.object_store import ENVIRONMENT
from tests.test_compaction import fill, reads_beside
from tests.test_interruptions import nothing_goes_on, start  # noqa: F401
from tests.test_kills import assert_equal_to_a_whole_launch, kill_parts
from tests.test_launch import ALIKE, TINY, memsweep_, rows
from tests.training import train

ROOT = Path(__file__).parents[2]


@pytest.fixture
def address(s3, request):
    """A prefix of its own for each test."""
    return f"s3://bucket/{request.node.name.replace('[', '-').replace(']', '')}/results"


@pytest.fixture
def store(address):
    return Store(address, create=True)


def keys(s3, address):
    prefix = address.removeprefix("s3://bucket/")
    return [found["Key"] for found in s3.client().list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])]


# The store.


def test_what_is_written_is_read(store):
    fill(store, range(5))
    assert len(store.trials()) == 5 and len(store.current("steps")) == 10 and damaged(store) == []
    assert store.write("trials", [ended("t0")]) == store.write("trials", [ended("t0")])
    assert store.identity() == Store(store.results).identity()


@pytest.mark.parametrize("later", ["[]", '["one", "two"]'])
def test_an_object_that_is_replaced_while_it_is_read_is_read_whole(store, monkeypatch, later):
    note, system = store.results / "note.json", type(store.results)._system.fget(store.results)
    note.write_bytes(b'["former"]')
    replacements = [later]

    class Replaced:
        def open_input_file(self, key):
            file = system.open_input_file(key)
            if replacements:
                with system.open_output_stream(key) as output:
                    output.write(replacements.pop().encode())
            return file

    monkeypatch.setattr(type(note), "_system", property(lambda path: Replaced()))
    assert note.read_text() == later and not replacements


def test_nothing_there_is_told(s3, address):
    with pytest.raises(StoreError, match="no results at s3://bucket/"):
        Store(address)
    found = memsweep_("status", "--results", address)
    assert found.returncode == 2 and "launch a sweep first" in found.stderr
    assert memsweep_("missing", "smoke", "--results", address, "--format", "csv").stdout.count("\n") == 13


def test_a_bucket_that_is_not_there_is_told_at_once(s3):
    begun = time.monotonic()
    with pytest.raises(StoreError, match="the bucket 'no-bucket' does not exist"):
        Store("s3://no-bucket/results", create=True)
    assert time.monotonic() - begun < 20


def test_a_store_that_is_not_there_is_told_at_once(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = memsweep_("launch", "smoke", "--results", "s3://elsewhere/results")
    assert found.returncode == 2 and "the object store can't be used" in found.stderr


def test_a_damaged_part_is_told_and_can_be_moved_away(s3, store):
    fill(store, range(2))
    path = store.parts("trials")[0]
    path.write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="is not a complete Parquet part"):
        store.trials()
    assert [broken for broken, _ in damaged(store)] == [path]
    path.unlink()
    assert len(store.trials()) == 1


# Locks.

HOLDER = """
    import sys, time
    from memsweep.results.storage.store import LockedError, Store
    try:
        with Store(sys.argv[1]).lock("launch"):
            print("held", flush=True)
            time.sleep(float(sys.argv[2]))
            print("let go", flush=True)
    except LockedError as error:
        print("refused", flush=True)
"""


def holder(store, seconds):
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(store.results), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_one_process_at_a_time_holds_a_lock(store, monkeypatch):
    other = holder(store, 60)
    try:
        assert other.stdout.readline() == "held\n" and store.is_locked()
        with (
            pytest.raises(LockedError, match=rf"memsweep launch \(process {other.pid} on .*\) is writing"),
            store.lock(),
        ):
            pass
    finally:
        other.kill()
        other.communicate()
    with store.lock():  # of a process of this machine that is gone: at once
        assert store.is_locked()
    assert not store.is_locked() and not list(store.results.glob("launch.lock/*"))


def test_of_several_at_the_same_moment_one_holds_a_lock_at_a_time(store):
    others = [holder(store, 8) for _ in range(3)]
    said = [other.communicate()[0].split() for other in others]
    assert sum(words[:1] == ["held"] for words in said) >= 1
    assert all(words in (["held", "let", "go"], ["refused"]) for words in said)


def test_parts_hold_a_store_together_and_exclude_other_launches(store, monkeypatch):
    monkeypatch.setattr(launch_lock, "WAIT_SECONDS", 0.0)
    with store.lock(part=Part(1, 4)), store.lock(part=Part(3, 4)):
        store.note_running({"p": ["a"]}, Part(1, 4))
        assert store.is_locked() and store.running() == {"a"}
        for other in (None, Part(1, 3)):
            with pytest.raises(LockedError, match=r"part ./4, process \d+ on "), store.lock(part=other):
                pass
    assert not store.is_locked() and store.running() == set()
    with store.lock(), pytest.raises(LockedError, match=r"memsweep launch \(process"), store.lock(part=Part(1, 4)):
        pass


def test_a_lock_of_a_dead_machine_is_free_after_a_while(store, monkeypatch):
    monkeypatch.setattr(locks, "DEAD_SECONDS", 4.0)
    claim = store.results / "launch.lock" / "0123456789abcdef"
    claim.write_bytes(json.dumps({"process": 1, "host": "another-machine"}).encode())
    begun = time.monotonic()
    assert store.is_locked()
    with store.lock():
        assert 2 < time.monotonic() - begun < 30 and not claim.exists()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_wrong_by_an_hour_frees_no_lock(store, monkeypatch, hours):
    other = holder(store, 60)
    try:
        assert other.stdout.readline() == "held\n"
        right = time.time
        monkeypatch.setattr(time, "time", lambda: right() + hours * 3600)
        clock.offset.cache_clear()
        assert store.is_locked()
        with pytest.raises(LockedError), store.lock():
            pass
    finally:
        clock.offset.cache_clear()
        other.kill()
        other.communicate()


def test_whoever_may_only_read_is_not_kept_from_asking(store, monkeypatch):
    def refuse(*_):
        raise PermissionError("read only")

    monkeypatch.setattr("memsweep.results.storage.location.ObjectPath.write_bytes", refuse)
    clock.offset.cache_clear()
    assert not store.is_locked()
    clock.offset.cache_clear()


# Compaction.


def test_a_reader_and_a_writer_beside_a_compaction_miss_nothing(store):
    assert reads_beside(store, 20, 130) > 1


# Forgetting.


def test_sweeps_are_renamed_noted_exported_and_forgotten(store, tmp_path):
    fill(store, range(3))
    store.write("wanted", [{"sweep": "other", "trial_id": "t0", "position": 0}])
    notes.write(store, "s", "as on a disk", tags=["paper"])
    forgetting.rename(store, "s", "new")
    assert str(notes.of_sweeps(store)["new"]).endswith("as on a disk\ntags: paper")
    assert export(store, "new", tmp_path / "new.csv") == 3
    assert forgetting.forget(store, "new").kept == 1
    compact(store)
    assert store.current("trials", ["trial_id"])["trial_id"].to_pylist() == ["t0"] and damaged(store) == []


# Kept weights and states.


def test_a_longer_trial_goes_on_from_a_state_in_the_store(store):
    fields = {"data.examples": 100, "data.test_examples": 0, "optimizer.batch_size": 50}
    short, long = (Sweep("s", fields | {"optimizer.epochs": n}, keep="state") for n in (2, 5))
    train(short, store)
    (pack,) = continuation.of_packs([Pack(tuple(long.trials), 1)], store, "cpu").packs
    list(run_pack(pack, store))
    assert sorted(row["member_step_count"] for row in store.read("packs").to_pylist()) == [4, 6]
    assert kept_files.damaged(store) == []


def test_more_is_recorded_of_trials_in_the_store(store):
    fields = {"data.examples": 100, "data.test_examples": 0, "optimizer.batch_size": 50, "optimizer.epochs": 2}
    sweep = Sweep("s", fields, seeds=range(2), keep="weights")
    train(sweep, store)
    assert recording.repeat(store, sweep.trials[0].trial_id, ["examples"]).is_exact
    assert recording.probe(store, "s", ["representations"]) == (2, 0)
    recorded = {row["trial_id"]: row["probes"].split(",") for row in store.current("trials").to_pylist()}
    assert "examples" in recorded[sweep.trials[0].trial_id] and "examples" not in recorded[sweep.trials[1].trial_id]
    assert {row["trial_id"] for row in store.current("representations").to_pylist()} == recorded.keys()
    assert kept_files.damaged(store) == [] and damaged(store) == []


def test_weights_are_kept_and_useless_files_go(store, monkeypatch):
    numbers = {"weight": np.arange(12, dtype=np.float32).reshape(2, 3, 2)}
    file, useless = (
        networks.write(store, ["t0", "t1"], numbers),
        networks.write(store, ["t2"], {"weight": np.ones((1, 2))}),
    )
    row = {"attempt_id": "a", "step": 1, "file": file}
    store.write("weights", [{**row, "trial_id": f"t{i}", "position": i} for i in range(2)])
    store.write("trials", [ended("t0"), ended("t1")])
    (second,) = networks.rows(store, ["t1"])
    assert np.array_equal(networks.of_rows(store, [second])["weight"], numbers["weight"][1:])
    assert kept_files.damaged(store) == []
    monkeypatch.setattr(kept_files, "LEFTOVER_SECONDS", -3600)
    assert kept_files.delete_useless(store, {"t2"}) == 0 and kept_files.delete_useless(store, ()) == 1
    assert (
        not kept_files.path_of(store, "weights", useless).exists()
        and kept_files.path_of(store, "weights", file).exists()
    )


# Whole sweeps.


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The sweep in a folder of this machine, undisturbed."""
    results = tmp_path_factory.mktemp("reference") / "results"
    found = memsweep_("launch", *ALIKE, "--results", results, "--tracking-uri", "none")
    assert found.returncode == 0, found.stderr
    return results


def assert_identical(address, reference):
    for table in ("trials", "steps"):
        mine, theirs = (rows(place, table, {"pack_id"}) for place in (address, reference))
        assert len(mine) and mine.equals(theirs), mine.compare(theirs)
    assert Store(address).read("trials", ["trial_id"]).num_rows == 32  # nobody was settled twice
    assert not list(location(address).glob("checkpoints/*"))


@pytest.mark.timeout(600)
def test_every_verb_works_and_no_secret_is_kept(s3, address, reference, tracked, tmp_path):
    launched = memsweep_("launch", *ALIKE, "--results", address)
    assert launched.returncode == 0, launched.stderr
    assert_identical(address, reference)
    said = [launched]

    def run(*arguments, code=0):
        found = memsweep_(*arguments, "--results", address)
        assert found.returncode == code, found.stderr
        said.append(found)
        return found.stdout

    assert "32" in run("status", "--format", "csv")
    assert run("missing", *TINY[:5], "--format", "csv").strip().count("\n") == 0
    assert run("query", "select count(*) as n from steps where train_count > 0", "--format", "csv").split()[1] != "0"
    assert "exact" in run("verify", "--sample", "1", "--format", "csv")
    run("track")
    assert run("report").strip() == f"{address}/report.html"
    run("track")  # the figures go into MLflow
    run("claims", "--format", "csv")
    assert '"trials"' in run("compact", "--format", "csv")
    assert_identical(address, reference)
    run("doctor")
    assert '"settled"' in run("plan", *TINY, "--format", "csv")
    again = memsweep_("launch", *ALIKE, "--results", address)
    assert again.returncode == 0 and "0 of them run now" in again.stderr
    stored = {key: s3.client().get_object(Bucket="bucket", Key=key)["Body"].read() for key in keys(s3, address)}
    names = {Path(key).name for key in stored}
    assert {"report.html", "claims.csv", "identity", "programs.json"} <= names, names
    assert any(name.startswith("smoke-") and name.endswith(".png") for name in names), names
    local = {path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()}
    assert any(path.name == "mlflow.db" for path in local)
    texts = [found.stdout.encode() + found.stderr.encode() for found in said]
    for secret in (ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], ENVIRONMENT["AWS_ACCESS_KEY_ID"]):
        assert not any(secret.encode() in content for content in [*stored.values(), *local.values(), *texts])


@pytest.mark.timeout(600)
def test_given_data_is_stored_once_and_read_from_the_store(s3, address):
    inputs, labels = np.random.default_rng(1).normal(size=(60, 3)), np.arange(60) % 3
    sizes = {"data.examples": 30, "data.validation_examples": 10, "model.width": 4, "optimizer.epochs": 2}
    sweep = memsweep.Sweep("given", {**sizes, "data.task": "given:mine"}, seeds=range(2))
    for count in (1, 2):
        report = memsweep.launch(
            sweep, address, data={"mine": (inputs, labels)}, limit=count, progress=False, tracking_uri="none"
        )
        assert (report.ran, report.missing) == (1, 2 - count)
    assert len([key for key in keys(s3, address) if key.endswith(".npz")]) == 1
    verified = memsweep_("verify", "--results", address, "--format", "csv")
    assert verified.returncode == 0 and "2 exact, 0 differ" in verified.stderr, verified.stderr


def wait_for_trials(address, count, process, seconds=180):
    until = time.monotonic() + seconds
    while len(list(location(address).glob("trials/*.parquet"))) < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "no part was written in time"
        time.sleep(0.2)


@pytest.mark.timeout(600)
def test_a_killed_launch_is_finished_by_the_next(s3, address, reference):
    driver = start("launch", *ALIKE, "--results", address, "--checkpoint", "1s", "--tracking-uri", "none")
    wait_for_trials(address, 1, driver)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    again = memsweep_("launch", *ALIKE, "--results", address, "--tracking-uri", "none")
    assert again.returncode == 0, again.stderr
    assert_identical(address, reference)


@pytest.mark.timeout(900)
def test_four_parts_at_once_that_are_killed_change_nothing(s3, address, tmp_path):
    assert kill_parts(address, random.Random(24)) >= 3
    assert_equal_to_a_whole_launch(address, tmp_path / "peaceful")


@pytest.mark.timeout(600)
def test_errors_of_the_store_for_half_a_minute_change_nothing(s3, address, reference):
    driver = start("launch", *ALIKE, "--results", address, "--checkpoint", "1s", "--tracking-uri", "none")
    wait_for_trials(address, 1, driver)
    s3.fail_for(30)
    _, message = driver.communicate(timeout=400)
    assert driver.returncode == 0, message
    assert_identical(address, reference)


@pytest.mark.timeout(600)
def test_a_worker_that_hangs_in_a_sweep_on_an_object_store_says_where(s3, address, tmp_path):
    """Its last words are in a file of its machine, where the driver has them looked for."""
    (tmp_path / "stuck.py").write_text(
        "import time\n\n\n"
        "def penalty(parameters, inputs, logits):\n    time.sleep(1000)\n    return 0.0 * logits.sum()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = ["launch", "smoke", "--limit", "1", "--results", address, "--patience", "3s", "--compile", "never"]
    fields = ["--set", "regularization.penalty=stuck:penalty", "--set", "regularization.penalty_strength=0.1"]
    found = memsweep_(*command, *fields, "--tracking-uri", "none", env=environment, timeout=500)
    assert found.returncode == 1, found.stderr
    (row,) = memsweep.table("trials", address).to_dict("records")
    assert row["status"] == "quarantined" and "in penalty" in row["cause"] and "it hung" in row["cause"]


def test_tables_of_users_probes_are_read(store):
    columns = pa.schema([*PLACES, pa.field("rank", pa.int64())])
    fill(store, range(1))
    key = {"trial_id": "t0", "attempt_id": store.trials(["attempt_id"])["attempt_id"][0].as_py()}
    for row in range(2):
        store.write("own_ranks", [{**key, "step": 1, "part": "train", "row": row, "rank": 7}], columns)
    assert store.tables()[-1] == "own_ranks"
    compact(store)
    answer = memsweep.sql("select count(*) as n, min(rank) as least from own_ranks", store.results)
    assert (answer.n[0], answer.least[0], len(store.parts("own_ranks"))) == (2, 7, 1)


def test_tables_are_those_of_the_schema(store):
    store.write("steps", [step()])
    assert store.read("steps").schema == SCHEMAS["steps"]
