"""Writes the pages of commands, tables and fields from the program itself, and the notebook's: `make docs`."""

import subprocess
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from docs import notebook
from memsweep.spec.config import FIELDS
from memsweep.spec.fields.field_spec import FieldSpec
from memsweep.spec.options import STREAMS
from memsweep.spec.schema import ROWS, SCHEMAS

FOLDER = Path(__file__).parent
NOTE = "*Written by `make docs` from the program itself.*"
EXIT_CODES = """\
Exit codes: 0 done; 1 some trials failed, are missing or differ, or a question could not be answered; 2 the command or a
file is wrong; 3 stored numbers differ by rounding alone (`verify`); 130 interrupted."""


def commands() -> str:
    """Every verb with its arguments and options, as Typer lists them."""
    shown = subprocess.run(
        [
            sys.executable,
            "-m",
            "typer",
            "memsweep.cli.app",
            "utils",
            "docs",
            "--name",
            "memsweep",
            "--title",
            "Commands",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    title, _, rest = shown.stdout.strip().partition("\n")
    return f"{title}\n\n{NOTE}\n{EXIT_CODES}\n{rest}\n"


def tables() -> str:
    """Every column of every table: name, type, meaning."""
    head = f"# Tables\n\n{NOTE}\nColumns hold counts and sums; divide them in the query."
    sections = [
        f"## {name}\n\nOne row is {ROWS[name]}.\n\n"
        + _table(
            ("column", "type", "meaning"),
            ((f"`{column.name}`", str(column.type), column.metadata[b"meaning"].decode()) for column in schema),
        )
        for name, schema in SCHEMAS.items()
    ]
    return "\n\n".join([head, *sections]) + "\n"


def fields() -> str:
    """Every field of a trial: name, meaning, what is allowed, default."""
    streams = ", ".join(f"`seeds.{stream}`" for stream in STREAMS)
    head = f"""\
# Fields

{NOTE}
What a sweep's base and axes, and `--set`, may name. Seeds are separate streams: {streams}
each follow `seed` unless set, so that one can be varied and the others held."""
    grouped = groupby(sorted(FIELDS.values(), key=lambda spec: not spec.group), lambda spec: spec.group)
    sections = [
        f"## {group or 'without a group'}\n\n"
        + _table(
            ("field", "meaning", "allowed", "default"),
            ((f"`{spec.name}`", spec.meaning, _allowed(spec), _default(spec)) for spec in specs),
        )
        for group, specs in grouped
    ]
    return "\n\n".join([head, *sections, OWN]) + "\n"


OWN = """\
## own

`own.<name>` is a hyperparameter that a user names: a finite number, a text, `True`, `False` or `None`. The name is a
Python identifier of ASCII letters, digits and `_`. [Read hyperparameters of your
own](how-to/own-network.md#read-hyperparameters-of-your-own) shows how code reads it."""


def _allowed(spec: FieldSpec) -> str:
    kind = "whole numbers" if spec.kind is int else "numbers"
    return spec.allowed.removeprefix("must ").removeprefix("be ").replace("lie in", f"{kind} in")


def _default(spec: FieldSpec) -> str:
    value = spec.default
    if value is None:
        return "as `seed`" if spec.group == "seeds" else "unset"
    return f"`{','.join(map(str, value)) if isinstance(value, tuple) else value}`" if value != () else "none"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


PAGES = {"commands.md": commands, "tables.md": tables, "fields.md": fields, "notebook.md": notebook.page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
