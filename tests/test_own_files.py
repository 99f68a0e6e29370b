"""Files and folders of the user's as tasks: what is read, how it is split, which trial it is, what is refused."""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from PIL import Image

from memsweep.analysis.core import frames
from memsweep.analysis.questions import generalization
from memsweep.data import tasks
from memsweep.data.texts import data_folder
from memsweep.engine.nn import models
from memsweep.engine.train import plain
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.packing import Pack, program_key
from memsweep.run.policy import protocols
from memsweep.run.rounds.replay import Replay
from memsweep.run.worker.execution import run_pack
from memsweep.spec import contents
from memsweep.spec.config import ConfigError, TrialConfig
from memsweep.spec.search import BestSearch
from memsweep.spec.sweep import Sweep, SweepError
from tests.commands import own_folder, process, refused, run  # noqa: F401  fixtures

ROWS = 60
INPUTS = np.random.default_rng(1).normal(size=(ROWS, 3))
CLASSES = np.arange(ROWS) % 3
NAMES = np.array(["cat", "dog", "a cow, brown"])[CLASSES]
SPLIT = np.array(["train", "train", "train", "valid", "test"])[np.arange(ROWS) % 5]
PIXELS = np.random.default_rng(2).integers(0, 256, (ROWS, 14, 12), np.uint8)


@pytest.fixture(autouse=True)
def forgotten() -> None:
    tasks.forget()


def frame(**others: Any) -> pd.DataFrame:
    columns = {f"x{i}": INPUTS[:, i] for i in range(3)}
    return pd.DataFrame({**columns, "label": CLASSES, **others})


def of(path: Any, **fields: Any) -> TrialConfig:
    small = {"data.examples": 30, "data.validation_examples": 10, "data.test_examples": 10, "model.width": 4}
    others = {name.replace("__", "."): value for name, value in fields.items()}
    return TrialConfig.of({"data.task": f"file:{path}", "optimizer.epochs": 1, **small, **others})


def rewrite(path: Path, write: Callable[[], Any]) -> None:
    """Writes a file again with another time of change, whatever the file system's clock."""
    before = path.stat().st_mtime_ns
    write()
    os.utime(path, ns=(before + 10**9, before + 10**9))


# What is read.


def write_npz(path: Path) -> None:
    np.savez(path, pixels=INPUTS, label=CLASSES)


def write_csv(path: Path) -> None:
    frame().to_csv(path, index=False)


def write_csv_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(frame().to_csv(index=False).encode()))


def write_parquet(path: Path) -> None:
    frame().to_parquet(path)


WRITERS = {"mine.npz": write_npz, "mine.csv": write_csv, "mine.csv.gz": write_csv_gz, "mine.parquet": write_parquet}


@pytest.mark.parametrize("name", WRITERS)
def test_a_files_rows_are_the_examples(name: str) -> None:
    WRITERS[name](Path(name))
    data = tasks.load(of(name))
    assert (data.classes, data.class_labels, data.inputs.shape) == (3, (), (30, 3))
    np.testing.assert_array_equal(data.inputs, INPUTS[data.source_index].astype(np.float32))
    np.testing.assert_array_equal(data.labels, CLASSES[data.source_index])
    assert len(data.held_out_labels) == 20
    assert plan.check([of(name)]) == []


def test_kinds_of_files_hold_the_same_data() -> None:
    for name, write in WRITERS.items():
        write(Path(name))
    assert len({tasks.load(of(name)).fingerprint for name in WRITERS}) == 1
    assert len({of(name).trial_id for name in WRITERS}) == len(WRITERS)


