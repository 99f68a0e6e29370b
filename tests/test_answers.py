"""Values of a SQL answer, one kind after another, in pandas and in every format that the command line prints."""

import datetime
import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import memsweep
from memsweep.cli.printing import Format, print_table
from memsweep.results import query
from memsweep.results.query import QueryError
from memsweep.results.storage.store import Store
from tests.cases import ended

DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("answers") / "results", create=True)
    store.write("trials", [ended(name, seed=seed, step_count=30) for seed, name in enumerate("tuv")])
    return store.results


@pytest.fixture
def printed(results, capfdbinary):
    """What a format prints of one value."""

    def call(value, output):
        print_table(query.run(f"select {value} as x", results), output)
        return capfdbinary.readouterr().out

    return call


def one(value, results):
    return memsweep.sql(f"select {value} as x", results).x


# Pandas.

NUMBERS = {
    "sum of whole numbers": ("(select sum(step_count) from trials)", 90, "int64"),
    "as large as fits": ("9223372036854775807::hugeint", 2**63 - 1, "int64"),
    "beyond": ("9223372036854775808::hugeint", 2.0**63, "float64"),
    "unsigned": ("1::uhugeint", 1, "int64"),
    "unsigned of 64 bits": ("18446744073709551615::ubigint", 2**64 - 1, "uint64"),
    "a number with a fraction": ("0.1", 0.1, "float64"),
    "a whole number with places": ("2::decimal(10, 3)", 2.0, "float64"),
    "a sum of such": ("(select sum(seed * 0.5) from trials)", 1.5, "float64"),
    "a negative one": ("-12345678901234567.25", -12345678901234567.25, "float64"),
    "an average": ("(select avg(step_count) from trials)", 30.0, "float64"),
    "a count": ("(select count(*) from trials)", 3, "int64"),
    "a truth": ("true", True, "bool"),
    "no decimal": ("null::decimal(38, 0)", None, "float64"),
    "a span": ("interval 36 hour", 1.5 * DAY, "timedelta64[us]"),
}


@pytest.mark.parametrize("value, expected, kind", NUMBERS.values(), ids=NUMBERS)
def test_a_number_is_a_number_in_pandas(results, value, expected, kind):
    column = one(value, results)
    assert column.dtype == kind
    assert column.isna()[0] if expected is None else column[0] == expected


def test_sums_are_computed_with(results):
    frame = memsweep.sql("select seed, sum(step_count) as steps from trials group by 1 order by 1", results)
    assert frame.steps.dtype == "int64" and (frame.steps * 0.5).tolist() == [15.0, 15.0, 15.0]
    assert np.log(frame.steps).tolist() == pytest.approx([np.log(30)] * 3)
    assert frame.describe().loc["mean", "steps"] == 30


def test_a_sum_of_nothing_stays_a_hole(results):
    statement = "select seed, sum(step_count) filter (seed > 0) as steps from trials group by 1 order by 1"
    frame = memsweep.sql(statement, results)
    assert frame.steps.dtype == "float64" and frame.steps.isna().tolist() == [True, False, False]
    assert frame.steps.sum() == 60
    assert query.run(statement, results)["steps"].to_pylist() == [None, 30, 30]


def test_the_type_does_not_hang_on_the_rows(results):
    statement = "select sum(step_count) as steps, 1.5 as x, interval 1 day as span from trials where seed > {}"
    none = query.run(statement.format(9) + " group by seed", results)
    assert none.schema.types == query.run(statement.format(0), results).schema.types
    assert none.schema.types == [pa.int64(), pa.float64(), pa.duration("us")]


def test_spans_between_rows_are_computed_with(results):
    spans = memsweep.sql("select finished_at - min(finished_at) over () as x from trials", results).x
    assert spans.dt.total_seconds().tolist() == [0.0, 0.0, 0.0]


# Each format, with each kind.

