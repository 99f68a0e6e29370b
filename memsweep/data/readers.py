"""Reads a user's file as examples: .npz by NumPy, .csv and .parquet by Arrow. Nothing is unpickled."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from memsweep.data import folders, images
from memsweep.data.examples import Columns, Examples, joined, listed, part_in, parts_of
from memsweep.data.noise import Array
from memsweep.data.texts import DataError


def read(path: Path, columns: Columns) -> Examples:
    """Returns the examples of a file or folder.  Raises DataError without the task's name."""
    suffix = path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix
    if not path.exists():
        raise DataError("there is no such file or folder; give its path, absolute or from the launch's folder.")
    if suffix not in _READERS and not path.is_dir():
        raise DataError(
            f"a file of the kind {path.suffix or path.name!r} can't be read; use {listed(list(_READERS))}, or a folder "
            "of images, of IDX files or of a saved Hugging Face dataset."
        )
    try:
        return folders.read(path, columns, table_examples) if path.is_dir() else _READERS[suffix](path, columns)
    except (OSError, EOFError, zipfile.BadZipFile, pa.ArrowException, json.JSONDecodeError, KeyError) as error:
        raise DataError(f"can't be read ({' '.join(str(error).split())}); write it again.") from error


def _npz(path: Path, columns: Columns) -> Examples:
    if not zipfile.is_zipfile(path):
        raise DataError("is no archive of arrays; use numpy.savez with an array of inputs and an array of labels.")
    with np.load(path, allow_pickle=False) as stored:
        return examples_of({name: _array(stored, name) for name in stored.files}, columns)


def examples_of(arrays: dict[str, Array], columns: Columns) -> Examples:
    """Returns the examples of named arrays, of one set or of parts named in them, as x_train.  Raises DataError."""
    parts = {name: part_in(name) for name in arrays}
    if columns.label in arrays or not all(parts.values()):
        return _of_arrays(arrays, columns)
    pieces: dict[int, dict[str, Array]] = {}
    for name, (number, stem) in ((name, part) for name, part in parts.items() if part):
        pieces.setdefault(number, {})[stem] = arrays[name]
    plain = columns._replace(split="")
    return joined([(number, _of_arrays(pieces[number], plain)) for number in sorted(pieces)])


def _array(stored: Any, name: str) -> Array:
    try:
        array = stored[name]
    except ValueError as error:  # NumPy's for an array of Python objects
        raise DataError(
            f"array {name!r} holds Python objects, which can run code when they are read; store numbers or texts, such "
            "as array.astype(str)."
        ) from error
    return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else np.asarray(array)


def _of_arrays(arrays: dict[str, Array], columns: Columns) -> Examples:
    _check_names(list(arrays), columns, "array")
    others = [name for name in arrays if name not in columns]
    if len(others) > 1 and all(arrays[name].ndim == 1 for name in others):
        return _of_arrays(_in_one(arrays, others), columns)
    if len(others) != 1:
        raise DataError(
            f"has {len(others)} arrays besides the labels ({listed(others)}); must have one array of inputs [R, ...]."
        )
    labels, inputs = arrays[columns.label], arrays[others[0]]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    _check_rows(arrays)
    parts = parts_of(arrays[columns.split], columns.split) if columns.split else None
    second = arrays[columns.second].reshape(len(labels), -1)[:, 0] if columns.second else None
    return Examples(inputs, labels, parts, second)


def _in_one(arrays: dict[str, Array], names: Sequence[str]) -> dict[str, Array]:
    """Returns the arrays with these columns of numbers [R] as one array [R, D].  Raises DataError."""
    if texts := [name for name in names if arrays[name].dtype.kind == "U"]:
        raise DataError(f"column {texts[0]!r}: holds texts; must hold numbers; give its values as numbers, or drop it.")
    _check_rows(arrays)
    others = {name: array for name, array in arrays.items() if name not in names}
    return {**others, "inputs": np.column_stack([arrays[name] for name in names])}


def _check_rows(arrays: dict[str, Array]) -> None:
    rows = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        sizes = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise DataError(f"arrays have different lengths ({sizes}); store a row for each example in each array.")


