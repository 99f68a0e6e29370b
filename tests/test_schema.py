"""The list of columns is complete: every one has a meaning, every field of a trial has one."""

import pyarrow as pa
import pytest

from memsweep.results.trial_state import RETRIED, SETTLED
from memsweep.spec.config import FIELDS
from memsweep.spec.schema import SCHEMAS, Status, cell

COLUMNS = [(table, column) for table, schema in SCHEMAS.items() for column in schema]


def test_every_column_says_what_it_means():
    silent = [(table, column.name) for table, column in COLUMNS if not (column.metadata or {}).get(b"meaning")]
    assert silent == []


def test_columns_are_plain():
    """No lists and no binary, so that every tool reads them, but for what networks are compared by."""
    kinds = {pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us", tz="UTC")}
    assert {(table, column.name) for table, column in COLUMNS if column.type not in kinds} == {
        ("representations", "numbers")
    }


def test_columns_of_a_table_are_told_apart_by_name_whatever_the_case():
    for schema in SCHEMAS.values():
        assert len({name.lower() for name in schema.names}) == len(schema.names)


def test_names_carry_their_unit():
    for table, column in COLUMNS:
        if "seconds" in column.name or "loss" in column.name:
            assert column.type == pa.float64(), (table, column.name)
            assert column.name.endswith(("_seconds", "_nats")), (table, column.name)
        if column.name.endswith(("_count", "_bytes")):
            assert column.type == pa.int64(), (table, column.name)


def test_no_column_is_a_ratio():
    assert [name for _, column in COLUMNS if (name := column.name).endswith(("accuracy", "_rate", "_share"))] == [
        "optimizer_learning_rate"
    ]


@pytest.mark.parametrize("spec", FIELDS.values(), ids=FIELDS)
def test_every_field_of_a_trial_has_its_column(spec):
    column = SCHEMAS["trials"].field(spec.name.replace(".", "_"))
    assert column.type == {int: pa.int64(), float: pa.float64()}.get(spec.kind, pa.string())
    assert column.metadata[b"meaning"].decode() == spec.meaning


def test_tables_that_belong_to_a_trial_are_joined_on_trial_and_attempt():
    for name in ("trials", "steps", "examples"):
        assert {"trial_id", "attempt_id"} <= set(SCHEMAS[name].names)


def test_statuses_are_a_closed_list_with_advice():
    expected = ["finished", "pruned", "diverged", "out_of_memory", "failed", "quarantined", "interrupted"]
    assert [status.value for status in Status] == expected
    assert all(status.advice.endswith(".") for status in Status)


def test_a_status_is_settled_or_retried_or_run_again():
    assert not set(SETTLED) & set(RETRIED)
    assert set(Status) - set(SETTLED) - set(RETRIED) == {Status.INTERRUPTED}


@pytest.mark.parametrize("value, shown", [((0.9, 0.5), "0.9,0.5"), ((), ""), (("a", "b"), "a,b"), (3, 3), ("x", "x")])
def test_cells_hold_tuples_as_text(value, shown):
    assert cell(value) == shown
