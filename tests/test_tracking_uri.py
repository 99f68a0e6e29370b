"""Where MLflow may be: what can't be meant is refused before anything starts, whether or not somebody answers there."""

import pytest

import memsweep
from memsweep.results.mlflow.background import TrackingError, checked, tracking_uri
from memsweep.results.storage.location import location
from tests.commands import own_folder, refused, run, snapshot


@pytest.mark.parametrize(
    "uri",
    [
        *("http://localhost:5000", "https://host/mlflow", "sqlite:////tmp/x.db", "sqlite:///:memory:"),
        *("sqlite:////tmp/x.db?timeout=3", "postgresql://host/db", "postgresql+psycopg://me@host/db"),
        *("mysql+pymysql://host/db", "mssql+pyodbc://host/db", "databricks", "databricks://profile"),
    ],
)
def test_what_mlflow_knows_is_left_as_it_is(uri):
    assert checked(uri) == uri


def test_paths_of_databases_are_whole_from_there_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert checked("sqlite:///x.db") == f"sqlite:///{tmp_path}/x.db"
    assert checked("sqlite:///~/x.db") == "sqlite:////home/me/x.db"


def test_none_is_nowhere(monkeypatch):
    assert tracking_uri("none", location("results")) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "none")
    assert tracking_uri(None, location("results")) is None


WRONG = {
    "htp://host:5000": "Did you mean http://host:5000?",
    "htps://me:hush@host": "Did you mean https://host?",
    "postgres://host/db": "Did you mean postgresql://host/db?",
    "localhost:5000": "Did you mean http://localhost:5000?",
    "./mlruns": "sqlite:///./mlruns/mlflow.db?",
    "file:///tmp/mlruns": "sqlite:////tmp/mlruns/mlflow.db?",
    "http:/host": "is incomplete",
    "http://": "is incomplete",
    "http://:5000": "is incomplete",
    "sqlite://x.db": "is incomplete",
    "wandb://host": "allowed are http://",
}


@pytest.mark.parametrize("uri, hint", WRONG.items(), ids=list(WRONG))
def test_what_can_not_be_meant_is_refused_with_what_is_allowed(uri, hint):
    with pytest.raises(TrackingError) as said:
        checked(uri)
    assert hint in str(said.value) and "allowed are http://host:port" in str(said.value)
    assert "hush" not in str(said.value)


@pytest.mark.parametrize("verb", ["launch smoke", "track", "ui", "submit smoke --address http://127.0.0.1:9"])
@pytest.mark.parametrize("how", ["variable", "option"])
def test_a_typing_error_is_refused_at_the_door(verb, how, refused, monkeypatch, tmp_path):
    if verb in ("track", "ui"):
        (tmp_path / "results").mkdir()
    words = [*verb.split(), "--results", tmp_path / "results"]
    if how == "option":
        words += ["--tracking-uri", "htp://127.0.0.1:9"]
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://127.0.0.1:9")
    message = refused(*words)
    assert "Did you mean http://127.0.0.1:9?" in message and "allowed are" in message and "\n" not in message
    assert not [path for path in snapshot() if "trials" in path or "wanted" in path]


def test_from_python_too(tmp_path):
    with pytest.raises(TrackingError, match="Did you mean http"):
        memsweep.launch("smoke", tmp_path / "results", tracking_uri="htp://127.0.0.1:9")
    assert not list(tmp_path.rglob("*.parquet"))
