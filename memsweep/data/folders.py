"""Reads a user's folder as examples: images in a folder a class, IDX files, or a saved Hugging Face dataset."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from memsweep.data import images
from memsweep.data.examples import NUMBER_OF, PARTS, TRAIN, Columns, Examples, joined, listed
from memsweep.data.noise import Array
from memsweep.data.texts import DataError

_IDX = re.compile(rf"(?:.*-)?({'|'.join(NUMBER_OF)})-(images|labels)[-.]idx\d-\w+(?:\.gz)?")
_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read(folder: Path, columns: Columns, of_table: Callable[[pa.Table, Columns], Examples]) -> Examples:
    """Returns the examples of a folder.  of_table: returns those of a table.  Raises DataError."""
    names = sorted(path.name for path in folder.iterdir())
    arrow = {"dataset_dict.json", "dataset_info.json", "state.json"} & set(names)
    is_saved = arrow or any(name.endswith(".arrow") for name in names)
    if columns.second and not is_saved:
        raise DataError(f"data.noise_label = {columns.second!r}: the folder has no columns; set it to ''.")
    if any(map(_IDX.fullmatch, names)):
        return _idx(folder, names)
    if columns.split:
        raise DataError(
            f"data.split = {columns.split!r}: a folder's parts are folders named train, test; set it to ''."
        )
    if is_saved:
        return _saved_dataset(folder, columns, of_table)
    return _images(folder)


def _idx(folder: Path, names: Sequence[str]) -> Examples:
    """Returns the examples of IDX files named as MNIST's: train-images-idx3-ubyte, t10k-labels-idx1-ubyte.gz."""
    files: dict[int, dict[str, Array]] = {}
    for name in names:
        if match := _IDX.fullmatch(name):
            files.setdefault(NUMBER_OF[match[1]], {}).setdefault(match[2], _idx_array(folder / name))
    for number, pair in files.items():
        if len(pair) < 2 or len(pair["images"]) != len(pair["labels"]):
            counts = ", ".join(f"{len(array)} {kind}" for kind, array in pair.items())
            raise DataError(f"the IDX files of {PARTS[number][0]} have {counts}; need as many labels as images.")
    return joined([(number, Examples(pair["images"], pair["labels"])) for number, pair in sorted(files.items())])


def _idx_array(path: Path) -> Array:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        content = stream.read()
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise DataError(f"{path.name}: begins with {content[:4].hex()}, so it is no IDX file; download it again.")
    offset = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:offset], ">i4").tolist()
    kind = np.dtype(_IDX_TYPES[content[2]])
    if len(content) != offset + kind.itemsize * math.prod(shape):
        raise DataError(f"{path.name}: has {len(content)} bytes, too few or many for its header; download it again.")
    return np.frombuffer(content, kind, offset=offset).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def _saved_dataset(folder: Path, columns: Columns, of_table: Callable[[pa.Table, Columns], Examples]) -> Examples:
    """Returns the examples of a folder by `save_to_disk` of Hugging Face's `datasets`, with or without parts."""
    if not (folder / "dataset_dict.json").is_file():
        return of_table(_arrow_table(folder), columns)
    parts = json.loads((folder / "dataset_dict.json").read_text("utf-8"))["splits"]
    if unknown := [part for part in parts if part not in NUMBER_OF]:
        raise DataError(f"has the parts {listed(unknown)}; parts must be train, validation and test.")
    pieces = ((NUMBER_OF[part], of_table(_arrow_table(folder / part), columns)) for part in parts)
    return joined(sorted(pieces, key=lambda piece: piece[0]))


def _arrow_table(folder: Path) -> pa.Table:
    state = folder / "state.json"  # lists the files in their order
    if state.is_file():
        names = [file["filename"] for file in json.loads(state.read_text("utf-8"))["_data_files"]]
    else:
        names = sorted(path.name for path in folder.glob("*.arrow"))
    tables = []
    for name in names:
        with pa.memory_map(str(folder / Path(name).name)) as source:
            tables.append(pa.ipc.open_stream(source).read_all())
    if not tables:
        raise DataError(f"{folder}: has no .arrow file; save the dataset again with save_to_disk.")
    return pa.concat_tables(tables)


def _images(folder: Path) -> Examples:
    """Returns the images of a folder with a folder a class, or with folders train and test of such folders."""
    folders = list(_folders(folder))
    parts = [sub for sub in folders if sub.name.lower() in NUMBER_OF]
    if parts and len(parts) < len(folders):
        others = listed([sub.name for sub in folders if sub not in parts])
        raise DataError(f"has folders of parts ({listed([sub.name for sub in parts])}) beside others ({others}).")
    if not parts:
        return _images_of(folder)._replace(parts=None)
    pieces = [(NUMBER_OF[sub.name.lower()], _images_of(sub)) for sub in parts]
    colours = {piece.inputs.ndim for _, piece in pieces}
    if len(colours) > 1:
        pieces = [(number, piece._replace(inputs=_coloured(piece.inputs))) for number, piece in pieces]
    return joined(sorted(pieces, key=lambda piece: piece[0]))


def _coloured(inputs: Array) -> Array:
    return inputs if inputs.ndim == 4 else np.repeat(inputs[..., None], 3, axis=3)


def _images_of(folder: Path) -> Examples:
    files = [
        (sub.name, path)
        for sub in _folders(folder)
        for path in sorted(sub.rglob("*"))
        if path.suffix.lower() in images.SUFFIXES
    ]
    if not files:
        raise DataError(
            f"{folder}: has no images in sub-folders; put the images of each class into a folder named like the class."
        )
    parts = np.full(len(files), TRAIN, np.int8)
    return Examples(images.decoded([path for _, path in files]), np.array([name for name, _ in files]), parts)


def _folders(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