@pytest.mark.parametrize("labels", [NAMES, pd.Categorical(NAMES), NAMES.astype("S").astype(object)])
def test_texts_are_classes_in_their_order_and_their_mapping_is_stored(labels: Any) -> None:
    path = Path("mine.parquet")
    if isinstance(labels, np.ndarray) and labels.dtype == object:
        path = Path("mine.npz")
        np.savez(path, x=INPUTS, label=NAMES.astype("S"))
    else:
        frame(label=labels).to_parquet(path)
    data = tasks.load(of(path))
    assert data.class_labels == ("a cow, brown", "cat", "dog")
    np.testing.assert_array_equal(np.array(data.class_labels)[data.labels], NAMES[data.source_index])
    store = Store("results", create=True)
    trial = protocols.current(of(path))
    assert list(run_pack(Pack((trial,), 1), store))[-1].failed == 0
    row = store.trial_rows({trial.trial_id})[trial.trial_id]
    assert row["class_labels"] == '"a cow, brown",cat,dog'
    assert (row["data_content"], row["data_label"]) == (contents.content_of(f"file:{path}"), "label")


def test_labels_that_skip_numbers_are_mapped_and_remarked() -> None:
    frame(label=np.array([2, 7, 30])[CLASSES]).to_csv("mine.csv", index=False)
    assert tasks.load(of("mine.csv")).class_labels == (2, 7, 30)
    [remark] = tasks.remarks([of("mine.csv")])
    assert "labels 2, 7, 30 are classes 0 to 2" in remark


def test_bytes_are_pixels_and_keep_their_shape() -> None:
    for name, pixels in (("grey.npz", PIXELS), ("last.npz", np.stack([PIXELS] * 3, axis=3))):
        np.savez(name, x=pixels, label=CLASSES)
    grey, colour = tasks.load(of("grey.npz")), tasks.load(of("last.npz"))
    np.testing.assert_array_equal(grey.inputs * np.float32(255), PIXELS[grey.source_index].reshape(30, -1))
    assert tasks.image_of(of("grey.npz", model__family="cnn")) == (1, 14, 12)
    assert tasks.image_of(of("last.npz", model__family="cnn")) == (3, 14, 12)
    np.testing.assert_array_equal(colour.inputs, np.tile(grey.inputs, (1, 3)))  # channel by channel
    assert tasks.remarks([of("grey.npz")]) == []


def test_a_column_of_lists_is_an_input_of_their_shape() -> None:
    lists = [row.tolist() for row in PIXELS[:, :11, :11]]
    pa.parquet.write_table(
        pa.table({"x": pa.array(lists, pa.list_(pa.list_(pa.uint8()))), "label": CLASSES}), "m.parquet"
    )
    assert tasks.image_of(of("m.parquet", model__family="cnn")) == (1, 11, 11)
    data = tasks.load(of("m.parquet"))
    np.testing.assert_array_equal(data.inputs * np.float32(255), PIXELS[data.source_index, :11, :11].reshape(30, -1))


# Folders.


def idx(array: Any) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path) -> None:
    folder.mkdir()
    for name, rows in (("train", slice(0, 40)), ("t10k", slice(40, ROWS))):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(PIXELS[rows]))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(CLASSES[rows])))


def write_images(folder: Path) -> None:
    for i, pixels in enumerate(PIXELS):
        path = folder / ("train" if i < 40 else "test") / f"class {CLASSES[i]}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def write_saved_dataset(folder: Path) -> None:
    """As `datasets.DatasetDict.save_to_disk` writes, two files a part."""
    folder.mkdir()
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["test", "train"]}))
    features = {"label": {"names": ["cat", "dog", "cow"], "_type": "ClassLabel"}}
    for part, rows in (("train", range(40)), ("test", range(40, ROWS))):
        (folder / part).mkdir()
        files = [f"data-0000{k}-of-00002.arrow" for k in range(2)]
        for k, name in enumerate(files):
            images = [{"bytes": png(PIXELS[i]), "path": None} for i in rows[k::2]]
            table = pa.table({"image": images, "label": CLASSES[list(rows[k::2])]})
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
            with pa.ipc.new_stream(folder / part / name, table.schema) as stream:
                stream.write_table(table)
        (folder / part / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in files]}))


