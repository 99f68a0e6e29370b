"""Data that a user gives to a launch from Python, `given:NAME`: frames, arrays and torch datasets, as named arrays.

They are stored once, as plain arrays under the hash of their content, and read from there by every process. Nothing is
pickled.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from memsweep.data.examples import NUMBER_OF, Columns, listed
from memsweep.data.noise import Array
from memsweep.data.numbering import Pool, Source, numbered
from memsweep.data.readers import examples_of
from memsweep.data.texts import DataError
from memsweep.spec.contents import given_name
from memsweep.spec.fields.groups import Data

FOLDER = "given"
"""Folder of a results folder that holds the contents."""
FIXES = {
    "column": "give one column of labels",
    "one_hot": "of one-hot rows give the number of the class",
    "short": "give a label for each example",
    "other": "give whole numbers or texts",
}
SOURCE = Source("give", FIXES)
INPUTS, LABEL = "inputs", "label"
"""Names of the arrays of a pair of inputs and labels; the second is the default of data.label."""


class Folder(Protocol):
    """A folder, or a prefix of an object store."""

    def __truediv__(self, name: str) -> Any:
        """Returns the path of a file inside."""


_folder: list[Any] = []
"""The results folder whose contents this process reads; empty: none."""


def read_from(results: Folder | None) -> None:
    """Makes this process read contents from a results folder, and from no other."""
    _folder[:] = [] if results is None else [results]


def folder() -> Any:
    """Returns the results folder whose contents this process reads; None: it reads none."""
    return _folder[0] if _folder else None


def path_in(results: Folder, content: str) -> Any:
    """Returns the path of a content in a results folder."""
    return results / FOLDER / f"{content}.npz"


def is_readable(results: Folder, content: str) -> bool:
    """Returns whether this machine can read a content in a results folder."""
    try:
        return bool(path_in(results, content).exists())
    except OSError:
        return False


def pool_of_given(data: Data) -> Pool:
    """Returns the pool of given data; the same object while the columns are the same.  Raises DataError."""
    return _pool(data.task, Columns(data.label, data.split, data.noise_label), data.content)


@lru_cache(maxsize=4)
def _pool(task: str, columns: Columns, content: str) -> Pool:
    where = f"data.task = {task!r}"
    try:
        examples = examples_of(_stored(task, content), columns)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    return numbered(where, examples, SOURCE, content)


def forget() -> None:
    """Clears the cache."""
    _pool.cache_clear()


def _stored(task: str, content: str) -> dict[str, Array]:
    """Returns the arrays of a content.  Raises DataError."""
    fix = f"Give it again: memsweep.launch(..., data={{{given_name(task)!r}: ...}})."
    if folder() is None:
        raise DataError("there is no results folder that holds it. " + fix)
    path = path_in(folder(), content)
    try:
        arrays = unpacked(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}, which holds it, is missing. {fix}") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} can't be read ({' '.join(str(error).split())}). {fix}") from error
    if content_of_arrays(arrays) != content:
        raise DataError(f"{path} holds other data than its name says. Delete it. {fix}")
    return arrays


def content_of_arrays(arrays: Mapping[str, Array]) -> str:
    """Returns 16 hexadecimal digits over the names, types, shapes and values of arrays."""
    content = hashlib.blake2b(digest_size=8)
    for name, array in arrays.items():
        content.update(f"{name}\0{array.dtype.str}{array.shape}\0".encode())
        content.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return content.hexdigest()


def packed(arrays: Mapping[str, Array]) -> bytes:
    """Returns arrays as a file in NumPy's format .npz, their names first."""
    stream = io.BytesIO()
    np.savez(stream, np.array(list(arrays)), *arrays.values(), allow_pickle=False)
    return stream.getvalue()


