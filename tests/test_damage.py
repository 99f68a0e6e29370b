"""A damaged part is named and kept; what can't be read is not called damaged."""

import errno

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memsweep.check.inspection import damaged
from memsweep.results.storage import parts
from memsweep.results.storage.store import Store, StoreError
from tests.cases import ended
from tests.test_store import files


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


# Damaged parts.


DAMAGE = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "cut off at the end": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
    "another file": lambda content: b"trial_id,status\nt,finished\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_part_is_named_and_nothing_is_deleted(store, damage):
    store.write("trials", [ended("u")])
    path = store.write("trials", [ended("t")])
    path.write_bytes(damage(path.read_bytes()))
    before = files(store)
    with pytest.raises(StoreError) as caught:
        store.trials()
    message = str(caught.value)
    assert str(path) in message and "Move it out of the folder" in message and "\n" not in message
    assert files(store) == before
    assert [found for found, _ in damaged(store)] == [path]
    path.rename(store.results / path.name)  # as the message says
    assert store.trials(["trial_id"])["trial_id"].to_pylist() == ["u"]
    assert damaged(store) == []


def test_any_flipped_bit_is_found(store):
    path = store.write("trials", [ended("t"), ended("u")])
    content = path.read_bytes()
    for position in range(0, len(content), 61):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x80]) + content[position + 1 :])
        assert [found for found, _ in damaged(store)] == [path], position
        try:
            store.trials()
        except StoreError as error:
            assert str(path) in str(error)


def test_a_text_that_is_none_is_told_with_its_part(store):
    """A bit may flip within a text; Arrow takes whatever Parquet holds."""
    path = store.write("trials", [ended("t", cause="x")])
    rows = pq.read_table(path)
    broken = pa.array([b"\x80"], pa.binary()).view(pa.string())
    pq.write_table(rows.set_column(rows.schema.get_field_index("cause"), "cause", broken), path)
    with pytest.raises(StoreError, match="not a complete Parquet part"):
        store.trials()


def test_a_part_whose_content_was_replaced_is_found(store):
    path = store.write("trials", [ended("t")])
    other = store.write("trials", [ended("u")])
    path.write_bytes(other.read_bytes())
    assert [found for found, _ in damaged(store)] == [path]


def test_whole_parts_are_not_damaged(store):
    store.write("trials", [ended()])
    store.write("wanted", [{"sweep": "s", "trial_id": "t"}])
    assert damaged(store) == []


# Parts that can't be read.


def reading(store):
    """What readers say of the only part, and what doctor says."""
    with pytest.raises(StoreError) as said:
        store.trials()
    ((_, found),) = damaged(store)
    return str(said.value), found


def test_bytes_that_are_no_part_are_damage(store):
    path = store.write("trials", [ended()])
    content = path.read_bytes()
    for wrong in (b"", content[:-9], content[: len(content) // 2] + bytes(40) + content[len(content) // 2 + 40 :]):
        path.write_bytes(wrong)
        for said in reading(store):
            assert "is not a complete Parquet part" in said and "Move it out" in said


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "Input/output error")]
)
def test_what_can_not_be_read_is_not_called_damaged(store, monkeypatch, error):
    """The bytes may be whole: nobody is to move them out."""
    store.write("trials", [ended()])

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(parts.pa, "OSFile", refuse)
    for said in reading(store):
        assert f"can't be read ({error.strerror})" in said and "Do not move it" in said and "Move it" not in said


def test_a_disk_that_fails_midway_is_not_called_damage(store, monkeypatch):
    store.write("trials", [ended()])

    class Failing:
        def __init__(self, path):
            self.file = open(path, "rb")  # noqa: SIM115
            self.closed = False

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

        def close(self):
            self.file.close()

        def read(self, *_):
            raise OSError(errno.EIO, "Input/output error")

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(parts.pa, "OSFile", lambda path: pa.PythonFile(Failing(path), "r"))
    for said in reading(store):
        assert "can't be read (" in said and "Do not move it" in said


def test_a_link_to_a_part_that_is_gone_is_not_taken_for_merged(store, tmp_path):
    path = store.write("trials", [ended("a")])
    store.write("trials", [ended("b")])
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert len(store.trials()) == 2
    (tmp_path / "elsewhere").unlink()
    said, found = reading(store)
    assert "a link to a missing file" in said and "a link to a missing file" in found


def test_a_part_that_is_merged_meanwhile_is_not_damaged(store, monkeypatch):
    gone = store.write("trials", [ended("a")])
    monkeypatch.setattr(store, "parts", lambda table: [gone] if table == "trials" else [])
    gone.unlink()
    assert damaged(store) == []