def png(pixels: Any) -> bytes:
    path = Path("one.png")
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("write", "names"),
    [
        (write_idx, ()),
        (write_images, ("class 0", "class 1", "class 2")),
        (write_saved_dataset, ("cat", "dog", "cow")),
    ],
)
def test_a_folders_images_and_official_parts_are_read(write: Callable[[Path], None], names: tuple[str, ...]) -> None:
    write(Path("folder"))
    data = tasks.load(of("folder"))
    assert (data.classes, data.class_labels, tasks.image_of(of("folder", model__family="cnn"))) == (
        3,
        names,
        (1, 14, 12),
    )
    images = {tuple(row): i for i, row in enumerate(PIXELS.reshape(ROWS, -1).tolist())}
    for inputs, labels, rows in (
        (data.inputs, data.labels, range(40)),
        (data.held_out_inputs[:10], data.held_out_labels[:10], range(40)),
        (data.held_out_inputs[10:], data.held_out_labels[10:], range(40, ROWS)),
    ):
        places = [images[tuple(row)] for row in np.rint(inputs * 255).astype(int).tolist()]
        assert set(places) <= set(rows)
        assert (CLASSES[places] == labels).all()


def test_images_in_folders_of_classes_alone_are_split_by_the_seed() -> None:
    for i, pixels in enumerate(PIXELS):
        Path("folder", NAMES[i][:3]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([pixels] * 3, 2) if i == 5 else pixels).save(
            Path("folder", NAMES[i][:3], f"{i:02}.png")
        )
    Path("folder", "cat", ".DS_Store").write_bytes(b"\0")
    data = tasks.load(of("folder"))
    assert data.class_labels == ("a c", "cat", "dog")
    assert tasks.image_of(of("folder", model__family="cnn")) == (3, 14, 12)  # one of them has colours
    assert len(data.inputs) + len(data.held_out_inputs) == 50


def test_a_convolutional_network_reads_rectangles() -> None:
    np.savez("wide.npz", x=PIXELS, label=CLASSES)
    np.savez("square.npz", x=PIXELS[:, :12], label=CLASSES)
    wide, square = (of(f"{name}.npz", model__family="cnn", optimizer__batch_size=10) for name in ("wide", "square"))
    assert plan.check([wide, square]) == []
    assert "14x12" in str(program_key(wide))
    assert "x12" not in str(program_key(square))
    store = Store("results", create=True)
    done = list(run_pack(Pack((protocols.current(wide),), 1, compared=True), store))[-1]
    assert (done.settled, done.failed) == (1, 0)
    module = models.build(wide, *tasks.shape(wide))
    inputs = tasks.load(wide).inputs[:2]
    h = module.convolutions[0](models.torch.from_numpy(inputs.reshape(2, 1, 14, 12)[..., 2:-2, 2:-2].copy()))
    assert h.shape == (2, 4, 10, 8)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_residual_network_reads_rectangles_as_plain_torch_does(norm: str) -> None:
    np.savez("wide.npz", x=np.stack([PIXELS] * 3, axis=3)[:, :9], label=CLASSES)
    fields = {"model__family": "resnet", "model__depth": 1, "model__norm": norm, "optimizer__batch_size": 10}
    trials = tuple(protocols.current(of("wide.npz", seed=seed, **fields)) for seed in range(2))
    assert plan.check(trials) == []
    assert "9x12" in str(program_key(trials[0]))
    store = Store("results", create=True)
    assert list(run_pack(Pack(trials, 2, compared=True), store))[-1].failed == 0
    for row in store.trials().to_pylist():
        trial = next(trial for trial in trials if trial.trial_id == row["trial_id"])
        data, (model, _) = tasks.load(trial), plain.train(trial, trial.budget)
        inputs, labels = models.torch.tensor(data.inputs), models.torch.tensor(data.labels)
        with models.torch.no_grad():
            assert model.image == (3, 9, 12)
            loss = float(models.torch.nn.functional.cross_entropy(model.eval()(inputs), labels, reduction="sum"))
        assert row["train_loss_sum_nats"] == pytest.approx(loss, rel=1e-5)
        assert (row["deviation"] or 0.0) < 1e-5


