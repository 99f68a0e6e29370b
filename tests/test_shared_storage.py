"""Folders that machines and users share: what the file system must do, clocks that differ, users, quotas, MLflow."""

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import memsweep
from memsweep import Sweep
from memsweep.check import folder
from memsweep.results import kept_files, live, progress
from memsweep.results.compaction import compact
from memsweep.results.mlflow import background, place
from memsweep.results.storage import clock, filesystem
from memsweep.results.storage.store import Store, StoreError
from memsweep.run import launcher
from memsweep.run.packing import Pack
from memsweep.run.recovery.hang_guard import LastWords
from memsweep.run.rounds.launch_code import LaunchCode
from memsweep.run.rounds.rounds import Due
from memsweep.run.supervisor import PackSupervisor
from memsweep.run.worker import live as writing
from memsweep.run.worker.execution import run_pack
from memsweep.run.worker.writer import PackWriter
from tests.cases import ended
from tests.commands import own_folder, refused, run, snapshot  # noqa: F401
from tests.training import train

ROOT = Path(__file__).parents[1]
SIZES = {"data.examples": 60, "data.validation_examples": 20, "data.test_examples": 0, "optimizer.batch_size": 30}
SWEEP = Sweep("shared", SIZES | {"optimizer.epochs": 4, "model.width": 4}, seeds=range(4))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def found(results):
    """check -> (state, text)."""
    return {name: (state, text) for name, state, text in folder.checks(Path(results))}


# What a file system must do.


def test_doctor_tests_the_folder_itself_and_leaves_nothing(run, store):  # noqa: F811
    code, out, _ = run("doctor", "--results", store.results, "--format", "csv")
    assert code == 0 and all(f'"{name}","ok"' in out for name in ("locks", "renames", "listings", "clock"))
    assert list(store.results.iterdir()) == []


