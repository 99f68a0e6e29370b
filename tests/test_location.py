"""Addresses of results: what is allowed, what is refused, and that no secret gets into one. No server is needed."""

from pathlib import Path

import pytest

from memsweep.check.inspection import damaged
from memsweep.results.storage import location as locations
from memsweep.results.storage.location import LocationError, ObjectPath, local_folder, location, on_disk, sizes
from memsweep.results.storage.store import Store, StoreError
from tests.cases import ended
from tests.test_launch import memsweep_

ODD = ["run:1", "a b", "a%20b", "a#b", "a?b", "s3:x", "naïve", "$x", "'", "*.d"]
"""Names of folders that something else would take for an address, a pattern or a variable."""


@pytest.mark.parametrize("address", ["results", "/tmp/results", Path("results"), "../x", "./x", *ODD])
def test_a_folder_is_a_path_whole_from_there_on(address, tmp_path, monkeypatch):
    place = location(address)
    assert place == Path.cwd() / address
    monkeypatch.chdir(tmp_path)
    assert location(place) == place


@pytest.mark.parametrize("address", ["~/results", Path("~/results"), "~"])
def test_a_home_is_the_users(address, tmp_path, monkeypatch):
    """Shells leave it as it is in --results=~/results, and Python always."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert location(address) == tmp_path / str(address).removeprefix("~").removeprefix("/")


@pytest.mark.parametrize(
    ("address", "path"),
    [("file:///tmp/results", "/tmp/results"), ("file:///tmp/a%20b%23%3F", "/tmp/a b#?"), ("file://localhost/a", "/a")],
)
def test_a_file_address_is_a_path(address, path):
    assert location(address) == Path(path)


@pytest.mark.parametrize("address", ["file:///tmp/a#b", "file:///tmp/a?b", "file://host/a", "file://~/a"])
def test_a_file_address_of_another_path_than_it_seems_is_refused(address):
    with pytest.raises(LocationError, match="must be file:///path"):
        location(address)


@pytest.mark.parametrize("name", [*ODD, "\udcff"])  # the last stands for a byte that is no UTF-8
def test_results_are_read_back_wherever_they_are(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in (tmp_path / name, f"~/home {name}"):
        store = Store(place, create=True)
        store.write("trials", [ended("a")])
        assert store.trials()["trial_id"].to_pylist() == ["a"] and damaged(store) == []
        assert Store(place).identity() == store.identity() and store.results.is_relative_to(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {name, f"home {name}"}


def test_results_stay_where_they_are_when_the_current_folder_changes(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    stores = [Store(name, create=True) for name in ("one", "link/two")]
    monkeypatch.chdir("/")
    for store in stores:
        store.write("trials", [ended("a")])
        assert len(store.trials()) == 1
    assert (tmp_path / "elsewhere" / "two" / "trials").is_dir()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://bucket//a/b/", "s3://bucket/a/b"),
        ("gs://bucket", "gs://bucket"),
        (
            "s3://bucket/a?endpoint_override=localhost:9000&scheme=http",
            "s3://bucket/a?endpoint_override=localhost:9000&scheme=http",
        ),
    ],
)
def test_an_address_is_shown_as_it_can_be_given_again(address, shown):
    place = location(address)
    assert str(place) == shown and location(str(place)) == place and location(place) == place


def test_names_below_an_address_are_those_of_paths():
    place = location("s3://bucket/a?scheme=http")
    part = place / "steps" / "12ab.parquet"
    assert str(part) == "s3://bucket/a/steps/12ab.parquet?scheme=http"
    assert (part.name, part.stem, part.suffix, part.parent.parent) == ("12ab.parquet", "12ab", ".parquet", place)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("hdfs://host/a", "must be a folder, s3://bucket/prefix"),
        ("s3://", "must be s3://bucket/prefix"),
        ("s3:///a", "must be s3://bucket/prefix"),
        ("s3://bucket/a#b", "must be s3://bucket/prefix"),
    ],
)
def test_other_addresses_are_refused(address, told):
    with pytest.raises(LocationError, match=told):
        location(address)
    with pytest.raises(StoreError, match=told):
        Store(address)


@pytest.mark.parametrize(
    "address",
    ["s3://me:hush@bucket/a", "s3://bucket/a?access_key=me&secret_key=hush", "hdfs://me:hush@host/a"],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(address):
    with pytest.raises(LocationError) as refused:
        location(address)
    assert "hush" not in str(refused.value)
    found = memsweep_("status", "--results", address)
    assert found.returncode == 2 and "hush" not in found.stdout + found.stderr and "Traceback" not in found.stderr


def test_what_cannot_be_in_an_object_store_is_kept_in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one, other = (local_folder(location(f"s3://{bucket}/results")) for bucket in ("one", "other"))
    assert one != other and one.is_dir() and one.is_relative_to(tmp_path)
    assert local_folder(Path("results")) == Path("results").resolve()


def test_files_of_a_disk_are_on_disk(tmp_path):
    (tmp_path / "a.txt").write_text("four")
    with on_disk(tmp_path / "a.txt") as path:
        assert path == tmp_path / "a.txt"
    assert sizes(tmp_path, "*.txt") == {tmp_path / "a.txt": 4}


class Unsteady:
    """An act that fails so often."""

    def __init__(self, failures, error):
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


@pytest.fixture
def hurried(monkeypatch):
    """Time is as it is told, and sleeping is what makes it pass."""
    now = [0.0]
    monkeypatch.setattr(locations.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(locations.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def test_errors_that_pass_are_waited_for(hurried):
    act = Unsteady(6, OSError("AWS Error SLOW_DOWN during PutObject operation"))
    assert locations._patiently(act) == "done" and 10 < hurried[0] < 60


def test_errors_that_stay_are_raised_after_a_while(hurried):
    act = Unsteady(1000, OSError("AWS Error SLOW_DOWN during PutObject operation"))
    with pytest.raises(OSError, match="SLOW_DOWN"):
        locations._patiently(act)
    assert 0.5 * locations.PATIENCE_SECONDS < hurried[0] <= locations.PATIENCE_SECONDS


@pytest.mark.parametrize(
    "error", [FileNotFoundError("no such object"), PermissionError("no"), OSError("AWS Error ACCESS_DENIED during …")]
)
def test_errors_that_waiting_does_not_mend_are_raised_at_once(hurried, error):
    with pytest.raises(type(error)):
        locations._patiently(Unsteady(1, error))
    assert hurried[0] == 0


def test_object_paths_are_ordered_and_hashed_by_address():
    paths = [ObjectPath("s3", f"bucket/{name}") for name in ("b", "a", "b")]
    assert sorted(set(paths)) == [ObjectPath("s3", "bucket/a"), ObjectPath("s3", "bucket/b")]