# Official splits.


@pytest.mark.parametrize("name", ["mine.csv", "mine.parquet", "mine.npz", "named.npz", "keras.npz"])
def test_official_parts_are_respected(name: str) -> None:
    fields: dict[str, Any] = {"data__split": "part"}
    parts = {"train": SPLIT == "train", "val": SPLIT == "valid", "test": SPLIT == "test"}
    if name == "named.npz":  # as MedMNIST writes
        arrays = {
            f"{p}_{k}": v[rows] for p, rows in parts.items() for k, v in (("x", INPUTS), ("label", CLASSES[:, None]))
        }
        np.savez(name, **arrays)
        fields = {}
    elif name == "keras.npz":
        arrays = {f"{k}_{p}": v[rows] for p, rows in parts.items() for k, v in (("x", INPUTS), ("y", CLASSES))}
        np.savez(name, **arrays)
        fields = {"data__label": "y"}
    elif name == "mine.npz":
        np.savez(name, x=INPUTS, label=CLASSES, part=SPLIT)
    else:
        table = frame(part=SPLIT)
        table.to_csv(name, index=False) if name == "mine.csv" else table.to_parquet(name)
    data = tasks.load(of(name, **fields))
    row_of = {tuple(row): i for i, row in enumerate(INPUTS.astype(np.float32).tolist())}
    places = [[row_of[tuple(row)] for row in part.tolist()] for part in (data.inputs, data.held_out_inputs)]
    assert set(SPLIT[places[0]]) == {"train"}
    assert set(SPLIT[places[1][:10]]) == {"valid"}
    assert set(SPLIT[places[1][10:]]) == {"test"}
    assert len({*places[0], *places[1]}) == 50
    with pytest.raises(
        SweepError, match=r"data.test_examples = 13: task 'file:.*' has 12 of them; use fewer"
    ) as raised:
        plan.check([of(name, **fields, data__test_examples=13, data__validation_examples=14, data__examples=37)])
    assert "data.validation_examples = 14" in str(raised.value)
    assert "data.examples = 37: 37 examples in all" in str(raised.value)


def test_training_sets_are_nested_and_seeds_draw_other_ones() -> None:
    frame(part=SPLIT).to_csv("mine.csv", index=False)
    few, many, other = (
        set(tasks.load(of("mine.csv", data__split="part", **fields)).source_index.tolist())
        for fields in ({"data__examples": 10}, {"data__examples": 20}, {"data__examples": 10, "seed": 1})
    )
    assert few < many
    assert few != other


# Which trial it is.


def test_the_content_is_part_of_a_trials_identity_and_its_place_in_a_grid_is_not() -> None:
    write_csv(Path("mine.csv"))
    before = of("mine.csv")
    assert before.flat()["data.content"] == contents.content_of("file:mine.csv") != ""
    assert before.trial_id == of("mine.csv", data__content=before.flat()["data.content"]).trial_id
    rewrite(Path("mine.csv"), lambda: frame(x0=1.0).to_csv("mine.csv", index=False))
    assert of("mine.csv").trial_id != before.trial_id
    rewrite(Path("mine.csv"), lambda: write_csv(Path("mine.csv")))
    assert of("mine.csv").trial_id == before.trial_id
    assert TrialConfig().flat()["data.content"] == ""


def test_a_file_is_hashed_once_for_many_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(Path("mine.csv"))
    opened: list[Path] = []
    plain = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *mode: opened.append(self) or plain(self, *mode))
    sweep = Sweep("mine", of("mine.csv"), axes={"model.width": range(1, 21)}, seeds=range(20))
    trials = Replay(sweep, None).trials
    assert len({trial.trial_id for trial in trials}) == 400
    assert all(trial.data.content for trial in trials)  # a change during the launch changes no identity
    assert opened == [Path("mine.csv")]


