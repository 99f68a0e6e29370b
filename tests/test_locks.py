"""One process writes at a time, also in folders that several people share."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from memsweep.results.storage import store as stores
from memsweep.results.storage.store import Store, StoreError
from tests.cases import ended


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


# Locks.


@pytest.fixture
def holder(store):
    """Another process that holds the lock and has noted a trial."""
    code = f"""
        import time
        from memsweep.results.storage.store import Store
        store = Store({str(store.results)!r})
        with store.lock("launch"):
            store.note_running({{"p": ["t"]}})
            print("held", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_until_the_first_is_killed(store, holder):
    message = rf"memsweep launch \(process {holder.pid} on .*\) is writing to .*--results"
    with pytest.raises(StoreError, match=message), store.lock("launch"):
        pass
    assert store.is_locked() and store.running() == {"t"}
    assert not store.is_locked("track")
    with store.lock("track"):  # another name is another lock
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not store.is_locked() and store.running() == set()
    with store.lock("launch"):
        assert store.is_locked()


def test_a_lock_is_free_after_its_block_even_on_errors(store):
    with pytest.raises(RuntimeError), store.lock():
        raise RuntimeError
    with store.lock():
        pass


def test_a_lock_within_a_lock_is_refused(store):
    with store.lock(), pytest.raises(StoreError, match=f"process {os.getpid()} "), store.lock():
        pass


def test_trials_run_only_while_the_lock_is_held(store):
    assert store.running() == set()
    with store.lock():
        store.note_running({"p": ["t"], "q": ["u"]})
        assert store.running() == {"t", "u"}
        store.note_running({"q": ["other trials of a pack are not written again"]})
        assert store.running() == {"u"}
        assert [path.name for path in (store.results / "running").iterdir()] == ["q.json"]
        (store.results / "running.json").write_text('["t"]')  # by a launch of an older version
        assert store.running() == {"t"}
    assert store.running() == set()


def test_looking_at_a_lock_does_not_take_its_holders_name(store, holder):
    assert store.is_locked()
    with pytest.raises(StoreError, match=f"process {holder.pid} on"), store.lock():
        pass


# Folders that several people share.


@pytest.fixture(params=[0o002, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_locks_are_as_writable_as_parts(tmp_path, umask):
    store = Store(tmp_path / "results", create=True)
    part = store.write("trials", [ended()])
    for name in ("launch", "track", "compact"):
        with store.lock(name):
            path = store.results / f"{name}.lock"
            assert path.stat().st_mode == part.stat().st_mode == 0o100666 & ~umask


def test_a_lock_that_an_older_version_made_is_opened_to_whom_its_folder_is(tmp_path):
    store = Store(tmp_path / "results", create=True)
    store.results.chmod(0o2775)
    path = store.results / "launch.lock"
    path.touch(0o644)
    path.chmod(0o644)
    with store.lock():
        assert path.stat().st_mode & 0o777 == 0o664
    store.results.chmod(0o755)
    path.chmod(0o644)
    with store.lock():
        assert path.stat().st_mode & 0o777 == 0o644


def test_a_lock_of_another_user_that_may_only_be_read_locks_too(store, monkeypatch):
    (store.results / "launch.lock").write_text("process 1 on elsewhere\n")
    system = os.open

    def refuse(path, flags, *rest, **named):
        if str(path).endswith(".lock") and flags & (os.O_RDWR | os.O_WRONLY):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return system(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refuse)
    with store.lock():
        assert store.is_locked()
        with pytest.raises(stores.LockedError), store.lock(seconds=0):
            pass
    assert not store.is_locked()


def test_notes_are_as_writable_as_parts(tmp_path, umask):
    store = Store(tmp_path / "results", create=True)
    store.note_running({"p": ["a"]})
    store.note_programs({"p": {}})
    store.note_tracking({"where": "w"})
    store.identity()
    files = [path for path in store.results.rglob("*") if path.is_file()]
    assert len(files) == 5 and {path.stat().st_mode for path in files} == {0o100666 & ~umask}
