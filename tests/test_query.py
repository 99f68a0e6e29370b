"""SQL and pandas over the tables: one SELECT, nothing written, nothing else within its reach."""

import os
import subprocess
import sys
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memsweep
from memsweep.results import query
from memsweep.results.query import QueryError
from memsweep.results.storage.store import Store, StoreError
from memsweep.spec.schema import SCHEMAS
from tests.cases import NOON, ended, step

SECRET = "squeamish ossifrage"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("query") / "results", create=True)
    store.write("trials", [ended("t", seed=1, train_count=10), ended("u", "failed", seed=2), ended("v", "diverged")])
    store.write("trials", [ended("t", attempt_id="zombie", minute=5)])
    store.write("steps", [step("t", number=n, train_count=10, gradient_norm=0.5 * n) for n in (1, 2)])
    store.write("steps", [step("t", "zombie", number=3)])
    store.write("wanted", [{"sweep": "q", "trial_id": name, "position": i} for i, name in enumerate("tuv")])
    return store.results


@pytest.fixture
def rows(results):
    return lambda statement: [tuple(row.values()) for row in query.run(statement, results).to_pylist()]


# Tables.


def test_a_table_has_the_rows_of_one_sweep_alone(tmp_path):
    store = Store(tmp_path, create=True)
    for sweep, names, attempt in (("one", "ab", "x"), ("other", "bc", "y")):
        store.write("wanted", [{"sweep": sweep, "trial_id": name, "position": i} for i, name in enumerate(names)])
        store.write("trials", [ended(name, attempt_id=attempt) for name in names if name != "b" or sweep == "one"])
        store.write("packs", [{"attempt_id": attempt, "pack_id": attempt}])
    store.write("steps", [step("a", "x", 1), step("c", "y", 1)])
    assert sorted(query.table("trials", tmp_path)["trial_id"]) == ["a", "b", "c"]
    assert sorted(memsweep.table("trials", tmp_path, sweep="one")["trial_id"]) == ["a", "b"]
    assert sorted(query.table("trials", tmp_path, "other")["trial_id"]) == ["b", "c"]
    assert query.table("steps", tmp_path, "other")["trial_id"].tolist() == ["c"]
    assert query.table("wanted", tmp_path, "one")["trial_id"].tolist() == ["a", "b"]
    assert query.table("packs", tmp_path, "one")["attempt_id"].tolist() == ["x"]
    with pytest.raises(QueryError, match=r"no sweep .gone. in .*; there: one, other"):
        query.table("trials", tmp_path, "gone")


# What is answered.

ANSWERED = {
    "plain": ("select count(*) from trials", [(3,)]),
    "semicolon": ("select count(*) from trials ; ", [(3,)]),
    "comments": ("-- how many?\nselect /* all */ count(*) from trials -- of them", [(3,)]),
    "cte": ("with good as (select * from trials where status = 'finished') select trial_id from good", [("t",)]),
    "from first": ("from trials select trial_id where seed = 2", [("u",)]),
    "parentheses": ("(select 1) union all (select 2)", [(1,), (2,)]),
    "values": ("values (1, 'a')", [(1, "a")]),
    "upper case": ("SELECT COUNT(*) FROM TRIALS", [(3,)]),
    "quoted": ('select count(*) from "trials"', [(3,)]),
    "with a schema": ("select count(*) from main.trials", [(3,)]),
    "join": ("select step from steps join trials using (trial_id) where seed = 1 order by 1", [(1,), (2,)]),
    "natural join": ("select sweep from steps natural join (select sweep, trial_id from wanted) limit 1", [("q",)]),
    "left join": ("select count(step) from trials t left join steps s using (trial_id, attempt_id)", [(2,)]),
    "aliases": ("select s.step from trials as t, steps as s where t.trial_id = s.trial_id order by all", [(1,), (2,)]),
    "subquery": ("select (select count(*) from wanted), (select count(*) from packs)", [(3, 0)]),
    "own table of the same name": ("with trials as (select 7 as x) select x from trials", [(7,)]),
    "window": ("select row_number() over (order by trial_id desc) from trials order by trial_id", [(3,), (2,), (1,)]),
    "no table": ("select 1 + 1", [(2,)]),
    "no rows": ("select trial_id from trials where false", []),
    "an empty table": ("select * from examples", []),
    "a semicolon in a text": ("select 'a; drop table trials' as x", [("a; drop table trials",)]),
}


@pytest.mark.parametrize("statement, expected", ANSWERED.values(), ids=ANSWERED)
def test_a_select_is_answered(rows, statement, expected):
    assert rows(statement) == expected


