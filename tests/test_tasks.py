"""A trial's data depends on its own fields and streams only, and files are read with care."""

from __future__ import annotations

import gzip
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memsweep.data import cache, pools, tasks
from memsweep.data.tasks import DataError, TrialData, check, load, shape
from memsweep.spec.config import TrialConfig
from memsweep.spec.options import NOISE_KINDS, TASKS

ARRAYS = ("inputs", "labels", "true_labels", "corrupted", "held_out_inputs", "held_out_labels", "source_index")
NOISE = {"data.noise_kind": "labels", "data.noise_fraction": 0.5}
RANDOM = {"data.label_scheme": "random", "data.classes": 5}
SYNTHETIC = {"data.input_dim": 6, **RANDOM}
POOLS = {"digits": {}, "gaussian": SYNTHETIC, "bits": SYNTHETIC}


def config(**fields: Any) -> TrialConfig:
    """A small trial; `data__task` stands for `data.task`."""
    small = {"data.examples": 60, "data.validation_examples": 30, "data.test_examples": 20}
    return TrialConfig.of(small | {name.replace("__", "."): value for name, value in fields.items()})


def of(task: str, **fields: Any) -> TrialConfig:
    return config(**{"data.task": task} | POOLS.get(task, {}) | fields)


def moved(one: TrialData, other: TrialData) -> set[str]:
    return {name for name in ARRAYS if not np.array_equal(getattr(one, name), getattr(other, name))}


# What data depends on.


@pytest.mark.parametrize("task", POOLS)
def test_nothing_but_data_and_its_streams_moves_data(task: str) -> None:
    first = load(of(task, **NOISE))
    other = {"model.width": 7, "seeds.init": 3, "seeds.order": 4, "optimizer.batch_size": 8, "compute.dtype": "float64"}
    again = load(of(task, **NOISE, **other))
    assert moved(first, again) == set()
    assert again.fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("noise", {"labels", "corrupted"}),
        ("labels", {"labels", "true_labels", "corrupted", "held_out_labels"}),
        ("inputs", {"inputs", "held_out_inputs", "source_index"}),
    ],
)
def test_a_stream_moves_its_own_part_only(stream: str, expected: set[str]) -> None:
    first = load(of("digits", **NOISE, **RANDOM))
    other = load(of("digits", **NOISE, **RANDOM, **{f"seeds.{stream}": 9}))
    assert moved(first, other) == expected
    assert other.fingerprint != first.fingerprint


@pytest.mark.parametrize("task", POOLS)
@pytest.mark.parametrize("scheme", ["task", "random"])
def test_training_sets_are_nested_and_held_out_sets_stay(task: str, scheme: str) -> None:
    labels = RANDOM if scheme == "random" or task != "digits" else {}
    few, many = (load(of(task, **labels, **{"data.examples": n, **NOISE})) for n in (31, 200))
    for name in ("inputs", "labels", "true_labels", "corrupted", "source_index"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:31])
    assert not moved(few, many) & {"held_out_inputs", "held_out_labels"}


def test_no_example_is_in_two_sets() -> None:
    data = load(config(data__examples=1247, data__validation_examples=300, data__test_examples=250))
    rows = np.concatenate([data.inputs, data.held_out_inputs])
    whole = pools.pool_of_files("digits", "").inputs
    np.testing.assert_array_equal(sorted(map(tuple, rows * 16)), sorted(map(tuple, whole)))


NEEDED: dict[str, dict[str, Any]] = {
    "confusion": {"data__noise_matrix": (1 - np.eye(10)) / 9},
    "added_noise": {"data__noise_covariance": (1.0,)},
}


@pytest.mark.parametrize("kind", [kind for kind in NOISE_KINDS[1:] if kind != "second_labels"])  # see test_noise_kinds
def test_held_out_data_is_never_corrupted(kind: str) -> None:
    noise = {"data__noise_kind": kind, "data__noise_fraction": 1.0, **NEEDED.get(kind, {})}
    clean, noisy = load(config()), load(config(**noise))
    assert noisy.corrupted.sum() > 40
    assert moved(clean, noisy) <= {"inputs", "labels", "corrupted"}
    assert noisy.held_out_inputs is clean.held_out_inputs


# Sharing.


