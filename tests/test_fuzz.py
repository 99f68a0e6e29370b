"""Whatever stands in a results folder, a sweep or a command: an answer or one message, and nothing outside the folder.

`make fuzz` tries for as long as it is told: FUZZ_EXAMPLES of each.
"""

import json
import os
import shutil
import sys
from datetime import UTC
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memsweep.cli import app
from memsweep.results.storage.notes import PROGRAMS, RUNNING, SEARCHES
from memsweep.results.storage.store import Store, StoreError
from memsweep.run import checkpoints, plan
from memsweep.run.packing import Pack
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.rounds.replay import Replay
from memsweep.spec.config import FIELDS, ConfigError, TrialConfig
from memsweep.spec.schema import SCHEMAS, cell
from memsweep.spec.sweep import Sweep, SweepError
from memsweep.spec.sweep_files import load_sweep
from tests.cases import ended, step

TRIALS = load_sweep("smoke").trials[:4]
many = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.binary(max_size=8)
NAMES = st.sampled_from(
    [
        "smoke",
        "",
        "..",
        "../../away",
        "/etc",
        "a/b",
        "o'clock",
        '"',
        "x" * 300,
        "\x00",
        "\n",
        "é",
        "<script>",
        "-",
        "con",
    ]
) | st.text(max_size=20)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A results folder with something in it."""
    store = Store(tmp_path_factory.mktemp("fuzz") / "results", create=True)
    write_wanted(load_sweep("smoke"), TRIALS, store)
    store.write(
        "steps", [step(t.trial_id, number=n, train_count=7, train_correct_count=n) for t in TRIALS for n in (1, 2)]
    )
    fields = [{name.replace(".", "_"): cell(value) for name, value in t.flat().items()} for t in TRIALS]
    counts = {"train_count": 7, "train_correct_count": 2, "pack_id": "p", "step_count": 2, "parameter_count": 9}
    own = [{"setting_id": t.setting_id, "seed": t.seed} for t in TRIALS]
    store.write(
        "trials", [ended(t.trial_id, **{**f, **o, **counts}) for t, f, o in zip(TRIALS, fields, own, strict=True)]
    )
    return store.results


@pytest.fixture
def folder(whole, tmp_path):
    """Makes a fresh copy of it, each time in the same place, with a file beside it that is nobody's business."""
    (tmp_path / "outside").write_text("untouched")

    def fresh():
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        return Path(shutil.copytree(whole, tmp_path / "results"))

    return fresh


@pytest.fixture
def answers(tmp_path, monkeypatch, capfd):
    """Runs a verb in this process: it ends with an exit code of ours, and with a message where that is not 0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "none")
    for name in ("MEMSWEEP_RESULTS", "MEMSWEEP_DATA"):
        monkeypatch.delenv(name, raising=False)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["memsweep", *words])
        capfd.readouterr()
        code = 0
        try:
            app.main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capfd.readouterr()
        assert code in (0, 1, 2) and "Traceback" not in out + err, err
        assert code == 0 or (out + err).strip(), words
        assert {path.name for path in tmp_path.iterdir()} <= {"outside", "results"}, words
        assert (tmp_path / "outside").read_text() == "untouched"
        return code, out, err

    return call


READERS = (
    ("status",),
    ("missing", "smoke", "--format", "csv"),
    ("query", "select * from trials join steps using (trial_id)", "--format", "jsonl"),
    ("query", "select * from wanted", "--format", "csv"),
)


def read_by_all(answers):
    for words in READERS:
        answers(*words)


@many
@given(data=st.data())
def test_parts_cut_or_changed_anywhere(folder, answers, data):
    results = folder()
    part = data.draw(st.sampled_from(sorted(results.glob("*/*.parquet"))))
    content = bytearray(part.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    part.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    read_by_all(answers)


@many
@given(data=st.data())
def test_parts_with_columns_of_any_name_and_type(folder, answers, data):
    results = folder()
    table = data.draw(st.sampled_from(["trials", "steps", "wanted", "packs"]))
    known = st.sampled_from(SCHEMAS[table].names)
    names = data.draw(st.lists(known | st.text(max_size=8), min_size=1, max_size=8, unique=True))
    count = data.draw(st.integers(0, 3))
    kinds = [
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.text(max_size=10),
        st.binary(max_size=4),
        st.booleans(),
        st.datetimes(timezones=st.just(UTC)),
        st.lists(st.integers(0, 9), max_size=2),
        st.dictionaries(st.just("a"), st.integers(0, 9), min_size=1),
    ]
    columns = []
    for _ in names:
        kind = data.draw(st.sampled_from(kinds))
        columns.append(pa.array([data.draw(st.none() | kind) for _ in range(count)]))
    (results / table).mkdir(exist_ok=True)
    pq.write_table(pa.table(columns, names=names), results / table / "0123.parquet")
    read_by_all(answers)


@many
@given(
    name=NAMES,
    status=st.sampled_from(["finished", "failed", "interrupted"]) | NAMES,
    when=st.datetimes(timezones=st.just(UTC)) | st.none(),
    text=st.text(max_size=30),
    configuration=st.dictionaries(
        st.sampled_from(list(FIELDS)) | st.text(max_size=5),
        st.none() | st.integers() | st.floats() | st.text(max_size=5),
        max_size=2,
    ),
    draws=st.integers(0, 7).map(lambda n: n == 7),
)
def test_rows_that_say_anything(folder, answers, name, status, when, text, configuration, draws):
    """Names of sweeps, statuses, times and texts, in a stranger's parts; all that draws or writes runs."""
    store = Store(folder())
    trial = TRIALS[0]
    try:
        row = {"sweep": name, "trial_id": trial.trial_id, "setting_id": text, "position": 0, "seed": 0}
        flat = {**trial.flat(), **configuration}
        store.write(
            "wanted", [{**row, "configuration": json.dumps(flat)}, {**row, "trial_id": text, "configuration": text}]
        )
        store.write(
            "trials", [{"trial_id": text, "attempt_id": name, "status": status, "finished_at": when, "cause": text}]
        )
    except (StoreError, UnicodeError):
        return
    read_by_all(answers)
    answers("compact")
    if draws:  # which takes seconds
        answers("doctor")
        answers("report")