def test_an_empty_answer_keeps_its_columns(results):
    found = query.run("select trial_id, seed from trials where false", results)
    assert found.schema.equals(pa.schema({"trial_id": pa.string(), "seed": pa.int64()}))


def test_only_the_kept_attempt_is_seen(rows):
    assert rows("select attempt_id, max(step), count(*) from steps group by 1") == [("a", 2, 2)]


@pytest.mark.parametrize("table", SCHEMAS)
def test_types_are_those_of_the_schema(results, table):
    found = query.run(f"select * from {table}", results).schema
    plain = [
        (name, str(kind).replace("Etc/UTC", "UTC").replace("<l: ", "<item: ").replace("<child: ", "<item: "))
        for name, kind in zip(found.names, found.types, strict=True)
    ]  # the two name a list's elements each in their way
    assert plain == [(column.name, str(column.type)) for column in SCHEMAS[table]]


def test_columns_of_equal_name_are_kept_apart(results):
    found = query.run("select trials.*, steps.* from trials join steps using (trial_id)", results)
    assert len(set(found.column_names)) == len(found.column_names)


# Pandas.


def test_pandas_gets_the_same_rows(results):
    frame = query.sql("select trial_id, seed from trials order by 1", results)
    assert frame.trial_id.tolist() == ["t", "u", "v"]
    assert query.table("trials", results).trial_id.tolist() == ["t", "u", "v"]
    assert query.table("trials", results).columns.tolist() == SCHEMAS["trials"].names
    assert len(query.table("packs", results)) == 0


def test_times_reach_pandas_in_utc(results):
    for frame in (query.table("trials", results), query.sql("select * from trials", results)):
        assert frame.finished_at[0] == pd.Timestamp(NOON)
        assert str(frame.finished_at.dt.tz) in ("UTC", "Etc/UTC")


