"""Data given to a launch from Python: stores it in the results folder, and makes this process read it from there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from memsweep.data import given
from memsweep.data.texts import DataError
from memsweep.results.storage.location import Location
from memsweep.results.storage.parts import StoreError, write_whole
from memsweep.results.storage.store import Store
from memsweep.spec import contents
from memsweep.spec.contents import GIVEN, GIVEN_NAME
from memsweep.spec.sweep import Sweep, SweepError

NAMES = "names.json"
"""File that holds name -> content, as last given."""
MIB = 1 << 20


def prepare(sweeps: Sequence[Sweep], store: Store | None, data: Mapping[str, Any] | None = None) -> list[str]:
    """Stores given data, and sets the content of each name that the sweeps use; returns a remark on each.

    store: None where nothing is stored yet.  data: name -> frame, arrays or dataset; default: those stored before.
    Raises SweepError for data that can't be used, a name that no sweep uses, and a name without data.
    """
    used = dict.fromkeys(name for sweep in sweeps for name in _names(sweep))
    names = _stored_names(store) if store is not None and used else {}
    problems = [_unused(name, list(used)) for name in data or () if name not in used]
    arrays = {}
    for name, value in (data or {}).items():
        try:
            arrays[name] = given.arrays_of(value)
        except (DataError, ValueError, TypeError) as error:
            problems.append(f"data[{name!r}]: {error}")
    problems += [
        f"data.task = {GIVEN + name!r}: no data of this name is given or stored; launch from Python with "
        f"memsweep.launch(..., data={{{name!r}: ...}})."
        for name in used
        if name not in names and name not in (data or {})
    ]
    if problems:
        raise SweepError(problems)
    given.read_from(store.results if store is not None else None)
    if store is not None:
        names |= {name: _written(store.results, columns) for name, columns in arrays.items()}
        if arrays:
            write_whole(store.results / given.FOLDER / NAMES, json.dumps(names, indent=1).encode())
    contents.give(names)
    return [remark for name in used if store is not None and (remark := _remark(store.results, name, names[name]))]


def _names(sweep: Sweep) -> list[str]:
    """Returns the names of given data that the trials of a sweep may use."""
    space: Mapping[str, Any] = getattr(sweep.search, "space", {})
    values = [values["data.task"] for values in sweep.values_of(["data.task"])]
    tasks = [*values, *(space.get("data.task", ()))]
    return [contents.given_name(task) for task in tasks if contents.is_given(task)]


def _unused(name: str, used: Sequence[str]) -> str:
    if not GIVEN_NAME.fullmatch(str(name)):
        return f"data[{name!r}]: a name must begin with a letter or digit, and hold only these, _, . and -."
    others = f"the sweeps use {', '.join(used)}" if used else "the sweeps use no given data"
    return f"data[{name!r}]: no sweep uses it ({others}); set data.task to {GIVEN + name!r}, or leave it out."


def _written(results: Location, arrays: Mapping[str, Any]) -> str:
    """Stores arrays under the hash of their content, which is returned; stored arrays are not written again."""
    content = given.content_of_arrays(arrays)
    path = given.path_in(results, content)
    if not path.exists():
        write_whole(path, given.packed(arrays))
    return content


def _stored_names(store: Store) -> dict[str, str]:
    path = store.results / given.FOLDER / NAMES
    if not path.exists():
        return {}
    try:
        return {str(name): str(content) for name, content in json.loads(path.read_text()).items()}
    except (ValueError, AttributeError) as error:
        raise StoreError(
            f"{path}: can't be read ({error}). Delete it, and launch from Python with data=..., which writes it again."
        ) from error


def _remark(results: Location, name: str, content: str) -> str:
    """Returns where the data of a name is stored, and its size; "" if it is missing, which its trials report."""
    path = given.path_in(results, content)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return ""
    text = f"{size / MIB:.1f} MiB" if size >= MIB else f"{size:,} bytes"
    return f"data.task = {GIVEN + name!r}: {text}, stored once in {path}."