def fails(number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    return refuse


FAULTS = {
    "flock is missing": ("locks", fcntl, "flock", fails(errno.ENOSYS), "can't be locked (Function not implemented)"),
    "flock excludes nobody": ("locks", fcntl, "flock", lambda *_: None, "a lock that is held can be taken again"),
    "rename is refused": ("renames", os, "replace", fails(errno.EPERM), "Operation not permitted"),
    "rename does nothing": ("renames", os, "replace", lambda *_: None, "has the content of the other"),
    "listings are old": ("listings", os, "listdir", lambda *_: [], "a new file is not listed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_doctor_shows_what_a_file_system_lacks_with_rule_and_remedy(store, monkeypatch, fault):
    check, module, name, broken, problem = FAULTS[fault]
    monkeypatch.setattr(module, name, broken)
    state, text = found(store.results)[check]
    assert state == "wrong" and problem in text and text.startswith(str(store.results)) and "--results" in text
    monkeypatch.undo()
    assert [path for path in store.results.iterdir() if path.name.endswith(".lock")] == []


@pytest.mark.parametrize("fault", ["flock is missing", "rename is refused"])
def test_a_launch_into_such_a_folder_ends_with_one_message(refused, monkeypatch, fault):  # noqa: F811
    _, module, name, broken, _ = FAULTS[fault]
    monkeypatch.setattr(module, name, broken)
    message = refused("launch", "smoke", "--results", "results")
    assert "can't be written" in message and ("doctor tests it" in message) == (module is fcntl)


EXCLUSIVE = """
import os, sys

def refuse(event, values):
    if event == "open" and str(values[0]).startswith(sys.argv[1]) and values[2] & os.O_EXCL:
        raise OSError(95, "Operation not supported", values[0])

sys.addaudithook(refuse)
try:
    open(f"{sys.argv[1]}/new", "x")
except OSError:
    from memsweep.results.compaction import compact
    from memsweep.results.storage.store import Store
    from tests.test_shared_storage import SWEEP
    from tests.training import train

    store = Store(sys.argv[1], create=True)
    with store.lock():
        train(SWEEP, store)
    compact(store)
    print(len(store.trials()))
"""


def test_exclusive_creation_is_not_required(store):
    """NFS 2 and some object stores mounted as folders lack it."""
    command = [sys.executable, "-c", EXCLUSIVE, str(store.results)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.stdout == "4\n", ran.stderr


def test_a_folder_that_can_only_be_read_is_not_tested(store, monkeypatch):
    monkeypatch.setattr(Path, "touch", fails(errno.EROFS))
    rows = found(store.results)
    assert rows["locks, renames"] == (
        "harmless",
        f"{store.results}: can't be written (Read-only file system), so they could not be tested",
    )
    assert "locks" not in rows and list(store.results.iterdir()) == []


# Network file systems.


def escaped(point):
    return str(point).replace(" ", "\\040")


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    """Writes the table of mounts: of type and options at a path."""
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(filesystem, "MOUNTS", table)
    monkeypatch.setattr(place, "MACHINE", tmp_path / "machine")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    (tmp_path / "machine").mkdir()

    def write(*points):
        lines = [
            f"{number} 1 0:{number} / {escaped(point)} rw,relatime shared:1 - {kind} server:/x {options}"
            for number, (point, kind, options) in enumerate([("/", "ext4", "rw"), *points], 20)
        ]
        table.write_text("\n".join(lines) + "\n")

    return write


def test_the_innermost_last_mount_holds_a_path(mounts, tmp_path):
    mounts((tmp_path / "a b", "nfs4", "rw,local_lock=none"), (tmp_path / "a b/c", "tmpfs", "rw"))
    assert filesystem.mount_of(tmp_path / "a b" / "x").kind == "nfs4"
    assert filesystem.mount_of(tmp_path / "a b" / "c" / "x").kind == "tmpfs"
    assert filesystem.mount_of(tmp_path / "a bc").kind == "ext4"
    kinds = {"lustre": True, "fuse.sshfs": True, "fuse.fuse-overlayfs": False, "fuseblk": False, "beegfs": True}
    for kind, is_shared in kinds.items():
        mounts((tmp_path / "a b", "nfs4", "rw"), (tmp_path / "a b", kind, "rw"))
        assert filesystem.mount_of(tmp_path / "a b").is_shared == is_shared, kind


def test_locks_that_hold_on_one_machine_alone_are_wrong(mounts, store):
    mounts((store.results, "lustre", "rw,localflock"))
    state, text = found(store.results)["locks between machines"]
    assert state == "wrong" and "mounted with localflock" in text and "Mount it without" in text
    mounts((store.results, "lustre", "rw,flock"))
    assert "locks between machines" not in found(store.results)


def test_the_database_of_mlflow_is_on_a_local_disk(mounts, store, tmp_path):
    for kind, home, expected in (("ext4", "nfs4", store.results), ("nfs4", "ext4", tmp_path / "home"),
                                 ("nfs4", "nfs4", tmp_path / "machine" / f"memsweep-{os.geteuid()}")):  # fmt: skip
        mounts((store.results, kind, "rw"), (tmp_path / "home", home, "rw"))
        path = background.sqlite_path(background.default_uri(store.results))
        assert path.is_relative_to(expected) and path.parent.is_dir()
        sentence = background.moved(f"sqlite:///{path}", store.results)
        assert (str(path) in sentence and f"{store.results} is a network file system (nfs4)" in sentence) == (
            kind == "nfs4"
        )
        assert background.moved("sqlite:////elsewhere.db", store.results) == ""
    assert (tmp_path / "machine" / f"memsweep-{os.geteuid()}").stat().st_mode & 0o077 == 0


def test_a_place_that_another_user_has_taken_is_refused(mounts, store, tmp_path, monkeypatch):
    mounts((tmp_path, "nfs4", "rw"))
    (tmp_path / "machine" / "memsweep-4711").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(background.TrackingError, match=r"belongs to another user\). Choose .* --tracking-uri"):
        background.default_uri(store.results)


def test_track_fills_the_database_and_ui_finds_it(mounts, run, store, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mounts((store.results, "nfs", "rw"))
    train(SWEEP, store)
    code, _, err = run("ui", "--results", store.results)
    assert code == 2 and f"no MLflow database at {tmp_path}/home" in err
    code, _, err = run("track", "--results", store.results)
    assert (
        code == 0
        and err.count(f"{store.results} is a network file system (nfs)") == 1
        and "shared: 4 trials are in MLflow" in err
    )
    assert not list(store.results.glob("mlflow.db*")) and len(list((tmp_path / "home").rglob("mlflow.db"))) == 1
    monkeypatch.setattr("memsweep.cli.ui._check_is_free", fails(errno.EADDRINUSE))
    with pytest.raises(OSError, match="in use"):  # after the database was looked for
        run("ui", "--results", store.results)
    options = launcher.LaunchOptions()
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # on a node whose disk memsweep ui does not see
    assert "fills it on the machine where you run memsweep ui" in launcher._follow(store, options.tracking_uri)


# Clocks.


@pytest.fixture(params=[-1, 1])
def shifted(request, monkeypatch):
    """This machine's clock is an hour behind or ahead; other machines and the file system agree."""
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + request.param * 3600)
    clock.offset.cache_clear()
    yield request.param
    clock.offset.cache_clear()


def age(path, minutes):
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 60 * minutes))
    return path


def test_files_of_other_writers_are_leftovers_by_the_clock_of_the_folder(store, shifted):
    names = ("running", "live", "old")
    paths = [store.results / f".{name}-0a.tmp" for name in names]
    networks = [kept_files.path_of(store, "weights", name) for name in names]
    networks[0].parent.mkdir()
    for path in (*paths, *networks):
        path.write_bytes(b"")
    for path, minutes in zip((*paths, *networks), (0, 40, 90) * 2, strict=True):
        age(path, minutes)
    Store(store.results, create=True)
    assert [path.exists() for path in paths] == [True, True, False]
    assert kept_files.delete_useless(store, ()) == 1
    assert [path.exists() for path in networks] == [True, True, False]


def test_a_leftover_that_its_writer_renames_meanwhile_refuses_no_launch(store, monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([self / ".listed-0a.tmp"]))
    Store(store.results, create=True)


def test_rows_that_another_part_of_a_launch_deletes_meanwhile_end_no_launch(store, monkeypatch):
    path = store.write("live", [{"trial_id": "t", "attempt_id": "a", "step": 1}])
    path.unlink()
    monkeypatch.setattr(store, "parts", lambda table: [path])
    live.delete(store, ["t"])


def test_the_progress_of_a_launch_is_as_old_as_its_note(store, shifted):
    began, written = (datetime.now(UTC) + timedelta(hours=shifted, minutes=minutes) for minutes in (-10, 0))
    note = {"steps": 10, "left": 4, "rate": 0.0, "phase": "training", "packs": []}
    note |= {"began_at": began.isoformat(), "written_at": written.isoformat()}
    with store.lock():
        store.note_progress(note)
        (line,) = progress.sentences(store, lambda seconds: f"{seconds:.0f} s")
        assert line == "launch at work for 600 s: training, 6 of 10 steps (60%)"
        age(store.results / "progress.json", 3)
        (line,) = progress.sentences(store, lambda seconds: f"{seconds:.0f} s")
        assert line.endswith(", as of 180 s ago")


def test_an_attempt_is_later_than_those_before_it_by_any_clock(store):
    """Of unsettled attempts readers see the last: a retry that was interrupted, not the failure before it."""
    trial, other = SWEEP.trials[:2]
    future = datetime.now(UTC) + timedelta(hours=1)
    store.write("trials", [ended(each.trial_id, "failed", finished_at=future) for each in (trial, other)])
    due = [Due([each], 1.0, False) for each in (trial, other)]
    one, two = launcher._packs(due, store, LaunchCode(store, None), lambda trials, saved: [Pack(tuple(trials), 1)])
    assert one.after == pytest.approx(future.timestamp())
    assert Pack.from_json(one.to_json()).after == one.after
    training = run_pack(one, store)
    next(training)
    training.close()
    PackSupervisor(store, lambda tally: None, list).quarantine(two, 1, LastWords(False, ""))
    statuses = {row["trial_id"]: row["status"] for row in store.trials(["trial_id", "status"]).to_pylist()}
    assert statuses == {trial.trial_id: "interrupted", other.trial_id: "quarantined"}


def test_a_pack_that_runs_again_shows_its_curves_although_the_dead_worker_was_ahead(store, monkeypatch):
    monkeypatch.setattr(writing, "FIRST_SECONDS", 0.0)
    pack = Pack(tuple(SWEEP.trials), 4)
    ahead = datetime.now(UTC) + timedelta(hours=1)
    rows = [{"trial_id": trial.trial_id, "attempt_id": "dead", "begun_at": ahead, "step": 1} for trial in SWEEP.trials]
    store.write("live", rows)
    again = PackSupervisor(store, lambda tally: None, list).remaining(pack)
    training = run_pack(again, store)
    next(training)
    next(training)
    attempts = live.rows(store)["attempt_id"].to_pylist()
    training.close()
    assert "dead" not in attempts and len(attempts) >= 4


# Few files, quotas.


def files(results):
    return sorted(str(path.relative_to(results)) for path in results.rglob("*") if path.is_file())


def test_a_pack_leaves_three_files(store):
    before = len(files(store.results))
    train(SWEEP.with_axes({"model.width": (4, 5, 6)}), store)
    tables = [path.partition("/")[0] for path in files(store.results) if path.endswith(".parquet")]
    assert sorted(tables) == sorted(["trials", "steps", "packs"] * 3 + ["wanted"])
    assert len(files(store.results)) - before == 3 * 3 + 1
    compact(store)
    assert len([path for path in files(store.results) if path.endswith(".parquet")]) == 4


def test_a_long_training_keeps_few_files_of_its_curves(store, monkeypatch):
    monkeypatch.setattr(writing, "MERGED", 3)
    curves = writing.LiveCurves(store, "a")
    (trial,) = SWEEP.trials[:1]
    writer = PackWriter(store, "pack")
    writer.enter(trial)
    most = 0
    for step in range(1, 41):
        writer.curve(trial).append({"step": step, "train_count": step})
        curves.write({trial.trial_id: writer.record(trial)}, now=True)
        most = max(most, len(store.parts("live")))
        assert live.rows(store)["step"].to_pylist() == list(range(1, step + 1))
    assert most <= 2 * 4  # at most two of each size: 1, 3, 9, 27
    curves.close()
    assert store.parts("live") == []


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "of bytes or of files (df, df -i)"), (errno.EDQUOT, "(quota -s)")]
)
def test_a_full_disk_or_quota_is_one_message(refused, store, monkeypatch, number, remedy):  # noqa: F811
    monkeypatch.setattr(os, "fsync", fails(number))
    with pytest.raises(StoreError) as error:
        store.write("trials", [ended()])
    assert os.strerror(number) in str(error.value) and remedy in str(error.value)
    assert remedy in refused("launch", "smoke", "--results", store.results)
    assert not list(store.results.rglob("*.tmp"))


