"""Reads the trials that a sweep wants, stored or not, as pandas frames, and selects rows of frames."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.types import is_float_dtype

from memsweep.results import query
from memsweep.results.storage.location import Location
from memsweep.results.storage.own_columns import columns_of, joined, stored_names
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store, StoreError
from memsweep.results.trial_state import MISSING as MISSING
from memsweep.results.trial_state import SETTLED as SETTLED
from memsweep.results.trial_state import UNPRUNED as UNPRUNED
from memsweep.results.trial_state import USABLE as USABLE
from memsweep.spec.config import FIELDS, RECORDED
from memsweep.spec.fields.own import is_own_column, own_field
from memsweep.spec.numerals import rounded, texts
from memsweep.spec.schema import Status, cell

TRIALS = """select w.trial_id, w.setting_id, w.seed, t.* exclude (trial_id, setting_id, seed)
from wanted w left join trials t using (trial_id) where w.sweep = '{sweep}' order by w.position"""
"""All trials that a sweep wants; trials that are not stored have no status."""

ROUNDS = TRIALS.replace("w.seed,", "w.seed, w.search, w.search_fields, w.round,")
"""As TRIALS, with the search that proposed each trial, and its round."""

STEPS = """select w.setting_id, w.seed, t.status, s.*
from wanted w join trials t using (trial_id) join steps s using (trial_id)
where w.sweep = '{sweep}' order by w.position, s.step"""
"""All measurements of a sweep's trials."""


def beside(table: str, order: str, probe: str = "", which: str = "") -> str:
    """Returns a query of a table with rows for each trial; `probe`: only of trials with this probe.

    which: a further condition on the rows, as SQL.
    """
    which += f" and list_contains(string_split(w.probes, ','), '{probe}')" if probe else ""
    return f"""select w.trial_id, w.setting_id, w.seed, t.status, t.step_count, t.solved_step,
t.parameter_count, t.class_count, b.* exclude (trial_id, attempt_id)
from wanted w left join trials t using (trial_id) left join {table} b using (trial_id)
where w.sweep = '{{sweep}}'{which} order by w.position, {order}"""


CURVES = beside("steps", "b.step")
"""All measurements of a sweep's trials; a trial without measurements is one row without step."""

POSITIONS = beside("positions", "b.position", "positions")
"""Recall by position, of trials with this probe; a trial that is not stored is one row without position."""

READOUTS = beside("readouts", "b.item, b.fitted_step, b.applied_step", "readouts")
"""Read-outs, of trials with this probe; a trial that is not stored is one row without item."""

JACOBIANS = beside("jacobians", "b.layer", "jacobians")
"""Jacobians, of trials with this probe; a trial that is not stored is one row without layer."""

METRICS = beside("metrics", "b.metric, b.name, b.part, b.step", which=" and w.metrics <> ''")
"""A user's metrics, of trials that have any; a trial that is not stored is one row without step."""

COLUMNS = {spec.column: name for name, spec in FIELDS.items()}
"""Column -> dotted field."""

_UNVARIED = ("seed", *RECORDED, "protocol", "data_content")  # the content follows the file's name
_FIELDS = tuple(column for column in COLUMNS if column != "seed")
_DEFAULTS = {column: cell(FIELDS[COLUMNS[column]].default) for column in _FIELDS}


def statement(template: str, sweep: str) -> str:
    """Returns a query template, such as TRIALS or STEPS, filled in for one sweep, as `memsweep query` takes it."""
    return template.format(sweep=sweep.replace("'", "''"))


def read(template: str, sweep: str, results: str | Location | Store) -> pd.DataFrame:
    """Returns a query template's rows for one sweep, such as TRIALS or STEPS, with a column for every field of a trial.

    Fields come from the columns of `trials`; for trials that are not stored, from `wanted.configuration`. Trials whose
    fields agree on 12 digits are duplicates: one of them is kept, a usable one if there is any.
    Raises StoreError where the configuration of a trial that is not stored can't be read.
    """
    store = (results if isinstance(results, Store) else Snapshot(results)).of_sweep(sweep)
    frame = query.sql(statement(template, sweep), store)
    fields = _fields_of(frame["trial_id"].unique(), sweep, store).reindex(frame["trial_id"]).set_axis(frame.index)
    replaced = [column for column in [*_FIELDS, *stored_names(map(str, frame)), "configuration"] if column in frame]
    return _once(frame.drop(columns=replaced).join(fields).assign(status=frame["status"].fillna(MISSING)))