def test_trials_of_a_split_share_arrays_as_long_as_one_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CACHE_BYTES", 0)
    first = load(config(seed=501))
    held = [load(config(seed=seed)) for seed in range(502, 520)]
    relabelled = load(config(seed=501, seeds__noise=9, **NOISE, **RANDOM))
    assert len({id(data.inputs) for data in held}) == len(held)
    assert relabelled.inputs is first.inputs
    assert relabelled.held_out_inputs is first.held_out_inputs
    assert load(config(seed=501, model__width=9)) is first
    assert load(config(seed=501, data__noise_kind="random_pixels", data__noise_fraction=0.5)).inputs is not first.inputs


def test_recent_data_is_kept_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    recent = cache.SharedCache[TrialData]()
    data = [load(config(seed=seed)) for seed in range(600, 604)]
    monkeypatch.setattr(cache, "CACHE_BYTES", 2 * data[0].nbytes)
    for index in (0, 1, 0, 2, 3, 2):
        recent.get(index, partial(data.__getitem__, index))
    assert list(recent._recent) == [3, 2]
    assert recent._recent_bytes == 2 * data[0].nbytes


def test_shared_arrays_cannot_be_written() -> None:
    data = load(config(**NOISE))
    for name in ARRAYS:
        with pytest.raises(ValueError, match="read-only"):
            getattr(data, name)[0] = 1


# Tasks.


@pytest.mark.parametrize(
    ("task", "rows", "inputs", "largest"), [("digits", 1797, 64, 1.0), ("mnist5k", 5000, 784, 1.0)]
)
def test_packaged_images(task: str, rows: int, inputs: int, largest: float) -> None:
    data = load(of(task, **{"data.examples": rows, "data.validation_examples": 0, "data.test_examples": 0}))
    assert (data.inputs.shape, data.held_out_inputs.shape, data.classes) == ((rows, inputs), (0, inputs), 10)
    assert (data.inputs.min(), data.inputs.max(), data.inputs.dtype) == (0, largest, np.float32)
    assert data.labels.dtype == data.source_index.dtype == np.int64
    assert np.bincount(data.labels).min() > 0.09 * rows


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    data = load(config())
    np.testing.assert_array_equal(data.inputs, inputs[data.source_index] / 16)
    np.testing.assert_array_equal(data.labels, labels[data.source_index])


def test_synthetic_inputs() -> None:
    sizes = {"data.examples": 5000, "data.validation_examples": 5000}
    for task, mean, deviation in (("gaussian", 0, 1), ("bits", 0.5, 0.5)):
        data = load(of(task, **sizes))
        assert abs(data.inputs.mean() - mean) < 4 * deviation / np.sqrt(data.inputs.size)
        assert abs(data.inputs.std() - deviation) < 4 * deviation / np.sqrt(data.inputs.size)
        assert np.abs(np.corrcoef(data.inputs.T, data.held_out_inputs[:5000].T) - np.eye(12)).max() < 5 / np.sqrt(5000)
    assert set(np.unique(data.inputs)) == {0, 1}


def test_random_labels_are_uniform_and_independent_of_the_task() -> None:
    data = load(config(data__examples=1000, data__validation_examples=700, **RANDOM))
    own = load(config(data__examples=1000, data__validation_examples=700))
    for labels, true in ((data.labels, own.labels), (data.held_out_labels, own.held_out_labels)):
        assert abs(np.bincount(labels) - len(labels) / 5).max() < 4.5 * np.sqrt(len(labels) / 5)
        assert abs(np.mean(labels == true) - 0.1) < 4 * np.sqrt(0.09 / len(labels))
    assert load(config(data__label_scheme="random")).classes == 10


def test_unique_labels() -> None:
    unique = config(data__label_scheme="unique", data__validation_examples=0, data__test_examples=0)
    data = load(unique)
    np.testing.assert_array_equal(data.labels, np.arange(60))
    assert (data.classes, len(data.held_out_labels), shape(unique)) == (60, 0, (64, 60))


@pytest.mark.parametrize("task", [task for task in TASKS if task in ("digits", "mnist5k", "gaussian", "bits")])
def test_shape_agrees_with_what_is_loaded(task: str) -> None:
    trial = of(task)
    data = load(trial)
    assert shape(trial) == (data.inputs.shape[1], data.classes)


