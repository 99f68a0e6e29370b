"""Finds sweep files by path or bare name, executes them, and returns their sweeps."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from memsweep.spec.config import FIELDS, ConfigError
from memsweep.spec.sweep import Sweep, SweepError

OURS = "memsweep.sweeps"
"""The package of the sweeps that come with memsweep."""
SHOWN_PROBLEMS = 20


def load_sweep(path_or_name: str) -> Sweep:
    """Returns the only sweep of a file; arguments as for `load_sweeps`.

    Raises SweepError, also if the file defines several sweeps.
    """
    sweeps = load_sweeps(path_or_name)
    if len(sweeps) > 1:
        names = ", ".join(sweeps)
        raise SweepError(
            [f"{path_or_name}: defines {names}: name one of them, such as {path_or_name}:{next(iter(sweeps))}."]
        )
    return next(iter(sweeps.values()))


def load_sweeps(path_or_name: str) -> dict[str, Sweep]:
    """Returns constant name -> sweep for a file: only SWEEP if it is defined, else all sweeps in order of definition.

    path_or_name: a path, or the bare name of a file in ./sweeps or in the package memsweep.sweeps. A suffix `:NAME`
    selects the constant of that name.
    Raises SweepError, with the file's name and line, if the sweep can't be found, read or built.
    """
    path, constant = _sweep_path(path_or_name)
    try:
        text = path.read_text("utf-8-sig")
        code = compile(text, str(path), "exec")
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise SweepError([f"{path}, line {error.lineno}: {error.msg}: {line}"]) from error
    except (OSError, ValueError) as error:  # not text, or null bytes in older Pythons
        raise SweepError([f"{path}: can't be read ({error})."]) from error
    if doubled := list(_doubled_axes(path)):
        raise SweepError(doubled)
    scope: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(code, scope)
    except ConfigError as error:
        raise SweepError([f"{path}: {problem}" for problem in _shortened(error.problems)]) from error
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        raise SweepError([f"{path}{where}: {type(error).__name__}: {error}"]) from error
    sweeps = {name: value for name, value in scope.items() if isinstance(value, Sweep)}
    for sweep in sweeps.values():
        sweep.source = path, text
    wanted = constant or ("SWEEP" if "SWEEP" in scope else None)
    if wanted and wanted in sweeps:
        return {wanted: sweeps[wanted]}
    if wanted or not sweeps:
        other = f"found {type(scope[wanted]).__name__}" if wanted in scope else f"it has {', '.join(sweeps) or 'none'}"
        raise SweepError([f"{path}: has no {wanted or 'SWEEP'} = Sweep(...); {other}."])
    return {name: value for name, value in sweeps.items() if name == next(n for n in sweeps if sweeps[n] is value)}


def _doubled_axes(path: Path) -> Iterator[str]:
    """Yields a message per field that occurs twice in one {...} of a sweep file: Python silently drops the first."""
    for node in ast.walk(ast.parse(path.read_text("utf-8-sig"))):
        if isinstance(node, ast.Dict):
            keys = [ast.unparse(key) for key in node.keys if isinstance(key, ast.Constant) and key.value in FIELDS]
            for key in dict.fromkeys(key for i, key in enumerate(keys) if key in keys[:i]):
                yield f"{path}, line {node.lineno}: {key} is given twice in one {{...}}; keep one of them."


def known_sweeps() -> list[str]:
    """Returns the bare names of all sweep files in ./sweeps and in the package memsweep.sweeps, sorted."""
    return sorted({file.stem for folder in _folders() for file in folder.glob("[a-z]*.py")})


def _folders() -> list[Path]:
    """Returns the folders that are searched for bare names, in this order: ./sweeps, and the package's."""
    package = importlib.util.find_spec(OURS)
    return [Path("sweeps"), *(map(Path, package.submodule_search_locations or ()) if package else ())]


def _sweep_path(path_or_name: str) -> tuple[Path, str]:
    """Returns the file, and the constant named after the colon; "" without a colon."""
    before, colon, constant = path_or_name.rpartition(":")
    choices = [(path_or_name, ""), *([(before, constant)] if colon and constant.isidentifier() else [])]
    for name, constant in choices:
        for candidate in (Path(name), *(folder / f"{name}.py" for folder in _folders())):
            try:
                if candidate.is_file():
                    return candidate, constant
            except (OSError, ValueError):  # not a valid file name
                continue
    names = known_sweeps()
    near = difflib.get_close_matches(Path(path_or_name).stem, names, 1)
    hint = f" Did you mean {near[0]!r}?" if near else f" Available sweeps: {', '.join(names) or 'none'}."
    raise SweepError([f"{path_or_name}: no such sweep file.{hint}"])


def _shortened(problems: Sequence[str]) -> list[str]:
    rest = len(problems) - SHOWN_PROBLEMS
    return [*problems[:SHOWN_PROBLEMS], *([f"... and {rest} more."] if rest > 0 else [])]
