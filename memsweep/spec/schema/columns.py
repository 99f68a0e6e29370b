"""Columns that several tables share: keys, and the counts of a measurement."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from memsweep.spec.fields.field_spec import FieldSpec


def column(name: str, kind: pa.DataType, meaning: str) -> pa.Field:
    """Returns a column; `meaning` is stored in its metadata."""
    return pa.field(name, kind, metadata={"meaning": meaning})


def field_column(spec: FieldSpec) -> pa.Field:
    """Returns the column of a trial's field; lists are stored as text (`cell`)."""
    kind = {int: pa.int64(), float: pa.float64(), str: pa.string(), tuple: pa.string()}[spec.kind]
    return column(spec.column, kind, spec.meaning)


def target_columns(part: str) -> tuple[pa.Field, ...]:
    """Returns the columns of a data set that count the answers of sequence tasks.  part: train, validation or test."""
    return (
        column(
            f"{part}_target_correct_count", pa.int64(), "correct answers of sequence tasks; null: tasks with labels"
        ),
        column(f"{part}_target_count", pa.int64(), "answers that sequence tasks require"),
        column(
            f"{part}_squared_error_sum",
            pa.float64(),
            "squared error summed over the answers of tasks with numbers as targets",
        ),
    )


TRIAL = column("trial_id", pa.string(), "hash of the trial's configuration")
SETTING = column("setting_id", pa.string(), "hash of the configuration without seeds")
ATTEMPT = column("attempt_id", pa.string(), "one execution of a pack; readers keep one attempt per trial")
PACK = column("pack_id", pa.string(), "hash of the pack's program and trials")

COUNTS = [
    column("train_correct_count", pa.int64(), "training examples whose given label is predicted"),
    column("train_count", pa.int64(), "training examples"),
    column(
        "train_loss_sum_nats",
        pa.float64(),
        "cross-entropy summed over training examples; for numbers as targets, and for the objective squared, half the "
        "squared errors",
    ),
    column("validation_correct_count", pa.int64(), "validation examples whose label is predicted"),
    column("validation_count", pa.int64(), "validation examples"),
    column("validation_loss_sum_nats", pa.float64(), "cross-entropy summed over validation examples"),
    column("clean_correct_count", pa.int64(), "uncorrupted training examples whose label is predicted"),
    column("clean_count", pa.int64(), "uncorrupted training examples"),
    column("corrupted_correct_count", pa.int64(), "corrupted training examples whose given label is predicted"),
    column("corrupted_count", pa.int64(), "training examples whose label or inputs really changed"),
    column("memorized_count", pa.int64(), "training examples whose wrong label, as given, is predicted"),
    column("recovered_count", pa.int64(), "training examples with a wrong label whose true label is predicted"),
    column("label_changed_count", pa.int64(), "training examples whose given label is not the true label"),
    *target_columns("train"),
    *target_columns("validation"),
    column(
        "gradient_norm", pa.float64(), "L2 norm of the minibatch gradient of the last step, before clipping and decay"
    ),
    column("distance", pa.float64(), "L2, of weights from the first ones before model.perturbation; null: it is 0"),
]


def cell(value: Any) -> Any:
    """Returns a value as tables store it: a tuple becomes a line of CSV."""
    return ",".join(map(_quoted, value)) if isinstance(value, tuple) else value


def _quoted(item: Any) -> str:
    """Returns an item as CSV writes it: in quotation marks if it contains a comma, a quotation mark or a new line."""
    text = str(item)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text