S, TIME = "(select sum(step_count) from trials)", "timestamptz '2026-01-01 12:00:00+00'"
KINDS = {  # value: as JSON, as CSV
    S: (90, "90"),
    "2.5": (2.5, "2.5"),
    "true": (True, "true"),
    "null": (None, ""),
    "'nan'::double": (None, "nan"),
    "'inf'::float": (None, "inf"),
    "18446744073709551615::ubigint": (2**64 - 1, "18446744073709551615"),
    f"[{S}, null]": ([90, None], '"[90, null]"'),
    "[1, 2]::int[2]": ([1, 2], '"[1, 2]"'),
    "['nan'::double, 1]": ([None, 1.0], '"[null, 1.0]"'),
    f"{{'a': {S}, 'b': [0.5]}}": ({"a": 90, "b": [0.5]}, '"{""a"": 90, ""b"": [0.5]}"'),
    f"map(['a'], [{S}])": ([["a", 90]], '"[[""a"", 90]]"'),
    "[true, false]": ([True, False], '"[true, false]"'),
    "'a'::enum('a', 'b')": ("a", '"a"'),
    "['a'::enum('a', 'b')]": (["a"], '"[""a""]"'),
    "'00000000-0000-0000-0000-000000000001'::uuid": ("00000000-0000-0000-0000-000000000001",) * 2,
    "date '2026-01-01'": ("2026-01-01", "2026-01-01"),
    "[date '2026-01-01']": (["2026-01-01"], '"[""2026-01-01""]"'),
    "time '12:00:01.5'": ("12:00:01.500000", "12:00:01.500000"),
    TIME: ("2026-01-01 12:00:00+00:00", "2026-01-01 12:00:00.000000Z"),
    "interval 36 hour": ("1 day, 12:00:00", '"1 day, 12:00:00"'),
    "interval '1 month 2 days'": ("P1M2DT0.000000S", '"P1M2DT0.000000S"'),
    "'two\nlines'": ("two\nlines", '"two\nlines"'),
}


@pytest.mark.parametrize("value", KINDS)
def test_json_lines_hold_the_value_itself(printed, value):
    def fails(constant):
        pytest.fail(f"{constant} is not JSON")

    (line,) = printed(value, Format.JSONL).decode().splitlines()
    found = json.loads(line, parse_constant=fails)["x"]
    assert found == KINDS[value][0] and type(found) is type(KINDS[value][0])


@pytest.mark.parametrize("value", KINDS)
def test_csv_holds_numbers_and_lists_as_json(printed, value):
    text = printed(value, Format.CSV).decode()
    assert text.removeprefix('"x"\n').strip().strip('"') == KINDS[value][1].strip('"')
    pa.csv.read_csv(io.BytesIO(text.encode()), parse_options=pa.csv.ParseOptions(newlines_in_values=True))


@pytest.mark.parametrize("value", [*KINDS, "[interval 1 day]", "{'a': interval 1 day}"])
def test_parquet_is_read_back(printed, value):
    assert pq.read_table(io.BytesIO(printed(value, Format.PARQUET))).num_rows == 1


def test_parquet_holds_numbers(printed):
    assert pq.read_table(io.BytesIO(printed(S, Format.PARQUET)))["x"].to_pylist() == [90]
    assert pq.read_table(io.BytesIO(printed("2.5", Format.PARQUET)))["x"].type == pa.float64()


@pytest.mark.parametrize("output", [Format.TABLE, Format.MARKDOWN])
@pytest.mark.parametrize("value", KINDS)
def test_people_read_one_row_a_line(printed, value, output):
    lines = printed(value.replace("\n", " "), output).decode().splitlines()
    assert len(lines) == 3 and "Decimal" not in lines[-1] and "MonthDayNano" not in lines[-1]


def test_numbers_of_a_table_stand_to_the_right(results, capsys):
    print_table(query.run("select sum(step_count) as steps from trials", results), Format.TABLE)
    assert capsys.readouterr().out.splitlines() == ["steps", "-----", "   90"]


@pytest.mark.parametrize(
    "value", ["'101'::bit", "1::bignum", "union_value(k := 1)", "timetz '12:00:00+02'", "[1::bignum]"]
)
def test_a_type_that_would_lose_its_meaning_is_refused(results, value):
    with pytest.raises(QueryError, match=r"column .x. is a .*: cast it to varchar"):
        query.run(f"select {value} as x", results)
    assert isinstance(one(f"({value})::varchar", results)[0], str)


def test_a_column_of_each_kind_at_once(results):
    columns = ", ".join(f"{value} as c{i}" for i, value in enumerate(KINDS))
    assert isinstance(memsweep.sql(f"select {columns}", results), pd.DataFrame)