def test_shape_needs_no_files() -> None:
    assert shape(of("cifar10")) == (3072, 10)
    assert shape(of("mnist", **RANDOM)) == (784, 5)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"data.examples": 1748}, ["1798 examples in all, task 'digits' has 1797"]),
        ({"data.examples": 1747}, []),
        ({"data.input_dim": 65, "data.examples": 9999}, ["data.input_dim = 65", "data.examples = 9999"]),
        ({"data.task": "nowhere.tasks:name"}, ["nowhere.tasks:name: can't be imported"]),
    ],
)
def test_check_reports_every_problem_and_load_raises_it(fields: dict[str, Any], expected: list[str]) -> None:
    trial = config(**fields)
    problems = check(trial)
    assert len(problems) == len(expected)
    assert all(part in problem for part, problem in zip(expected, problems, strict=True))
    if problems:
        with pytest.raises(DataError) as raised:
            load(trial)
        assert str(raised.value).splitlines() == problems


def test_the_same_configuration_gives_the_same_bits_for_ever() -> None:
    """A change here changes every number that follows: raise PROTOCOL, or take the change back."""
    gaussian = of("gaussian", **{"data.noise_kind": "gaussian_inputs", "data.noise_fraction": 0.5})
    pixels = config(data__noise_kind="random_pixels", data__noise_fraction=0.5, **RANDOM)
    found = [load(trial).fingerprint for trial in (config(**NOISE), pixels, gaussian)]
    assert found == ["8b1f5f4cf0a8b5b2", "1d8906bf33189f67", "81b1123da519638d"]


# A user's own task.

USER_TASK = """
import numpy as np

def rows(config, rng):
    assert config.model.width == 32 and config.data.noise_fraction == 0
    return np.column_stack([rng.normal(size=(200, 2)), np.full(200, config.seed)]), np.arange(200) % 4

def one_class(config, rng): return np.ones((200, 3)), np.zeros(200, int)
def texts(config, rng): return np.full((200, 1), "a"), np.zeros(200, int)
def infinite(config, rng): return np.full((200, 3), 1e300), np.zeros(200, int)
def not_a_number(config, rng): return np.full((200, 3), np.nan), np.zeros(200, int)
def short(config, rng): return np.zeros((200, 3)), np.zeros(7, int)
def broken(config, rng): raise KeyError("no such thing")
NUMBER = 3
"""


@pytest.fixture
def my_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tasks_of_test.py").write_text(USER_TASK)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_users_task_by_import_path(my_tasks: None) -> None:
    trial = of("my_tasks_of_test:rows", **NOISE, **{"model.width": 9})
    data = load(trial)
    assert check(trial) == []
    assert shape(trial) == (3, 4) == (data.inputs.shape[1], data.classes)
    assert (data.inputs.dtype, len(data.inputs), len(data.held_out_inputs)) == (np.float32, 60, 50)
    np.testing.assert_array_equal(data.true_labels, data.source_index % 4)
    other = load(of("my_tasks_of_test:rows", **NOISE, **{"seeds.inputs": 5}))
    assert (other.inputs[:, 2] == 5).all()
    assert moved(data, other) >= {"inputs", "source_index"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("texts", r"inputs are <U1 \(200, 1\); must be numbers"),
        ("infinite", "finite"),
        ("not_a_number", "finite"),
        ("short", r"labels are int64 \(7,\)"),
        ("broken", "KeyError: 'no such thing'"),
        ("NUMBER", "not callable"),
        ("missing", "can't be imported"),
    ],
)
def test_what_a_users_task_returns_is_checked(my_tasks: None, name: str, expected: str) -> None:
    trial = of(f"my_tasks_of_test:{name}")
    with pytest.raises(DataError, match=expected) as raised:
        load(trial)
    assert f"my_tasks_of_test:{name}" in str(raised.value)
    assert check(trial) == str(raised.value).splitlines()


def test_wrong_labels_of_one_class_are_reported(my_tasks: None) -> None:
    noise = {"data.noise_kind": "wrong_labels", "data.noise_fraction": 0.5}
    trial = of("my_tasks_of_test:one_class", **noise)
    assert [problem[:34] for problem in check(trial)] == ["data.noise_kind = 'wrong_labels': "]
    with pytest.raises(DataError, match="wrong_labels"):
        load(trial)