def test_a_folders_content_is_that_of_all_its_files() -> None:
    write_images(Path("folder"))
    before = contents.content_of("file:folder")
    first = next(Path("folder").rglob("*.png"))
    moved = first.rename(first.with_name("other.png"))
    assert contents.content_of("file:folder", again=True) != before
    moved.rename(first)
    assert contents.content_of("file:folder", again=True) == before


def test_a_file_that_changes_during_a_launch_ends_its_trials() -> None:
    write_csv(Path("mine.csv"))
    trials = tuple(protocols.current(of("mine.csv", seed=seed)) for seed in range(2))
    pack = Pack(trials, 1)
    rewrite(Path("mine.csv"), lambda: frame(x0=1.0).to_csv("mine.csv", index=False))
    store = Store("results", create=True)
    tasks.forget()  # as in a worker, which is another process
    for _ in run_pack(Pack.from_json(pack.to_json()), store):
        pass
    rows = store.trial_rows({trial.trial_id for trial in pack.trials})
    assert [rows[trial.trial_id]["status"] for trial in pack.trials] == ["failed", "failed"]
    assert "it has changed since the launch began" in rows[trials[0].trial_id]["cause"]
    assert "memsweep verify" in rows[trials[0].trial_id]["cause"]
    assert "--own-code" not in rows[trials[0].trial_id]["cause"]
    assert store.current("packs").to_pylist()[0]["program"].startswith("mlp ?-4-4-?")


# What is refused.


def object_array() -> None:
    np.savez("bad.npz", x=INPUTS, label=np.array(["a", 1, None] * 20, dtype=object))


def csv(text: str) -> Callable[[], None]:
    return lambda: Path("bad.csv").write_text(text) and None


def table(**columns: Any) -> Callable[[], None]:
    return lambda: frame(**columns).to_parquet("bad.parquet")


def pickled() -> None:
    import pickle

    Path("bad.npz").write_bytes(pickle.dumps(INPUTS))


def folder_of(*names: str) -> Callable[[], None]:
    def write() -> None:
        for i, name in enumerate(names):
            Path("bad", name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".png"):
                Image.fromarray(PIXELS[0][: 12 + i]).save(Path("bad", name))
            else:
                Path("bad", name).write_bytes(b"no image")

    return write


