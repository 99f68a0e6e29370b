"""Results in Google's object store, played by an emulator on loopback: the same code as S3's, tried once with each."""

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from memsweep.check.inspection import damaged
from memsweep.results.storage.store import LockedError, Store, StoreError
from tests.cluster.test_storage import ALIKE, assert_identical, holder, reference, wait_for_trials
from tests.processes import free_port
from tests.test_compaction import fill, reads_beside
from tests.test_interruptions import start
from tests.test_launch import memsweep_

__all__ = ["reference"]  # a fixture


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Where it listens."""
    port, log = free_port(), tmp_path_factory.mktemp("gcs") / "log"
    command = [Path(sys.executable).with_name("gcp-storage-emulator"), "start", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--in-memory", "--default-bucket", "bucket"]
    with (
        open(log, "wb") as file,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file) as process,
    ):
        try:
            until = time.monotonic() + 60
            while not answers(port):
                assert process.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/storage/v1/b/bucket", timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture
def address(server, request, monkeypatch, tmp_path):
    """A prefix of its own for each test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    options = f"anonymous=true&endpoint_override={server}&scheme=http"
    return f"gs://bucket/{request.node.name}/results?{options}"


@pytest.fixture
def store(address):
    return Store(address, create=True)


def test_what_is_written_is_read(store):
    fill(store, range(5))
    assert len(store.trials()) == 5 and len(store.current("steps")) == 10 and damaged(store) == []
    assert store.identity() == Store(store.results).identity()
    with pytest.raises(StoreError, match="no results at gs://bucket/"):
        Store(store.results.parent / "elsewhere")


def test_a_bucket_that_is_not_there_is_told_at_once(server):
    begun = time.monotonic()
    with pytest.raises(StoreError, match="the bucket 'no-bucket' does not exist"):
        Store(f"gs://no-bucket/results?anonymous=true&endpoint_override={server}&scheme=http", create=True)
    assert time.monotonic() - begun < 20


def test_a_store_that_is_not_there_is_told_soon():
    address = "gs://bucket/results?anonymous=true&endpoint_override=127.0.0.1:9&scheme=http"
    begun = time.monotonic()
    found = memsweep_("launch", "smoke", "--results", address)
    assert found.returncode == 2 and "the object store can't be used" in found.stderr
    assert time.monotonic() - begun < 60


def test_one_process_at_a_time_holds_a_lock(store):
    other = holder(store, 60)
    try:
        assert other.stdout.readline() == "held\n" and store.is_locked()
        with pytest.raises(LockedError, match=rf"process {other.pid} on "), store.lock():
            pass
    finally:
        other.kill()
        other.communicate()
    with store.lock():
        assert store.is_locked()
    assert not store.is_locked()


def test_a_reader_and_a_writer_beside_a_compaction_miss_nothing(store):
    assert reads_beside(store, 20, 130) > 1


@pytest.mark.timeout(600)
def test_a_killed_launch_is_finished_by_the_next_and_every_verb_works(address, reference, tracked):
    driver = start("launch", *ALIKE, "--results", address, "--checkpoint", "1s", "--tracking-uri", "none")
    wait_for_trials(address, 1, driver)
    driver.kill()
    driver.communicate()

    def run(*arguments):
        found = memsweep_(*arguments, "--results", address)
        assert found.returncode == 0, found.stderr
        return found.stdout

    run("launch", *ALIKE, "--tracking-uri", "none")
    assert_identical(address, reference)
    assert "32" in run("status", "--format", "csv")
    assert "exact" in run("verify", "--sample", "1", "--format", "csv")
    run("track")
    assert run("report").strip().startswith("gs://bucket/")
    assert '"trials"' in run("compact", "--format", "csv")
    assert_identical(address, reference)
