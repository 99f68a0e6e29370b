"""A query reads the columns that it needs, and its answer is that of whole tables."""

import pytest

from memsweep.results import query
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store
from tests.cases import ended, step
from tests.test_query import ANSWERED

IMPLICIT = (
    "select * from trials order by trial_id",
    "select * exclude (status) from trials order by trial_id",
    "select * replace (seed + 1 as seed) from trials order by trial_id",
    "from trials order by trial_id",
    "table trials",
    "select t from trials t order by t.trial_id",
    "select columns('own_.*') from trials",
    "select trial_id, columns(c -> c like '%count') from trials",
    "select own_x from trials order by own_x",
    "select count(*) from trials natural join packs",
    "select count(*) from (select distinct * from wanted)",
    "select count(*) from (select distinct * exclude (trial_id) from trials)",
    "pivot trials on status using count(*)",
    "pivot trials on status using sum(step_count) group by seed order by seed",
    "unpivot (select trial_id, step_count, seed from trials) on step_count, seed into name n value v order by all",
    "summarize trials",
    "describe trials",
    "select trial_id from trials where false and step_count > 1",
    "select count(*) from trials t semi join wanted w on t.trial_id = w.trial_id",
    "select (select max(position) from wanted w where w.trial_id = t.trial_id) as p from trials t order by p",
    "with a as (select * from trials) select status from a order by status",
    'select "Trial_ID", STATUS from trials order by 1',
    "select struct_pack(a := seed, b := status) as s from trials order by trial_id",
)
WIDE = 100
"""More columns than a query of a few columns needs."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("needed") / "results", create=True)
    store.write("trials", [ended("t", seed=1, own_x=0.5), ended("u", "failed", seed=2, own_x=2.0)])
    store.write("trials", [ended("v", "diverged", seed=2, step_count=7)])
    store.write("packs", [{"attempt_id": "a", "pack_id": "p"}])
    store.write("steps", [step("t", number=n) for n in (1, 2)])
    store.write("wanted", [{"sweep": "q", "trial_id": name, "position": i} for i, name in enumerate("tuv")])
    return store


def answer(statement, store):
    try:
        return query.run(statement, store)
    except query.QueryError as error:
        return str(error)


@pytest.mark.parametrize("statement", [*IMPLICIT, *(statement for statement, _ in ANSWERED.values())])
def test_the_answer_is_that_of_whole_tables(statement, store):
    mine, whole = answer(statement, store), answer(statement, Snapshot(store.results))
    assert mine.equals(whole) if hasattr(mine, "equals") else mine == whole


@pytest.mark.parametrize(
    "statement, names",
    {
        "select trial_id, status, step_count from trials": {"trial_id", "status", "step_count"},
        "select count(*) from trials": {"trial_id"},
        "select status, avg(seed) from trials where step_count > 3 group by all": {"seed", "status", "step_count"},
        "with a as (select * from trials) select status from a": {"status"},
    }.items(),
)
def test_only_these_columns_are_read(statement, names, store, monkeypatch):
    seen, current = {}, Store.current

    def noted(self, table, columns=None):
        seen.setdefault(table, columns)
        return current(self, table, columns)

    monkeypatch.setattr(Store, "current", noted)
    query.run(statement, store)
    assert set(seen["trials"]) == names | {"trial_id"} and len(store.schema("trials")) > WIDE