@pytest.mark.parametrize(
    ("write", "path", "fields", "expected"),
    [
        (lambda: None, "gone.csv", {}, "there is no such file or folder; give its path"),
        (lambda: Path("bad.txt").write_text("x"), "bad.txt", {}, "kind '.txt' can't be read; use .npz, .csv, .parquet"),
        (object_array, "bad.npz", {}, "array 'label' holds Python objects, which can run code"),
        (pickled, "bad.npz", {}, "is no archive of arrays; use numpy.savez"),
        (lambda: np.savez("bad.npz", a=INPUTS, b=INPUTS, label=CLASSES), "bad.npz", {}, "2 arrays besides the labels"),
        (lambda: np.savez("bad.npz", a=INPUTS[:9], label=CLASSES), "bad.npz", {}, "different lengths (a 9, label 60)"),
        (
            lambda: np.savez("bad.npz", a=INPUTS, label=np.eye(3)[CLASSES]),
            "bad.npz",
            {},
            "store the number of the class",
        ),
        (csv("a,b\n1,2\n"), "bad.csv", {}, "data.label = 'label': there is no such column; name one of a, b"),
        (csv("a,label\n1,2\n"), "bad.csv", {"data__split": "s"}, "data.split = 's': there is no such column"),
        (csv(",a,label\n0,1,2\n"), "bad.csv", {}, "column 1 has no name, as pandas writes an index"),
        (csv("a,a,label\n0,1,2\n"), "bad.csv", {}, "several columns have the name a; rename them"),
        (
            csv("a,label\n1,2\n,3\n"),
            "bad.csv",
            {},
            "values are missing in columns (a 1); fill them, or drop their rows",
        ),
        (csv("a,label\n1,x\n2,\n"), "bad.csv", {}, "values are missing in columns (label 1)"),
        (csv("a,label\n1,2\n3\n"), "bad.csv", {}, "can't be read (CSV parse error"),
        (csv("a,town,label\n1,Rome,2\n"), "bad.csv", {}, "column 'town': holds string; must hold numbers"),
        (csv("label\n1\n"), "bad.csv", {}, "has no column of inputs"),
        (csv("a,label\n1,3\n2,3\n"), "bad.csv", {"data__examples": 1}, "all labels are equal; needs 2 classes or more"),
        (csv("a,label\n1,0\n2,1\n"), "bad.csv", {}, "30 examples in all, task 'file:bad.csv' has 2; use fewer"),
        (csv("a,label\n1,0.5\n2,1e39\n"), "bad.csv", {"data__examples": 1}, "targets must be finite in float32"),
        (csv("a,part,label\n1,train,0\n2,holdout,1\n"), "bad.csv", {"data__split": "part"}, "holds holdout; must hold"),
        (table(x0=INPUTS[:, 0] * np.where(CLASSES, 1, np.nan)), "bad.parquet", {}, "missing in columns (x0 20)"),
        (table(x0=[[1.0] * (1 + i % 2) for i in range(ROWS)]), "bad.parquet", {}, "lists of one length"),
        (table(x0=INPUTS[:, 0] * 1e39), "bad.parquet", {}, "inputs must be finite in float32"),
        (lambda: Path("bad.parquet").write_bytes(b"PAR1"), "bad.parquet", {}, "can't be read ("),
        (folder_of("a/0.png", "b/1.png"), "bad", {}, "images have the sizes 12x12, 12x13; scale them to one size"),
        (folder_of("a/0.jpg"), "bad", {}, "can't be read as an image"),
        (folder_of("0.png"), "bad", {}, "has no images in sub-folders"),
        (folder_of("train/a/0.png", "b/1.png"), "bad", {}, "folders of parts (train) beside others (b)"),
        (folder_of("train-images-idx3-ubyte"), "bad", {}, "so it is no IDX file"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(
    write: Callable[[], Any], path: str, fields: dict[str, Any], expected: str
) -> None:
    write()
    held_out = {"data__validation_examples": 0, "data__test_examples": 0}
    with pytest.raises(SweepError) as raised:
        plan.check([of(path, **held_out, **fields)])
    assert f"'file:{path}'" in str(raised.value)
    assert expected in str(raised.value)
    assert str(raised.value).count("\n") == 0


def test_a_launch_of_a_file_that_is_not_there_is_refused(refused: Any) -> None:
    Path("mine.py").write_text("from memsweep import Sweep\nSWEEP = Sweep('mine', {'data.task': 'file:gone.csv'})\n")
    for verb in ("launch", "plan"):
        assert refused(verb, "mine.py").startswith("data.task = 'file:gone.csv': there is no such file or folder")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"data.label": "y"}, "data.task = 'digits', data.label = 'y': only a file and given data have columns"),
        ({"data.task": "file:a.csv", "data.content": "x"}, "must be 16 hexadecimal digits"),
        ({"data.task": "file:"}, "file:PATH"),
        ({"data.task": "file:a.csv", "data.sequence_length": 3}, "the network reads no steps"),
    ],
)
def test_fields_of_files_are_checked(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        TrialConfig.of(fields)
    assert expected in str(raised.value)


def test_files_are_no_code() -> None:
    assert TrialConfig.of({"data.task": "file:mine.csv"}).imports == ()
    assert not tasks.is_custom(TrialConfig.of({"data.task": "file:mine"}))
    assert data_folder() == ""


# Real numbers as labels.

TARGETS = INPUTS @ np.array([0.5, -1.0, 0.25]) + 0.3


def regression(**fields: Any) -> TrialConfig:
    frame(label=TARGETS).to_csv("mine.csv", index=False)
    fields = {"optimizer__epochs": 20, "optimizer__batch_size": 10, "optimizer__learning_rate": 0.05, **fields}
    return protocols.current(of("mine.csv", **fields))


@pytest.mark.parametrize("fields", [{}, {"model__depth": 0}, {"compute__dtype": "float64", "optimizer__name": "adam"}])
def test_real_numbers_are_targets_of_squared_loss_and_right_answers_are_null(fields: dict[str, Any]) -> None:
    trials = tuple(regression(seed=seed, probes=("examples",), **fields) for seed in range(3))
    assert plan.check(trials) == []
    store = Store("results", create=True)
    assert list(run_pack(Pack(trials, 3, compared=True), store))[-1].failed == 0
    rows = store.trial_rows({trial.trial_id for trial in trials})
    for trial in trials:
        row, data = rows[trial.trial_id], tasks.load(trial)
        np.testing.assert_array_equal(data.targets[:, 0], TARGETS[data.source_index].astype(np.float32))
        model, _ = plain.train(trial, trial.budget)
        inputs, targets = (models.torch.tensor(part) for part in (data.inputs, data.targets))
        with models.torch.no_grad():
            error = float((model(inputs.to(models.dtype(trial))) - targets).square().sum())
        assert row["train_squared_error_sum"] == pytest.approx(error, rel=1e-5)
        assert row["train_loss_sum_nats"] == pytest.approx(error / 2, rel=1e-5)
        assert row["train_squared_error_sum"] < 0.5 * float(np.square(data.targets - data.targets.mean()).sum())
        assert [row[f"{part}_target_count"] for part in ("train", "validation", "test")] == [30, 10, 10]
        assert {name for name, value in row.items() if "correct" in name and value is not None} == set()
        assert (row["memorized_count"], row["recovered_count"], row["status"]) == (None, None, "finished")
    [deviation] = [row["deviation"] for row in rows.values() if row["deviation"] is not None]
    assert deviation == 0.0
    examples = store.current("examples").to_pylist()
    assert {row["first_learned_step"] for row in examples} == {row["given_label"] for row in examples} == {None}


def test_the_squared_error_of_targets_is_a_figure_and_a_files_content_no_curve() -> None:
    trials = [regression(seed=seed, model__width=width) for seed in range(2) for width in (4, 8)]
    store = Store("results", create=True)
    for trial in trials:
        assert list(run_pack(Pack((trial,), 1), store))[-1].failed == 0
    summary = generalization.summarize(pd.DataFrame(store.trials().to_pylist()), "model_width")
    assert summary["quantity"].unique().tolist() == ["validation squared error"]
    assert summary["model_width"].tolist() == [4, 8]
    assert (summary["estimate"] > 0).all()
    ax = generalization.draw(summary, Axes(Canvas(), (0, 0, 1, 1)), "validation squared error")
    assert ax.get_ylim()[1] >= summary["high"].max()
    rows = pd.DataFrame([{"data_task": f"file:{i}", "data_content": str(i), "seed": 0} for i in range(2)])
    assert frames.varying(rows) == ["data_task"]


def test_targets_split_programs_and_may_be_replaced_by_random_labels() -> None:
    real = regression()
    labelled = regression(data__label_scheme="random", data__classes=2)
    assert tasks.form(real).kind == "values"
    assert tasks.form(labelled).kind == "label"
    assert tasks.load(labelled).targets.shape[1] == 0
    same = program_key(regression(data__label_scheme="random", data__classes=1))
    assert same[:8] == program_key(real)[:8]
    assert same != program_key(real)


def test_whole_numbers_stored_as_real_numbers_are_remarked() -> None:
    frame(label=CLASSES.astype(float)).to_parquet("mine.parquet")
    [remark] = tasks.remarks([of("mine.parquet")])
    assert "so they are targets; where each is a class, store whole numbers" in remark


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stop__fit": 1.0}, "stop.fit = 1.0: the labels of 'file:mine.csv' are real numbers; set it to 0"),
        ({"data__noise_kind": "labels", "data__noise_fraction": 0.1}, "data.noise_kind = 'labels': the labels of"),
        ({"regularization__label_smoothing": 0.1}, "regularization.label_smoothing = 0.1: the labels of"),
        ({"regularization__adversarial": 0.1}, "regularization.adversarial = 0.1: the labels of"),
        ({"optimizer__objective": "squared"}, "leave it at cross_entropy; the loss is squared"),
        ({"model__initialization": "interpolating"}, "model.initialization = 'interpolating': the labels of"),
        ({"probes": ("critical_samples",)}, "leave out all but examples"),
    ],
)
def test_what_needs_labels_is_refused_for_targets(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(SweepError) as raised:
        plan.check([regression(**fields)])
    assert expected in str(raised.value)
    assert str(raised.value).count("\n") == 0


def test_objectives_that_count_right_answers_are_refused_for_targets(refused: Any) -> None:
    regression()
    fields = {"data.task": "file:mine.csv", "data.examples": 30, "data.validation_examples": 10}
    search = "BestSearch({'model.width': (4, 8)}, configurations=2)"
    code = f"from memsweep import BestSearch, Sweep\nSWEEP = Sweep('mine', {fields}, search={search})\n"
    Path("mine.py").write_text(code)
    for verb in ("launch", "plan"):
        assert refused(verb, "mine.py").startswith("objective 'validation_accuracy': counts right answers")
    search = BestSearch({"model.width": (4, 8)}, {"validation_squared_error": "minimize"}, configurations=2)
    assert plan.check([regression()], [search]) == []


@pytest.mark.parametrize("objective", ["validation_squared_error", "test_squared_error", "train_target_accuracy"])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_objectives_that_need_targets_are_refused_for_classes(objective: str, loss: str) -> None:
    write_csv(Path("mine.csv"))
    trial = of("mine.csv", optimizer__objective=loss)
    search = BestSearch({"model.width": (4, 8)}, {objective: "minimize"}, configurations=2)
    with pytest.raises(SweepError) as raised:
        plan.check([trial], [search])
    assert str(raised.value) == (
        f"objective {objective!r}: measures distances from real numbers, and the labels of the task are classes; "
        "maximize validation_accuracy, or minimize validation_loss_nats."
    )
    assert plan.check([trial], [BestSearch({"model.width": (4, 8)}, configurations=2)]) == []


# For real.


def test_a_launch_on_a_relative_path_is_stored_verified_and_extended(process: Any, run: Any, ray_address: str) -> None:
    """The cluster was started in another folder."""
    frame(label=NAMES, part=SPLIT).to_csv("mine.csv", index=False)
    fields = {"data.task": "file:mine.csv", "data.split": "part", "data.examples": 30, "data.validation_examples": 10}
    fields |= {"data.test_examples": 5, "model.width": 4, "optimizer.epochs": 2, "optimizer.batch_size": 10}
    Path("mine.py").write_text(f"from memsweep import Sweep\nSWEEP = Sweep('mine', {fields}, seeds=range(2))\n")
    done = process("launch", "mine.py", "--tracking-uri", "none", "--address", ray_address)
    assert done.returncode == 0, done.stderr
    rows = Store("results").trials().to_pylist()
    assert {row["data_content"] for row in rows} == {contents.content_of("file:mine.csv")}
    assert {(row["status"], row["class_labels"]) for row in rows} == {("finished", '"a cow, brown",cat,dog')}
    code, out, _ = run("verify", "--format", "jsonl")
    assert (code, [json.loads(line)["outcome"] for line in out.splitlines()]) == (0, ["exact", "exact"])
    assert json.loads(run("plan", "mine.py", "--format", "jsonl")[1])["missing"] == 0
    rewrite(Path("mine.csv"), lambda: frame(label=NAMES, part=SPLIT, x0=0.5).to_csv("mine.csv", index=False))
    assert json.loads(run("plan", "mine.py", "--format", "jsonl")[1])["missing"] == 2
    tasks.forget()  # as in a process of its own
    code, out, err = run("verify", "--format", "jsonl")
    assert code == 1
    assert "it has changed since the launch began" in out + err