def _csv(path: Path, columns: Columns) -> Examples:
    return table_examples(pa.csv.read_csv(path), columns)


def _parquet(path: Path, columns: Columns) -> Examples:
    return table_examples(pa.parquet.read_table(path), columns)


_READERS: dict[str, Callable[[Path, Columns], Examples]] = {".npz": _npz, ".csv": _csv, ".parquet": _parquet}


def table_examples(table: pa.Table, columns: Columns) -> Examples:
    """Returns the examples of a table: a column of labels, one of parts if there is one, and columns of inputs.

    Raises DataError.
    """
    _check_table(table, columns)
    others = [name for name in table.column_names if name not in columns]
    arrays = [_numbers(name, table[name]) for name in others]
    inputs = arrays[0] if len(arrays) == 1 and arrays[0].ndim > 1 else np.column_stack(arrays)
    labels, parts = _labels(table[columns.label]), None
    if columns.split:
        parts = parts_of(np.array(table[columns.split].cast(pa.string()).to_pylist()), columns.split)
    second = _labels(table[columns.second]) if columns.second else None
    return Examples(inputs, labels, parts, second, _class_names(table.schema, columns.label))


def _check_table(table: pa.Table, columns: Columns) -> None:
    """Raises DataError for columns without name, with equal names, or with missing values, and for lacking columns."""
    names = table.column_names
    if unnamed := [i for i, name in enumerate(names) if not name or name.startswith("__index_level_")]:
        raise DataError(
            f"column {unnamed[0] + 1} has no name, as pandas writes an index; write the table with index=False."
        )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"several columns have the name {listed(repeated)}; rename them.")
    _check_names(names, columns, "column")
    if len(names) == len({*columns} - {""}):
        raise DataError("has no column of inputs; add columns of numbers.")
    missing = {name: table[name].null_count for name in names if table[name].null_count}
    for name in names:
        if pa.types.is_floating(table[name].type):
            missing[name] = missing.get(name, 0) + (pc.sum(pc.is_nan(table[name])).as_py() or 0)
        elif pa.types.is_string(table[name].type):
            missing[name] = missing.get(name, 0) + (pc.sum(pc.equal(table[name], "")).as_py() or 0)
    if missing := {name: count for name, count in missing.items() if count}:
        counts = listed([f"{name} {count}" for name, count in missing.items()])
        raise DataError(f"values are missing in columns ({counts}); fill them, or drop their rows.")


def _check_names(names: list[str], columns: Columns, kind: str) -> None:
    for field, name in zip(("data.label", "data.split", "data.noise_label"), columns, strict=True):
        if name and name not in names:
            raise DataError(f"{field} = {name!r}: there is no such {kind}; name one of {listed(names)}.")


def _numbers(name: str, column: pa.ChunkedArray) -> Array:
    """Returns a column of inputs as an array [R, ...].  Raises DataError."""
    kind, array = column.type, column.combine_chunks()
    if images.is_image(kind):
        return images.decoded(array.field("bytes").to_pylist())
    shape = [len(array)]
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        if array.null_count:
            raise DataError(f"column {name!r}: lists are missing in {array.null_count} rows; drop these rows.")
        lengths = pc.unique(pc.list_value_length(array)).to_pylist()
        if len(lengths) != 1:
            raise DataError(f"column {name!r}: lists have different lengths; store lists of one length.")
        shape.append(lengths[0])
        array, kind = array.flatten(), kind.value_type
    if pa.types.is_decimal(kind):
        array, kind = array.cast(pa.float64()), pa.float64()
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DataError(f"column {name!r}: holds {kind}; must hold numbers; store its values as numbers, or drop it.")
    if array.null_count:
        raise DataError(f"column {name!r}: values are missing in lists; fill them.")
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)


def _labels(column: pa.ChunkedArray) -> Array:
    array = column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64())
    is_text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    return np.array(array.to_pylist()) if is_text else np.asarray(array.to_numpy(zero_copy_only=False))


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """Returns the names of the classes that Hugging Face's `datasets` stored with a table; (): none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(map(str, features[label].get("names") or ()))
    except (KeyError, TypeError, ValueError, AttributeError):
        return ()