# Files.

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR = tuple(file.name for file in pools.FILE_TASKS["cifar10"].files)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$MEMSWEEP_DATA with small datasets that pass for the real ones: 9 + 4 images of mnist, 10 + 2 of cifar10."""
    rng = np.random.default_rng(1)
    monkeypatch.setenv("MEMSWEEP_DATA", str(tmp_path))
    monkeypatch.setattr(pools, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    files = []
    for name, sizes in zip(IDX, ((9, 2, 3), (9,), (4, 2, 3), (4,)), strict=True):
        values = rng.integers(0, 10, int(np.prod(sizes)), dtype=np.uint8).tobytes()
        header = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
        files.append(pools.File.idx(name, hashlib.md5(header + values).hexdigest(), *sizes))
        write(tmp_path / "mnist" / name, header + values)
    facts = pools.Facts(9, 4, 6, 10, 255, tuple(files), "Get MNIST.", pools.from_idx)
    monkeypatch.setitem(pools.FILE_TASKS, "mnist", facts)
    monkeypatch.setitem(pools.FILE_TASKS, "fashion_mnist", facts._replace(remedy="Run `make data`."))
    files = []
    for index, name in enumerate(CIFAR):
        records = rng.integers(0, 256, (2, 3073), dtype=np.uint8)
        records[:, 0] = index
        files.append(pools.File(name, 2 * 3073, f"sha1:{hashlib.sha1(records.tobytes()).hexdigest()}"))
        write(tmp_path / "cifar10" / "cifar-10-batches-bin" / name, records.tobytes())
    facts = pools.FILE_TASKS["cifar10"]._replace(rows=10, test_rows=2, files=tuple(files))
    monkeypatch.setitem(pools.FILE_TASKS, "cifar10", facts)
    tasks.forget()
    return tmp_path


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def small(task: str, **fields: Any) -> TrialConfig:
    return of(task, **{"data.examples": 5, "data.validation_examples": 4, "data.test_examples": 2, **fields})


def test_official_test_sets_are_kept_for_testing(folder: Path) -> None:
    raw = [np.frombuffer((folder / "mnist" / name).read_bytes(), np.uint8) for name in IDX]
    images = np.concatenate([raw[0][16:], raw[2][16:]]).reshape(13, 6).astype(np.float32) / np.float32(255)
    labels = np.concatenate([raw[1][8:], raw[3][8:]])
    data = load(small("mnist"))
    np.testing.assert_array_equal(data.inputs, images[data.source_index])
    np.testing.assert_array_equal(data.labels, labels[data.source_index])
    assert data.source_index.max() < 9
    seen = np.concatenate([data.inputs, data.held_out_inputs[:4]])
    assert sorted(map(tuple, seen)) == sorted(map(tuple, images[:9]))
    assert {tuple(row) for row in data.held_out_inputs[4:]} <= {tuple(row) for row in images[9:]}


def test_cifar_records(folder: Path) -> None:
    data = load(small("cifar10"))
    name = CIFAR[data.source_index[0] // 2]
    record = np.frombuffer((folder / "cifar10" / "cifar-10-batches-bin" / name).read_bytes(), np.uint8)
    record = record.reshape(2, 3073)[data.source_index[0] % 2]
    np.testing.assert_array_equal(data.inputs[0], record[1:].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(data.labels, data.source_index // 2)
    assert set(data.held_out_labels[4:]) == {5}


@pytest.mark.parametrize("place", ["mnist", ".", "MNIST/raw", "mnist/MNIST/raw"])
def test_compressed_files_give_the_same_data(folder: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load(small("mnist"))
    for level, name in enumerate(IDX):
        write(folder / "packed" / place / f"{name}.gz", gzip.compress((folder / "mnist" / name).read_bytes(), level))
    monkeypatch.setenv("MEMSWEEP_DATA", str(folder / "packed"))
    packed = load(small("mnist"))
    assert packed is not plain
    assert packed.fingerprint == plain.fingerprint


def test_a_bad_copy_hides_no_good_one_and_two_are_as_good_as_one(folder: Path) -> None:
    for name in IDX:
        content = (folder / "mnist" / name).read_bytes()
        write(folder / "fashion_mnist" / name, b"of another dataset")
        write(folder / "fashion_mnist" / f"{name}.gz", gzip.compress(content))
        write(folder / "debian" / name, content)
    assert check(small("fashion_mnist")) == []
    assert load(small("fashion_mnist")).fingerprint == load(small("mnist")).fingerprint


def test_torchvisions_folders_are_read_and_its_pickles_are_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {task: load(small(task)).fingerprint for task in ("mnist", "cifar10")}
    monkeypatch.setenv("MEMSWEEP_DATA", str(folder / "torchvision"))
    for name in IDX:
        write(folder / "torchvision" / "FashionMNIST" / "raw" / name, (folder / "mnist" / name).read_bytes())
    for name in CIFAR:
        content = (folder / "cifar10" / "cifar-10-batches-bin" / name).read_bytes()
        write(folder / "torchvision" / "cifar-10-batches-bin" / name, content)
    assert load(small("fashion_mnist")).fingerprint == plain["mnist"]
    assert load(small("cifar10")).fingerprint == plain["cifar10"]
    (folder / "torchvision" / "cifar-10-batches-bin").rename(folder / "torchvision" / "elsewhere")
    pickles = folder / "torchvision" / "cifar-10-batches-py"
    write(pickles / "data_batch_1", b"cos\nsystem\n(S'false'\ntR.")
    tasks.forget()
    [problem] = check(small("cifar10"))
    assert f"{pickles} is Python's version, in pickles, which are never opened, since they can run code" in problem
    assert "Get CIFAR-10's binary version" in problem
    [problem] = check(small("mnist"))
    assert "MNIST/raw" in problem
    assert "pickle" not in problem


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("name", "damage", "expected"),
    [
        (IDX[0], lambda content: content[:-1], "has 69 bytes uncompressed, expected 70"),
        (IDX[0], lambda content: content + b"x", "has more bytes uncompressed, expected 70"),
        (IDX[1], lambda content: b"\0\0\x08\x03" + content[4:], "begins with 0000080300000009, expected 00000801"),
        (IDX[2], flipped, "has the md5"),
        (IDX[3] + ".gz", lambda content: gzip.compress(content)[:-9], "cut off"),
        (IDX[3] + ".gz", lambda content: flipped(gzip.compress(content)), "can't be read"),
        (IDX[3] + ".gz", lambda content: content, "can't be read"),
    ],
)
def test_damaged_files_are_refused(folder: Path, name: str, damage: Any, expected: str) -> None:
    original = folder / "mnist" / name.removesuffix(".gz")
    content = original.read_bytes()
    original.unlink()
    write(folder / "mnist" / name, damage(content))
    problems = check(small("mnist"))
    assert len(problems) == 1
    assert "'mnist'" in problems[0]
    assert f"{folder / 'mnist' / name} {expected}" in problems[0].replace("can't be read or is cut off", expected)
    with pytest.raises(DataError):
        load(small("mnist", seed=77))


@pytest.mark.parametrize(
    ("damage", "expected"), [(flipped, "has the sha1"), (lambda content: content[:5], "has 5 bytes")]
)
def test_damaged_cifar_batches_are_refused(folder: Path, damage: Any, expected: str) -> None:
    path = folder / "cifar10" / "cifar-10-batches-bin" / CIFAR[3]
    path.write_bytes(damage(path.read_bytes()))
    assert f"{path} {expected}" in "".join(check(small("cifar10")))


@pytest.mark.parametrize("task", ["mnist", "cifar10", "fashion_mnist"])
def test_missing_files_say_what_to_get_and_where_to_put_it(task: str, folder: Path, monkeypatch: Any) -> None:
    names, place = (CIFAR, "cifar-10-batches-bin") if task == "cifar10" else (IDX, ".")
    (folder / task / place).mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / task / place / name).unlink(missing_ok=True)
    [problem] = check(small(task))
    for part in (f"'{task}'", *names, str(folder / task), "MEMSWEEP_DATA", pools.FILE_TASKS[task].remedy):
        assert part in problem
    monkeypatch.delenv("MEMSWEEP_DATA")
    assert "MEMSWEEP_DATA is not set" in "".join(check(small(task)))


@pytest.mark.skipif(
    not pools.DEBIAN_FASHION_MNIST.is_dir(), reason="dataset-fashion-mnist is not installed: run `make data`"
)
def test_fashion_mnist_of_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMSWEEP_DATA", raising=False)
    sizes = {"data.examples": 59000, "data.validation_examples": 1000, "data.test_examples": 10000}
    trial = of("fashion_mnist", **sizes)
    assert check(trial) == []
    data = load(trial)
    assert np.bincount(np.concatenate([data.labels, data.held_out_labels[:1000]])).tolist() == [6000] * 10
    assert np.bincount(data.held_out_labels[1000:]).tolist() == [1000] * 10
    assert abs(data.inputs.mean() - 0.2860) < 0.001