@many
@given(
    kind=st.sampled_from([RUNNING, PROGRAMS, SEARCHES, "identity"]),
    content=st.binary(max_size=40)
    | st.builds(
        lambda value: json.dumps(value).encode(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=6),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=6,
        ),
    ),
)
def test_notes_beside_the_parts_that_are_anything(folder, answers, kind, content):
    results = folder()
    (results / kind).write_bytes(content)
    with Store(results).lock():  # else what runs is not read
        read_by_all(answers)


@many
@given(content=st.binary(max_size=200), size=st.integers(0, 2**64 - 1), header=st.text(max_size=40))
def test_checkpoints_that_are_anything(folder, content, size, header):
    store = Store(folder())
    (store.results / checkpoints.FOLDER).mkdir()
    for name, written in (
        ("a", content),
        ("b", size.to_bytes(8, "little") + header.encode("utf-8", "replace") + content),
    ):
        (store.results / checkpoints.FOLDER / f"{name}.safetensors").write_bytes(written)
    assert checkpoints.stored(store) == [] and len(checkpoints.remove_damaged(store)) == 2


LIKELY = {name: spec.options or (0, 1, 2, 0.5, 0.01, 100, spec.default) for name, spec in FIELDS.items()}


@st.composite
def definitions(draw):
    """Of a sweep: some of what is drawn can be one."""
    strange = draw(st.integers(0, 3)) == 0

    def value(name):
        return draw(SCALARS if strange and draw(st.booleans()) else st.sampled_from(LIKELY.get(name, (1,))))

    names = st.lists(st.sampled_from(list(FIELDS)) | (st.text(max_size=6) if strange else st.nothing()), max_size=4)
    base = {name: value(name) for name in draw(names)}
    axes = {name: [value(name) for _ in range(draw(st.integers(not strange, 3)))] for name in draw(names)[:2]}
    if draw(st.booleans()):
        pair = tuple(draw(names)[:2])
        axes[pair] = [tuple(map(value, pair)) for _ in range(2)]
    seeds = draw(st.sets(st.integers(0, 9), min_size=1, max_size=3) | (SCALARS if strange else st.nothing()))
    return draw(NAMES | SCALARS) if strange else "fuzz", base, axes, seeds


@many
@given(definition=definitions())
def test_definitions_of_anything(definition):
    name, base, axes, seeds = definition
    try:
        sweep = Sweep(name, base, axes=axes, seeds=seeds)
    except SweepError as error:
        assert error.problems
        return
    for trial in sweep.trials:
        again = TrialConfig.of(json.loads(json.dumps(trial.flat())))
        assert again.setting_id == trial.setting_id
    (pack,) = [Pack(sweep.trials[:1], 1)]
    assert Pack.from_json(pack.to_json()).trials[0].trial_id == sweep.trials[0].trial_id
    try:
        plan.check(sweep.trials[:1])
    except (SweepError, ConfigError) as error:
        assert error.problems
    assert Replay(sweep, None, limit=2).missing() == list(sweep.trials[:2])


VERBS = ["status", "missing", "missing smoke", "query", "compact", "plan no_such", "doctor", "launch outside"]
WORDS = st.sampled_from(["smoke", "no_such", "outside", "select 1", "--retry", "--help", "-1", "nan", "", "..", "é"])
OPTIONS = {
    "--set": [
        "model.width=8",
        "seeds=0:2",
        "model.width=",
        "=",
        "seeds=0:99999999",
        "data.noise_fraction=linspace(0,1,3)",
    ],
    "--limit": ["2", "0", "-1", "x", "1e3"],
    "--format": ["csv", "jsonl", "markdown", "parquet", "xml"],
    "--results": ["results", "outside", "nowhere", "s3://", "hdfs://a", "outside/below", "\n"],
    "--members": ["3", "-1"],
}
GIVEN = st.sampled_from(sorted(OPTIONS)).flatmap(lambda name: st.sampled_from(OPTIONS[name]).map(lambda v: (name, v)))


@many
@given(
    verb=st.sampled_from(VERBS) | st.text(max_size=6),
    words=st.lists(WORDS | st.text(max_size=10), max_size=2),
    options=st.lists(GIVEN, max_size=3),
)
def test_commands_of_any_words(folder, answers, verb, words, options):
    folder()
    said = [*verb.split(), *words, *(word for option in options for word in option)]
    if "\0" not in "".join(said):  # which no shell can say
        answers(*said)
