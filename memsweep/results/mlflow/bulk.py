"""Inserts whole runs into MLflow's database, many in a transaction, through MLflow's own table definitions.

MLflow's client takes four transactions for a run, and a Python object for each point. This file inserts the same rows,
and only into the databases of `DRIVERS` with the schemas of `REVISIONS`: tests compare all tables, row by row, with
those that the client fills from the same trials. `run_writer.py` leaves everything else to the client. A transaction
holds whole runs, so a process that is killed leaves no part of a run.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain, groupby
from typing import Any

import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels import models
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking.fluent import get_active_model_id
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    MAX_PARAM_VAL_LENGTH,
    MAX_TAG_VAL_LENGTH,
    path_not_unique,
    validate_param_and_metric_name,
)

from memsweep.results.mlflow.background import shown
from memsweep.results.mlflow.projection import Curve, TrialRun
from memsweep.results.mlflow.run_writer import UnfitError

REVISIONS = ("dc11669786a5",)
"""Schemas whose tables were compared: `tests/test_tracking_bulk.py`, and `tests/cluster/` for PostgreSQL."""
DRIVERS = ("sqlite+pysqlite", "postgresql+psycopg")

RUNS, TAGS, PARAMS, METRICS, LATEST = TABLES = tuple(
    getattr(models, name).__table__ for name in ("SqlRun", "SqlTag", "SqlParam", "SqlMetric", "SqlLatestMetric")
)
EXPERIMENTS = models.SqlExperiment.__table__
AS_CREATED = {
    "source_type": "UNKNOWN",
    "source_name": "",
    "entry_point_name": "",
    "user_id": "unknown",
    "deleted_time": None,
    "source_version": "",
    "lifecycle_stage": "active",
}
"""Column of `runs` -> value that MLflow's client stores in every run."""
SQLITE = (
    "PRAGMA busy_timeout = 20000",
    "PRAGMA cache_size = -65536",
    "PRAGMA foreign_keys = OFF",
    "BEGIN IMMEDIATE",
)
"""Begin a transaction that waits 20 s for other writers, as MLflow does, keeps 64 MiB of changed pages in memory, and
checks no foreign keys: rows refer to runs of the same transaction, and no other process can write."""
VALUES_A_STATEMENT = 900
"""Most values of a statement; a row costs a third less than in a statement of its own. SQLite before 3.32 takes 999."""
UNFIT = (
    sqlalchemy.exc.IntegrityError,
    sqlalchemy.exc.ProgrammingError,
    sqlalchemy.exc.DataError,
    ValueError,
    OverflowError,
)
"""Errors of a statement, not of the connection or a lock."""

Rows = tuple[sqlalchemy.Table, dict[str, list[Any]]]
"""A table, and the values of rows by the name of their column."""


class Database:
    """MLflow's database behind a client.

    Raises UnfitError if the client has another store, or if this file was not compared with the database's tables.
    """

    def __init__(self, client: MlflowClient):
        store = client._tracking_client.store
        if type(store) is not SqlAlchemyStore:  # a server, a plugin, or a database with workspaces
            raise UnfitError("only a database is filled faster")
        self.engine = store.engine
        dialect = self.engine.dialect
        if f"{dialect.name}+{dialect.driver}" not in DRIVERS:
            raise UnfitError(f"of databases, only {' and '.join(DRIVERS)} are filled faster")
        if get_active_model_id() is not None:
            raise UnfitError("MLFLOW_ACTIVE_MODEL_ID names a model that gets their metrics too")
        with self.engine.connect() as connection:
            _check_revision(connection)
            inspector = sqlalchemy.inspect(connection)
            for table in TABLES:
                stored = {column["name"] for column in inspector.get_columns(table.name)}
                if others := stored ^ set(table.columns.keys()):
                    raise UnfitError(f"table {table.name} differs from MLflow's in {', '.join(sorted(others))}")

    def is_fit(self, run: TrialRun) -> bool:
        """Returns whether MLflow's client stores every name and value of this run as it is."""
        names = {*run.tags, *run.parameters, *run.curves}
        return (
            run.tags.get("mlflow.runName") == run.name  # else the client adds this tag
            and "mlflow.user" not in run.tags
            and all(map(_is_kept, names))
            and all(len(value) <= MAX_TAG_VAL_LENGTH for value in run.tags.values())
            and all(len(value) <= MAX_PARAM_VAL_LENGTH for value in run.parameters.values())
            and math.isfinite(sum(sum(curve.values) for curve in run.curves.values()))
        )

    def insert(self, experiment_id: str, runs: Sequence[TrialRun]) -> list[str]:
        """Writes these runs in one transaction and returns their ids, in order.

        Raises UnfitError; MlflowException if the experiment was deleted; SQLAlchemyError if the database is unreachable
        or locked.
        """
        by_id = {_run_id(): run for run in runs}
        tables = _rows(by_id)  # before the transaction, which other processes wait for
        try:
            with self.engine.begin() as connection:
                for statement in SQLITE if self.engine.dialect.name == "sqlite" else ():
                    connection.exec_driver_sql(statement)
                _check_revision(connection)
                experiment = _experiment(connection, experiment_id)
                for table, columns in (_run_rows(by_id, experiment), *tables):
                    _insert(connection, table, columns)
        except UNFIT as error:
            raise UnfitError(f"the database refused several at once ({shown(error)})") from error
        return list(by_id)


@lru_cache(maxsize=10_000)
def _is_kept(name: str) -> bool:
    """Returns whether MLflow takes this name of a tag, parameter or metric."""
    is_name = validate_param_and_metric_name(name) and not path_not_unique(name)
    return bool(is_name) and len(name) <= MAX_ENTITY_KEY_LENGTH


