#!/usr/bin/env bash
# mlflow 3.17.2, SQLite: opening a database of an older schema to read it upgrades its schema in place, with no message at
# the level WARNING and no question; at INFO it says "Creating initial MLflow database tables...".
# MLflow has a check that refuses a database of an older schema and names `mlflow db upgrade`, to be run after a backup;
# that check comes second. First MLflow looks whether all of its tables exist, and where one is missing, as in every
# schema before its newest one, it runs all migrations.
# So a reader with a new MLflow changes a database that a server with an older MLflow still uses. (How that server goes
# on was not tried.)
#
# Output seen:
#   before: 6f8d9c3b2a1e
#   read: ['Default'], warnings: none
#   after: dc11669786a5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mlflow==3.17.2
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import logging
import warnings

import sqlalchemy
from alembic import command
from mlflow import MlflowClient
from mlflow.store.db import utils
from mlflow.store.tracking.dbmodels import initial_models

warnings.simplefilter("ignore")
URI, OLDER, NEWEST = "sqlite:///older.db", "6f8d9c3b2a1e", "dc11669786a5"


def revision():
    with sqlalchemy.create_engine(URI).connect() as connection:
        return connection.execute(sqlalchemy.text("select version_num from alembic_version")).scalar()


messages = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: messages.append(record.getMessage())

# as a release of this schema makes it: the first tables, then the migrations until this one
initial_models.Base.metadata.create_all(sqlalchemy.create_engine(URI))
command.upgrade(utils._get_alembic_config(URI), OLDER)
before = revision()
for name in ("", "mlflow", "alembic"):
    logging.getLogger(name).addHandler(handler)
names = [experiment.name for experiment in MlflowClient(URI).search_experiments()]
print("before:", before)
print(f"read: {names}, warnings: {'; '.join(messages) or 'none'}")
print("after:", revision())
raise SystemExit((before, revision(), messages) != (OLDER, NEWEST, []))
PY