def rounded_fields(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of the table `trials` with the numbers of their fields rounded to 12 digits, as `read` does."""
    names = [name for name in fields_of(trials) if is_float_dtype(trials[name])]
    return trials.assign(**{name: _rounded(trials[name]) for name in names})


def fields_of(rows: pd.DataFrame) -> list[str]:
    """Returns the columns of these rows that hold fields of trials, own hyperparameters last."""
    return [*(column for column in COLUMNS if column in rows), *stored_names(map(str, rows))]


def field_of(column: str) -> str:
    """Returns the dotted field of a column: own_temperature is that of own.temperature."""
    return own_field(column) if is_own_column(column) else COLUMNS[column]


def mapping(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns a row as the tables hold it, with None in place of NaN."""
    return {str(name): None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def usable(trials: pd.DataFrame) -> pd.Series[bool]:
    """Returns which rows belong to trials whose last measurement is a result."""
    return trials["status"].isin(USABLE)


def settled(trials: pd.DataFrame) -> pd.Series[bool]:
    """Returns which rows belong to trials with a final end; others failed, were interrupted, or are not stored."""
    return trials["status"].isin(SETTLED)


def varying(trials: pd.DataFrame) -> list[str]:
    """Returns columns of the fields that differ between these rows, without seeds, in the order of a trial's fields."""
    return [column for column in setting_fields(trials) if trials[column].nunique(dropna=False) > 1]


def setting_fields(trials: pd.DataFrame) -> list[str]:
    """Returns the columns of the fields that make a setting: all but seeds and what is recorded beside measurements."""
    return [column for column in fields_of(trials) if not column.startswith(_UNVARIED)]


def budget(trials: pd.DataFrame) -> pd.Series[float]:
    """Returns the most steps that each trial may take: stop.steps, or the steps of its epochs."""
    epochs = -(-trials["optimizer_epochs"] * trials["data_examples"] // trials["optimizer_batch_size"])
    return trials["stop_steps"].where(trials["stop_steps"] > 0, epochs).astype(float)


def share(part: pd.Series[Any], whole: pd.Series[Any]) -> pd.Series[float]:
    """Returns part / whole as numbers; NaN where the whole is 0 or either is absent."""
    whole = whole.astype(float)
    return part.astype(float) / whole.where(whole > 0)


def has_nats(rows: pd.DataFrame, part: str) -> pd.Series[bool]:
    """Returns which rows have a cross-entropy of classes as the loss of a part: train, validation or test.

    Other objectives have a loss of another unit, and sequences of tokens have several targets an example. Rows without
    a result count by their objective alone.
    """
    is_classified = rows[f"{part}_correct_count"].notna() | ~usable(rows)
    return is_classified & (rows["optimizer_objective"] == "cross_entropy")


def short(column: str) -> str:
    """Returns the readable name of a column: weight decay of `regularization_weight_decay`, optimizer of its name."""
    group, _, name = COLUMNS.get(column, column.removeprefix("own_")).rpartition(".")
    return group if group and name == "name" else name.replace("_", " ")


def label(values: Mapping[str, Any], among: pd.DataFrame | None = None) -> str:
    """Returns fields and their values as one text: `weight decay 0.001, width 32`.

    among: rows with these columns; numbers have enough digits to be distinguished from the other values in these rows.
    """
    columns = {} if among is None else {column: among[column].unique() for column in values}
    return ", ".join(f"{short(column)} {text(value, columns.get(column, ()))}" for column, value in values.items())


def labels(rows: pd.DataFrame, columns: Sequence[str]) -> pd.Series[str]:
    """Returns the label of each row, of these columns."""
    named = []
    for column in columns:
        values = rows[column].unique()
        written = dict(zip(values, texts(values), strict=True))
        named.append(short(column) + " " + rows[column].map(written))
    return pd.concat(named, axis=1).agg(", ".join, axis=1)


def text(value: Any, among: Iterable[Any] = ()) -> str:
    """Returns a field's value as readable text, with enough digits to distinguish it from the values of `among`."""
    return texts([value, *among])[0]


def ends(trials: pd.DataFrame) -> dict[str, int]:
    """Returns status -> number of trials, settled statuses first."""
    counts = trials["status"].value_counts()
    order = [*SETTLED, *(status for status in Status if status not in SETTLED), MISSING]
    return {status: int(counts[status]) for status in map(str, order) if status in counts}


def _fields_of(trial_ids: Iterable[str], sweep: str, store: Store) -> pd.DataFrame:
    """Returns trial_id -> fields; fields newer than a trial, which are null, have their defaults."""
    ids = pa.array(trial_ids, pa.string(), from_pandas=True)
    stored = store.trials()
    stored = stored.select(["trial_id", *_FIELDS, *stored_names(stored.column_names)])
    stored = stored.filter(pc.is_in(stored["trial_id"], value_set=ids))
    others = ids.filter(pc.invert(pc.is_in(ids, value_set=stored["trial_id"].combine_chunks())))
    wanted = store.current("wanted", ["trial_id", "sweep", "configuration"])
    is_other = pc.is_in(wanted["trial_id"], value_set=others)
    unstored = wanted.filter(pc.and_(pc.equal(wanted["sweep"], sweep), is_other))
    try:
        cells = [_cells(json.loads(text)) for text in unstored["configuration"].to_pylist()]
        plain = [stored.schema.field(name) for name in _FIELDS]
        configured = pa.Table.from_pylist(cells, schema=pa.schema([*plain, *columns_of(cells)]))
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise StoreError(f"table wanted: a configuration of sweep {sweep!r} can't be read ({error}).") from error
    fields = joined([stored, configured.add_column(0, stored.schema.field(0), unstored["trial_id"])])
    columns = {
        name: fields[name] if default is None else pc.fill_null(fields[name], default)
        for name, default in _DEFAULTS.items()
    }
    columns |= {name: fields[name] for name in stored_names(fields.column_names)}
    return rounded_fields(pa.table(columns).to_pandas().set_axis(fields["trial_id"].to_pandas()))


def having(rows: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the rows with these values in these columns; numbers that agree on 12 digits are equal."""
    chosen = np.ones(len(rows), bool)
    for column, value in values.items():
        is_number = isinstance(value, float) and is_float_dtype(rows[column])
        equal = _rounded(rows[column]) == rounded(value) if is_number else rows[column] == value
        chosen &= equal.fillna(False).to_numpy(bool)
    return rows[chosen]


def of_quantity(quantity: str, **values: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Returns a function that selects the rows of one quantity and of these values, without empty columns."""

    def rows(summary: pd.DataFrame) -> pd.DataFrame:
        chosen = having(summary, {"quantity": quantity, **values}).dropna(axis=1, how="all")
        return chosen.drop(columns=["quantity", "x", "values", "fixed"], errors="ignore")

    return rows


def _rounded(values: pd.Series[float]) -> pd.Series[float]:
    """Returns the numbers rounded to 12 digits; rounds each distinct number once, which is fast for many trials."""
    distinct = values.unique()
    return values.map(dict(zip(distinct, map(rounded, distinct), strict=True)))


def _cells(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a configuration as columns of `trials` hold them."""
    values = {FIELDS[name]: value for name, value in configuration.items() if name in FIELDS}
    return {spec.column: cell(spec.coerced(value)) for spec, value in values.items()}


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of one trial for each seed and setting whose fields are equal."""
    trials = rows.drop_duplicates("trial_id")
    fields = [name for name in fields_of(rows) if name not in RECORDED]
    again = trials.sort_values("status", key=lambda status: ~status.isin(USABLE), kind="stable")
    again = again[again.duplicated(fields)]
    return rows[~rows["trial_id"].isin(again["trial_id"])] if len(again) else rows