def unpacked(content: bytes) -> dict[str, Array]:
    """Returns the arrays of `packed`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        names, *arrays = (stored[f"arr_{number}"] for number in range(len(stored.files)))
    return dict(zip(names.tolist(), arrays, strict=True))


def arrays_of(given: Any) -> dict[str, Array]:
    """Returns what a user gives as named arrays of numbers and texts, each with a row for each example.

    given: a frame of pandas, a dictionary of arrays, a pair of inputs and labels, a torch dataset of such pairs or of
    dictionaries, or a dictionary that holds one of these for each split. Raises DataError.
    """
    arrays = dict(_named(given))
    if not arrays or not all(array.ndim and len(array) for array in arrays.values()):
        raise DataError("holds no examples; give arrays with a row for each example.")
    _check_missing({name: _missing_count(array) for name, array in arrays.items()})
    return arrays


def _check_missing(counts: Mapping[str, int]) -> None:
    if missing := [f"{name} {count}" for name, count in counts.items() if count]:
        raise DataError(f"values are missing in columns ({listed(missing)}); fill them, or drop their rows.")


def _named(given: Any) -> Iterator[tuple[str, Array]]:
    if _is_frame(given):
        names = list(map(str, given.columns))
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"several columns have the name {listed(repeated)}; rename them.")
        _check_missing(dict(zip(names, given.isna().sum().tolist(), strict=True)))
        yield from ((name, _array(name, given.iloc[:, place])) for place, name in enumerate(names))
    elif isinstance(given, Mapping):
        if given and set(given) <= set(NUMBER_OF) and not any(map(_is_array, given.values())):
            for part, piece in given.items():
                yield from ((f"{name}_{part}", array) for name, array in _named(piece))
        else:
            yield from ((str(name), _array(name, values)) for name, values in given.items())
    elif isinstance(given, tuple):
        yield from _pair(given)
    elif hasattr(given, "__getitem__") and hasattr(given, "__len__") and not _is_array(given):
        yield from _of_dataset(given)
    else:
        raise DataError(
            f"is of the type {type(given).__name__}; give a frame of pandas, a dictionary of arrays, a pair of inputs "
            "and labels, or a torch dataset. A file needs no data: name it in data.task, as file:PATH."
        )


def _pair(given: Sequence[Any]) -> Iterator[tuple[str, Array]]:
    if len(given) != 2:
        raise DataError(f"has {len(given)} values; give a pair of inputs and labels.")
    yield from ((name, _array(name, values)) for name, values in zip((INPUTS, LABEL), given, strict=True))


def _of_dataset(dataset: Any) -> Iterator[tuple[str, Array]]:
    """Yields the columns of a dataset, whose items are read once, in order."""
    items = [dataset[i] for i in range(len(dataset))]
    if items and all(isinstance(item, Mapping) for item in items):
        columns = {str(name): [item[name] for item in items] for name in items[0]}
    elif items and all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
        columns = {name: [item[place] for item in items] for place, name in enumerate((INPUTS, LABEL))}
    else:
        kind = type(items[0]).__name__ if items else "nothing"
        raise DataError(f"has items of the type {kind}; each must be a pair of an input and a label, or a dictionary.")
    for name, values in columns.items():
        arrays = [_plain(value) for value in values]
        if len(shapes := sorted({str(array.shape) for array in arrays})) > 1:
            raise DataError(f"column {name!r}: items have the shapes {listed(shapes)}; give one shape.")
        yield name, _array(name, np.stack(arrays))


def _array(name: Any, values: Any) -> Array:
    """Returns a column as an array of numbers or texts.  Raises DataError."""
    array = _plain(values)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        array = array.astype(str)
    elif array.dtype.kind == "O" and hasattr(getattr(values, "dtype", None), "numpy_dtype"):
        array = np.asarray(values.to_numpy(dtype=values.dtype.numpy_dtype))  # of pandas, with room for missing values
    elif array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind not in "fiubU":
        what = "Python objects" if array.dtype.kind == "O" else str(array.dtype)
        raise DataError(f"column {name!r}: holds {what}; give numbers or texts, such as array.astype(str).")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _plain(values: Any) -> Array:
    if np.ma.is_masked(values):
        raise DataError("masked values are not numbers; fill them, or drop their rows.")
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def _missing_count(array: Array) -> int:
    if array.dtype.kind == "f":
        return int(np.isnan(array).sum())
    return int((array == "").sum()) if array.dtype.kind == "U" else 0


def _is_frame(given: Any) -> bool:
    return hasattr(given, "columns") and hasattr(given, "iloc")


def _is_array(given: Any) -> bool:
    return isinstance(given, list | str) or hasattr(given, "dtype")