def test_times_do_not_depend_on_the_machines_zone(results):
    code = (
        "import sys; from memsweep.results import query;"
        "print(*query.sql('select finished_at, extract(hour from finished_at) from trials', sys.argv[1]).iloc[0])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, results],
        env={**os.environ, "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == f"{datetime(2026, 1, 1, 12, tzinfo=UTC)} 12"


def test_the_package_offers_tables_and_sql(results, monkeypatch):
    assert len(memsweep.table("trials", results)) == 3
    assert memsweep.sql("select count(*) as n from trials", results).n.tolist() == [3]
    monkeypatch.setenv("MEMSWEEP_RESULTS", str(results))
    assert len(memsweep.table("wanted")) == 3


# What is refused, and why.


@pytest.mark.parametrize(
    "statement, word",
    [
        (
            "select * from tirals",
            "there is no table 'tirals'; the tables are trials, steps, " + ", ".join(list(SCHEMAS)[2:]),
        ),
        ("select * from tirals", "Did you mean 'trials'?"),
        ("select * from wantd w join trials t using (trial_id)", "Did you mean 'wanted'?"),
        ("select * from molecules", "there is no table 'molecules'"),
        ("select sead from trials", "there is no column 'sead'. Did you mean 'seed'?"),
        ("select model.width from trials", "there is no column 'model.width'. Did you mean 'model_width'?"),
        ("select t.model.width from trials t", "Did you mean 'model_width'?"),
        ('select "model.width" from trials', "Did you mean 'model_width'?"),
        ("select count(*) from trials where optimizer.learning_rate > 0", "Did you mean 'optimizer_learning_rate'?"),
        ("select lr from trials", "Did you mean 'optimizer_learning_rate'?"),
        ("select model_widht from trials", "Did you mean 'model_width'?"),
        ("select validation_accuracy from trials", "validation_correct_count * 1.0 / validation_count"),
        ("select model.width from steps", "'model_width' is a column of trials."),
        ("with a as (select model_width as breadth from trials) select bredth from a", "Did you mean 'breadth'?"),
        ("select warmup from trials", "there is no column 'warmup'; docs/tables.md lists all columns."),
        ("select x.seed from trials t", 'Referenced table "x" not found'),
        ("select * from trials where", "syntax error"),
        ("selec 1", "syntax error"),
        ("", "found 0 statements"),
        (" ; ", "found 0 statements"),
        ("-- nothing", "found 0 statements"),
        ("select 1; select 2", "found 2 statements"),
        ("select 'a'::int", "Could not convert"),
        ("delete from trials", "only SELECT"),
        ("CONNECT", "found CONNECT"),
    ],
)
def test_a_refusal_says_why(results, statement, word):
    with pytest.raises(QueryError) as caught:
        query.run(statement, results)
    assert word in str(caught.value)


def test_a_table_of_unknown_name_is_refused_in_pandas(results):
    with pytest.raises(QueryError, match="Did you mean 'steps'"):
        query.table("step", results)


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no results at"):
        query.run("select 1", tmp_path / "nowhere")


def test_a_damaged_part_is_told_only_to_who_needs_it(tmp_path):
    store = Store(tmp_path, create=True)
    store.write("wanted", [{"sweep": "q", "trial_id": "t"}])
    store.write("trials", [ended()]).write_bytes(b"")
    with pytest.raises(StoreError, match="not a complete Parquet part"):
        query.run("select * from trials", tmp_path)
    assert len(query.run("select * from wanted", tmp_path)) == 1


# Attacks: statements that would read, write or change something else.

READS = [
    "select * from read_csv('{file}')",
    "select * from read_csv_auto('{file}')",
    "select * from read_parquet('{part}')",
    "select * from parquet_scan('{part}')",
    "select * from parquet_metadata('{part}')",
    "select * from read_json('{file}')",
    "select content from read_text('{file}')",
    "select content from read_blob('{file}')",
    "select * from sniff_csv('{file}')",
    "select * from glob('{folder}/*')",
    "select * from '{file}'",
    "from '{part}'",
    'select * from "{file}"',
    "select * from trials, '{file}'",
    "with x as (select * from '{file}') select * from x",
    "select (select content from read_text('{file}'))",
    "select * from query('select * from ''{file}''')",
    "select * from query_table('{file}')",
    "select * from 'http://127.0.0.1:9/x.csv'",
    "select * from read_parquet('s3://bucket/x.parquet')",
    "select getenv('SECRET')",
    "select * from secret_frame",
    "select * from local_frame",
    "select * from secret_table",
    "select * from results",
    "select * from query_table('secret_frame')",
    "select * from duckdb_secrets()",
    "select * from sqlite_scan('{file}', 'x')",
]
WRITES = [
    "copy trials to '{new}'",
    "copy (select 1) to '{new}'",
    "copy trials from '{file}'",
    "attach '{new}'",
    "attach '{new}' as other",
    "export database '{new}'",
    "import database '{folder}'",
    "install httpfs",
    "load httpfs",
    "set threads = 1",
    "set enable_external_access = true",
    "reset enable_external_access",
    "pragma enable_external_access",
    "pragma database_list",
    "create table x as select 1",
    "create temp table x (y int)",
    "create view x as select 1",
    "create macro x() as 1",
    "create secret x (type s3)",
    "insert into trials select * from trials",
    "update trials set seed = 1",
    "delete from trials",
    "drop table trials",
    "alter table trials drop column seed",
    "truncate trials",
    "use memory",
    "begin",
    "checkpoint",
    "vacuum",
    "call pragma_version()",
    "prepare x as select 1",
    "execute x",
    "explain analyze select 1",
    "detach memory",
    "select 1; copy (select 1) to '{new}'",
    "select 1; set enable_external_access = true; select * from '{file}'",
    "select 1 /* ; */ ; attach '{new}'",
    "select * from query('copy (select 1) to ''{new}''')",
    "select * from query('select 1; select 2')",
    "with x as (insert into trials select * from trials returning *) select * from x",
    "with x as (copy trials to '{new}') select 1",
]

secret_frame = pd.DataFrame({"secret": [SECRET]})
secret_table = pa.table({"secret": [SECRET]})


def snapshot(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize("attack", READS + WRITES)
def test_a_statement_reaches_nothing_but_the_tables(results, attack, monkeypatch):
    local_frame, folder = secret_frame, results.parent
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SECRET", SECRET)
    (folder / "secret.csv").write_text(f"secret\n{SECRET}\n")
    part = next((results / "trials").glob("*.parquet"))
    before = snapshot(folder)
    statement = attack.format(file=folder / "secret.csv", part=part, folder=folder, new=folder / "new")
    with pytest.raises(QueryError) as caught:
        query.run(statement, results)
    assert SECRET in local_frame.secret[0] and SECRET not in str(caught.value)
    assert snapshot(folder) == before


def test_settings_stay_locked_for_functions_too(results):
    with pytest.raises(QueryError):
        query.run("select * from enable_logging()", results)
    assert query.run("select current_setting('enable_external_access') as x", results)["x"].to_pylist() == [False]


TEXT = """
    select from where with as trials steps packs nothing * , ( ) ; 1 'a' " ' -- /* */ join using (trial_id) count(*)
    group by order limit read_text('x') copy to seed status null union all exists cast values \ud800 \0 é
"""
WORDS = st.sampled_from(TEXT.split())


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_a_table_or_a_refusal(results, statement):
    try:
        assert isinstance(query.run(statement, results), pa.Table)
    except (QueryError, StoreError) as error:
        assert str(error)
