"""Data given to a launch from Python: what is read, where it is stored, which trial it is, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

import memsweep
from memsweep.data import given, tasks
from memsweep.data.texts import DataError
from memsweep.results.storage.store import Store
from memsweep.run import given_data, plan
from memsweep.run.packing import Pack
from memsweep.run.policy import isolation, protocols
from memsweep.run.worker.execution import run_pack
from memsweep.spec import contents
from memsweep.spec.config import ConfigError, TrialConfig
from memsweep.spec.sweep import Sweep, SweepError
from tests.commands import own_folder, refused, run  # noqa: F401  fixtures

ROWS = 60
INPUTS = np.random.default_rng(1).normal(size=(ROWS, 3))
CLASSES = np.arange(ROWS) % 3
NAMES = np.array(["cat", "dog", "cow"])[CLASSES]
SPLIT = np.array(["train", "train", "train", "valid", "test"])[np.arange(ROWS) % 5]
PIXELS = np.random.default_rng(2).integers(0, 256, (ROWS, 14, 12, 3), np.uint8)
SMALL = {
    **{"data.task": "given:mine", "data.examples": 30, "data.validation_examples": 10, "data.test_examples": 10},
    **{"model.width": 4, "optimizer.epochs": 2, "optimizer.batch_size": 10},
}


@pytest.fixture(autouse=True)
def nothing_given() -> Iterator[None]:
    tasks.forget()
    yield
    contents.give({})
    given.read_from(None)


def frame(**others: Any) -> pd.DataFrame:
    return pd.DataFrame({**{f"x{i}": INPUTS[:, i] for i in range(3)}, "label": CLASSES, **others})


class Items(Dataset[Any]):
    """A dataset of dictionaries, or of pairs."""

    def __init__(self, item: Callable[[int], Any], count: int = ROWS):
        self.item, self.count = item, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Any:
        return self.item(i)


def sweep(**fields: Any) -> Sweep:
    return Sweep(
        "mine", {**SMALL, **{name.replace("__", "."): value for name, value in fields.items()}}, seeds=range(2)
    )


def give(value: Any, **fields: Any) -> TrialConfig:
    """The first trial of a sweep, whose data is stored."""
    one = sweep(**fields)
    given_data.prepare([one], Store("results", create=True), {"mine": value})
    return protocols.current(one.trials[0])


# What is read.

FORMS: dict[str, Any] = {
    "frame": frame(),
    "numbered columns": pd.DataFrame(np.column_stack([INPUTS, CLASSES])).astype({3: int}).rename(columns={3: "label"}),
    "nullable": frame().convert_dtypes(),
    "arrays": {"x": INPUTS, "label": CLASSES},
    "lists": {"x": INPUTS.tolist(), "label": CLASSES.tolist()},
    "pair": (INPUTS, CLASSES),
    "tensors": (torch.tensor(INPUTS), torch.tensor(CLASSES)),
    "tensor dataset": TensorDataset(torch.tensor(INPUTS), torch.tensor(CLASSES)),
    "pairs": Items(lambda i: (INPUTS[i], int(CLASSES[i]))),
    "dictionaries": Items(lambda i: {"x": INPUTS[i], "label": CLASSES[i]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_the_examples(form: str) -> None:
    trial = give(FORMS[form])
    data = tasks.load(trial)
    assert (data.classes, data.class_labels, data.inputs.shape) == (3, (), (30, 3))
    np.testing.assert_array_equal(data.inputs, INPUTS[data.source_index].astype(np.float32))
    np.testing.assert_array_equal(data.labels, CLASSES[data.source_index])
    assert len(data.held_out_labels) == 20
    assert plan.check([trial]) == []
    assert Path("results/given", f"{trial.data.content}.npz").is_file()


@pytest.mark.parametrize("labels", [NAMES, NAMES.astype(object), pd.Categorical(NAMES), pd.array(NAMES, "string")])
def test_texts_are_classes_and_their_mapping_is_stored(labels: Any) -> None:
    trial = give(frame(label=labels))
    data = tasks.load(trial)
    assert data.class_labels == ("cat", "cow", "dog")
    np.testing.assert_array_equal(np.array(data.class_labels)[data.labels], NAMES[data.source_index])
    store = Store("results")
    assert list(run_pack(Pack((trial,), 1), store))[-1].failed == 0
    row = store.trial_rows({trial.trial_id})[trial.trial_id]
    assert (row["class_labels"], row["data_content"]) == ("cat,cow,dog", trial.data.content)


@pytest.mark.parametrize("form", ["columns", "splits", "datasets"])
def test_official_splits_are_respected(form: str) -> None:
    rows = {part: np.flatnonzero(part == SPLIT) for part in ("train", "valid", "test")}
    value: Any = {part: (INPUTS[at], NAMES[at]) for part, at in rows.items()}
    if form == "columns":
        value = frame(label=NAMES, part=SPLIT)
    elif form == "datasets":
        value = {part: Items(lambda i, at=at: (INPUTS[at[i]], NAMES[at[i]]), len(at)) for part, at in rows.items()}
    data = tasks.load(give(value, **({"data__split": "part"} if form == "columns" else {})))
    row_of = {tuple(row): i for i, row in enumerate(INPUTS.astype(np.float32).tolist())}
    places = [[row_of[tuple(row)] for row in part.tolist()] for part in (data.inputs, data.held_out_inputs)]
    assert {*SPLIT[places[0]]} == {"train"}
    assert {*SPLIT[places[1][:10]]} == {"valid"}
    assert {*SPLIT[places[1][10:]]} == {"test"}
    labels = np.array(data.class_labels)
    np.testing.assert_array_equal(labels[data.held_out_labels], NAMES[places[1]])


def test_bytes_are_pixels_and_real_numbers_are_targets() -> None:
    trial = give((PIXELS, INPUTS[:, 0]), model__family="cnn")
    data = tasks.load(trial)
    assert tasks.image_of(trial) == (3, 14, 12)
    expected = PIXELS[data.source_index].transpose(0, 3, 1, 2).reshape(30, -1)
    np.testing.assert_array_equal(np.rint(data.inputs * 255), expected)
    np.testing.assert_array_equal(data.targets[:, 0], INPUTS[data.source_index, 0].astype(np.float32))
    assert tasks.target_count(trial) == 1


# Which trial it is, and where its data is stored.


def test_the_content_is_part_of_a_trials_identity_and_is_stored_once() -> None:
    first = give(frame())
    path = Path("results/given", f"{first.data.content}.npz")
    before = path.stat().st_mtime_ns
    assert give(frame()).trial_id == first.trial_id
    assert path.stat().st_mtime_ns == before
    other = give(frame(x0=1.0))
    assert other.trial_id != first.trial_id
    assert len(list(path.parent.glob("*.npz"))) == 2
    assert json.loads(Path("results/given/names.json").read_text()) == {"mine": other.data.content}
    renamed = give(frame().rename(columns={"x0": "y"}))
    assert len({first.trial_id, other.trial_id, renamed.trial_id}) == 3


def test_another_process_reads_what_is_stored() -> None:
    trial = give(frame(), model__family="tests.own_networks:ResNet", data__examples=20)
    store = Store("results")
    given.read_from(None)
    tasks.forget()
    with pytest.raises(DataError, match="there is no results folder that holds it"):
        tasks.load(trial)
    given_data.prepare([sweep()], store)
    assert protocols.current(sweep().trials[0]).data.content == trial.data.content
    assert isolation.evaluate("memsweep.data.tasks:check", trial) == []
    isolation.end()
    given.read_from(None)
    tasks.forget()
    trial = trial.with_fields({"model.family": "mlp"})
    assert list(run_pack(Pack.from_json(Pack((trial,), 1).to_json()), store))[-1].failed == 0


def test_a_content_that_is_missing_or_other_is_one_message() -> None:
    trials = [give(frame()).with_fields({"model.width": width}) for width in (4, 8)]
    path = Path("results/given", f"{trials[0].data.content}.npz")
    other = given.packed(given.arrays_of(frame(x0=1.0)))
    for content, expected in (
        (None, f"{path.absolute()}, which holds it, is missing"),
        (b"PK", "can't be read ("),
        (other, "holds other data than its name says. Delete it."),
    ):
        tasks.forget()
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(SweepError) as raised:
            plan.check(trials)
        assert str(raised.value).startswith("data.task = 'given:mine': ")
        assert expected in str(raised.value)
        assert str(raised.value).endswith("Give it again: memsweep.launch(..., data={'mine': ...}).")
        assert str(raised.value).count("\n") == 0


# What is refused.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (frame(x1=np.where(CLASSES, INPUTS[:, 1], np.nan)), "values are missing in columns (x1 20); fill them"),
        (frame(label=np.where(CLASSES, NAMES.astype(object), None)), "values are missing in columns (label 20)"),
        ((INPUTS, np.where(CLASSES, 0.5, np.nan)), "values are missing in columns (label 20)"),
        ({"x": INPUTS, "label": np.where(CLASSES, NAMES, "")}, "values are missing in columns (label 20)"),
        ((np.ma.masked_greater(INPUTS, 2), CLASSES), "masked values are not numbers"),
        ((INPUTS, np.array([{"a": 1}] * ROWS)), "column 'label': holds Python objects; give numbers or texts"),
        (frame(x0=[[1.0]] * ROWS), "column 'x0': holds Python objects"),
        (frame(x0=pd.date_range("2026-01-01", periods=ROWS)), "column 'x0': holds datetime64["),
        (pd.concat([frame(), frame()], axis=1), "several columns have the name label, x0, x1, x2; rename them"),
        ((INPUTS, CLASSES, CLASSES), "has 3 values; give a pair of inputs and labels"),
        (7, "is of the type int; give a frame of pandas, a dictionary of arrays"),
        ("mine.csv", "is of the type str; give a frame of pandas"),
        (Items(lambda i: 7), "has items of the type int; each must be a pair"),
        (Items(lambda i: ([0.0] * (i + 1), 1)), "column 'inputs': items have the shapes (1,), (10,)"),
        (frame().head(0), "holds no examples; give arrays with a row for each example"),
    ],
)
def test_what_cannot_be_used_is_refused_before_it_is_stored(value: Any, expected: str) -> None:
    with pytest.raises(SweepError) as raised:
        give(value)
    assert str(raised.value).startswith("data['mine']: ")
    assert expected in str(raised.value)
    assert str(raised.value).count("\n") == 0
    assert not Path("results/given").exists()


@pytest.mark.parametrize(
    ("value", "fields", "expected"),
    [
        (frame(label=7), {}, "all labels are equal; needs 2 classes or more"),
        (frame(), {"data__examples": 41}, "61 examples in all, task 'given:mine' has 60; use fewer"),
        (frame(), {"data__label": "species"}, "data.label = 'species': there is no such array; name one of x0, x1, x2"),
        (frame(town=NAMES), {}, "column 'town': holds texts; must hold numbers"),
        ((INPUTS[:9], CLASSES), {}, "arrays have different lengths (inputs 9, label 60)"),
        ((INPUTS * 1e39, CLASSES), {}, "inputs must be finite in float32"),
        ((INPUTS, np.eye(3)[CLASSES]), {}, "of one-hot rows give the number of the class"),
    ],
)
def test_examples_that_do_not_fit_the_sweep_are_refused(value: Any, fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(SweepError) as raised:
        plan.check([give(value, **fields)])
    assert "'given:mine'" in str(raised.value)
    assert expected in str(raised.value)
    assert str(raised.value).count("\n") == 0


def test_names_must_be_used_and_given() -> None:
    store, files = Store("results", create=True), Sweep("files", {"data.task": "file:mine.csv"})
    zipped = Sweep("two", SMALL, axes={"data.task": ("given:mine", "given:yours", "digits")})
    for sweeps, data, expected in (
        ([sweep()], {"mine": frame(), "other": frame()}, "data['other']: no sweep uses it (the sweeps use mine)"),
        ([files], {"mine": frame()}, "data['mine']: no sweep uses it (the sweeps use no given data)"),
        ([sweep()], {"": frame(), "mine": frame()}, "data['']: a name must begin with a letter or digit"),
        ([sweep()], None, "data.task = 'given:mine': no data of this name is given or stored; launch from Python with"),
        ([files, zipped], {"mine": frame()}, "data.task = 'given:yours': no data of this name is given"),
    ):
        with pytest.raises(SweepError) as raised:
            given_data.prepare(sweeps, store, data)
        assert str(raised.value).startswith(expected)
        assert str(raised.value).count("\n") == 0
    given_data.prepare([files, zipped], store, {"mine": frame(), "yours": frame(x0=0.0)})
    [remark] = given_data.prepare([sweep()], store)
    assert remark.startswith("data.task = 'given:mine': ")
    assert "bytes, stored once in" in remark
    with pytest.raises(ConfigError, match="given:NAME"):
        TrialConfig.of({"data.task": "given:"})
    assert TrialConfig.of({"data.task": "given:mine"}).imports == ()


# For real.


def test_a_launch_from_python_goes_on_from_the_command_line(run: Any, refused: Any, ray_address: str) -> None:
    text = f"from memsweep import Sweep\nSWEEP = Sweep('mine', {SMALL}, seeds=range(2))\n"
    Path("mine.py").write_text(text)
    assert "no data of this name is given or stored" in refused("launch", "mine.py", "--address", ray_address)
    options = {"address": ray_address, "progress": False}
    report = memsweep.launch("mine.py", "results", data={"mine": frame(label=NAMES)}, limit=1, **options)
    assert (report.wanted, report.ran, report.missing) == (2, 1, 1)
    assert "data.task = 'given:mine': " in str(report)
    code, out, err = run("plan", "mine.py", "--format", "jsonl")
    assert json.loads(out)["missing"] == 1
    assert "bytes, stored once in" in err
    assert len(run("missing", "mine.py", "--format", "jsonl")[1].splitlines()) == 1
    code, _, err = run("launch", "mine.py", "--address", ray_address)
    assert (code, "2 of 2 trials finished, 1 of them run now" in err) == (0, True), err
    rows = memsweep.table("trials", "results")
    assert (rows["class_labels"].tolist(), rows["data_task"].tolist()) == (["cat,cow,dog"] * 2, ["given:mine"] * 2)
    code, out, _ = run("verify", "--format", "jsonl")
    assert (code, [json.loads(line)["outcome"] for line in out.splitlines()]) == (0, ["exact", "exact"])
    [path] = Path("results/given").glob("*.npz")
    path.unlink()
    tasks.forget()
    for verb in ("plan", "launch"):
        message = refused(verb, "mine.py", "--set", "seeds=0:3")
        assert message.startswith(f"data.task = 'given:mine': {path.absolute()}, which holds it, is missing. Give it")
    code, out, err = run("verify", "--format", "jsonl")
    assert (code, "which holds it, is missing" in out + err) == (1, True)


def test_what_a_machine_cannot_read_is_refused(ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines are one raylet here, listed twice."""
    from memsweep.run import cluster, ray_tasks

    path = Path("mine.csv").absolute()
    frame().to_csv(path, index=False)
    trials = [give(frame()), protocols.current(TrialConfig.of({**SMALL, "data.task": f"file:{path}"}))]
    stored = Path("results/given", f"{trials[0].data.content}.npz").absolute()
    with cluster.cluster(ray_address):
        [node] = ray_tasks.ray.nodes()
        assert ray_tasks.unreadable(trials, is_joined=True) == []
        monkeypatch.setattr(ray_tasks.ray, "nodes", lambda: [{**node, "NodeManagerHostname": name} for name in "ab"])
        assert ray_tasks.unreadable(trials) == []
        for hidden in (path, stored):
            hidden.unlink()
        assert ray_tasks.unreadable(trials) == [
            f"data.task = 'given:mine': a, b cannot read {stored}. Use --results in a folder that all machines share, "
            "under the same absolute path, or in an object store.",
            f"data.task = 'file:{path}': a, b cannot read it with the content that it has here. Put it into a folder "
            "that all machines share, under the same absolute path.",
        ]
        monkeypatch.undo()
        assert ray_tasks.unreadable(trials) == [] and len(ray_tasks.unreadable(trials, is_joined=True)) == 2