# Several users.


@pytest.fixture
def umask():
    before = os.umask(0o002)
    yield
    os.umask(before)


USER = """
import os, sys
from pathlib import Path
from memsweep.check import folder
from memsweep.cli import app
from memsweep.results.compaction import compact
from memsweep.results.storage.store import Store
from tests.test_shared_storage import SWEEP
from tests.training import train

def act(results, epochs):
    store = Store(results, create=True)
    with store.lock("launch"), store.lock("track"):
        train(SWEEP.with_axes({"optimizer.epochs": (epochs,)}), store)
        store.note_running({"p": ["a"]})
    compact(store)
    assert not any(state == "wrong" for _, state, _ in folder.checks(store.results)), [*folder.checks(store.results)]
    return len(store.trials())

results, scratch, group, user, epochs = *sys.argv[1:3], *map(int, sys.argv[3:])
act(scratch, 1)  # imports all that is imported late: another user may not read this Python's folder
os.setgroups([group])
os.setgid(group)
os.setuid(user)
os.umask(0o002)
print(act(results, epochs))
"""


@pytest.fixture
def open_folder():
    """A folder that others may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.launches
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")
def test_two_users_of_a_group_share_a_folder(open_folder):
    group, users, results = 64999, (64998, 65534), open_folder / "results"
    results.mkdir()
    os.chown(results, -1, group)
    results.chmod(0o2775)
    for turn, user in enumerate(users, 1):
        words = [results, open_folder / f"scratch-{turn}", group, user, turn]
        command = [sys.executable, "-c", USER, *map(str, words)]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert ran.stdout == f"{4 * turn}\n", ran.stderr
    assert {path.stat().st_gid for path in results.rglob("*")} == {group}


@pytest.mark.launches
def test_all_that_is_made_is_as_open_as_the_umask_lets_it(store, umask, run):  # noqa: F811
    """A launch with a Ray of its own, and MLflow; temporary files of Python would have mode 600."""
    memsweep.launch("smoke", store.results, limit=2, keep="weights", tracking_uri="none")
    compact(store)
    assert run("track", "--results", store.results, "--tracking-uri", background.default_uri(store.results))[0] == 0
    modes = {path: path.stat().st_mode & 0o777 for path in store.results.rglob("*")}
    closed = {str(path): oct(mode) for path, mode in modes.items() if mode != (0o775 if path.is_dir() else 0o664)}
    assert closed == {} and {path.suffix for path in modes} >= {".parquet", ".safetensors", ".db", ".csv"}