def _run_id() -> str:
    """Returns a new id of MLflow's form. It begins with the time: rows in order of ids are inserted faster."""
    return f"{time.time_ns():016x}{secrets.token_hex(8)}"


def _check_revision(connection: sqlalchemy.Connection) -> None:
    """Raises UnfitError unless the database has a schema whose tables were compared."""
    revisions = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
    if len(revisions) != 1 or revisions[0] not in REVISIONS:
        names = " or ".join(REVISIONS)
        raise UnfitError(f"only the schema {names} is filled faster, not {', '.join(revisions) or 'a schema unnamed'}")


def _experiment(connection: sqlalchemy.Connection, experiment_id: str) -> Any:
    """Returns the row of an experiment.  Raises MlflowException if it was deleted."""
    row = connection.execute(EXPERIMENTS.select().where(EXPERIMENTS.c.experiment_id == int(experiment_id))).first()
    if row is None or row.lifecycle_stage != "active":
        raise MlflowException(f"experiment {experiment_id} was deleted")
    return row


def _run_rows(runs: Mapping[str, TrialRun], experiment: Any) -> Rows:
    """Returns the rows of `runs`.  runs: by id.  experiment: its row."""
    location = experiment.artifact_location
    rows = [
        {
            **AS_CREATED,
            "run_uuid": id_,
            "name": run.name,
            "status": run.status,
            "start_time": run.started,
            "end_time": run.ended,
            "artifact_uri": append_to_uri_path(location, id_, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME),
            "experiment_id": experiment.experiment_id,
        }
        for id_, run in runs.items()
    ]
    return RUNS, {name: [row[name] for row in rows] for name in rows[0]}


def _rows(runs: Mapping[str, TrialRun]) -> list[Rows]:
    """Returns the rows of what belongs to these runs.  runs: by id."""
    curves = [(id_, key, curve) for id_, run in runs.items() for key, curve in sorted(run.curves.items())]
    return [
        (TAGS, _texts({id_: run.tags for id_, run in runs.items()})),
        (PARAMS, _texts({id_: run.parameters for id_, run in runs.items()})),
        (METRICS, _numbers(curves)),
        (LATEST, _numbers([(id_, key, last_point(curve)) for id_, key, curve in curves])),
    ]


def _texts(texts: Mapping[str, Mapping[str, str]]) -> dict[str, list[Any]]:
    """Returns the columns of tags or parameters.  texts: run id -> name -> text."""
    return {
        "run_uuid": [id_ for id_, of_run in texts.items() for _ in of_run],
        "key": list(chain.from_iterable(texts.values())),
        "value": list(chain.from_iterable(of_run.values() for of_run in texts.values())),
    }


def _numbers(curves: Sequence[tuple[str, str, Curve]]) -> dict[str, list[Any]]:
    """Returns the columns of metrics.  curves: of a run id and a key, sorted: rows in order are inserted faster."""
    columns = {
        "run_uuid": list(chain.from_iterable([id_] * len(curve.values) for id_, _, curve in curves)),
        "key": list(chain.from_iterable([key] * len(curve.values) for _, key, curve in curves)),
        "value": list(chain.from_iterable(curve.values for *_, curve in curves)),
        "timestamp": list(chain.from_iterable(curve.milliseconds for *_, curve in curves)),
        "step": list(chain.from_iterable(curve.steps for *_, curve in curves)),
    }
    return columns | {"is_nan": [0] * len(columns["key"])}  # 0 for False, which Python's sqlite3 binds slowly


def last_point(curve: Curve) -> Curve:
    """Returns the last point of a curve: by step, then time, then value, as MLflow decides."""
    step, milliseconds, value = max(zip(curve.steps, curve.milliseconds, curve.values, strict=True))
    return Curve([value], [milliseconds], [step])


def _insert(connection: sqlalchemy.Connection, table: sqlalchemy.Table, columns: Mapping[str, list[Any]]) -> None:
    """Inserts rows.  columns: name -> values."""
    count = len(columns["run_uuid"])
    if connection.dialect.name == "postgresql":
        _copy(connection, table, columns)
    elif count:
        insert = table.insert().prefix_with("OR ROLLBACK")  # else SQLite keeps a journal to undo each statement
        statement = insert.compile(dialect=connection.dialect, column_keys=list(columns))
        names = statement.positiontup
        values: list[Any] = [None] * (count * len(names))
        for i, name in enumerate(names):
            values[i :: len(names)] = columns[name]
        head, _, row = str(statement).partition(" VALUES ")
        most = VALUES_A_STATEMENT // len(names) * len(names)
        pieces = [tuple(values[begin : begin + most]) for begin in range(0, len(values), most)]
        for size, equal in groupby(pieces, len):
            several = ", ".join([row] * (size // len(names)))
            connection.exec_driver_sql(f"{head} VALUES {several}", list(equal))


def _copy(connection: sqlalchemy.Connection, table: sqlalchemy.Table, columns: Mapping[str, list[Any]]) -> None:
    """Inserts rows by COPY, for a ninth of the processor time of SQLAlchemy's insert; raises its errors."""
    quote, driver = connection.dialect.identifier_preparer.quote, connection.dialect.loaded_dbapi
    statement = f"COPY {quote(table.name)} ({', '.join(map(quote, columns))}) FROM STDIN"
    try:
        with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in zip(*columns.values(), strict=True):
                copy.write_row(row)
    except driver.Error as error:
        raise sqlalchemy.exc.DBAPIError.instance(statement, None, error, driver.Error) from error
