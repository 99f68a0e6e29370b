"""Extension of mkdocstrings: finds memsweep.analysis, and shows arguments as a list and examples as code.

In a docstring each argument is a line `name: meaning`, or follows another after two spaces. Markdown joins these.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Formats the docstrings of functions and classes, those of memsweep.analysis among them."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Adds memsweep.analysis, which lies beside the folder memsweep and not in it."""
        if pkg.name == "memsweep":
            pkg.set_member("analysis", loader.load("analysis"))

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Formats the docstring of a function."""
        if func.docstring:
            func.docstring.value = formatted(func.docstring.value, [parameter.name for parameter in func.parameters])

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Formats the docstring of a class; its arguments are those of __init__ or its fields."""
        if cls.docstring:
            names = [*(parameter.name for parameter in cls.parameters), *cls.attributes]
            cls.docstring.value = formatted(cls.docstring.value, names)


def formatted(docstring: str, names: list[str]) -> str:
    """Returns the docstring with a list item for each `name: meaning` of these names, and examples in code blocks."""
    text, mark, examples = docstring.partition("\n>>> ")
    code = f"\n\n```pycon\n>>> {examples}\n```" if mark else ""
    return _listed(text.rstrip(), names) + code


def _listed(text: str, names: list[str]) -> str:
    """Returns the text with arguments as list items, and each line that begins a sentence as a paragraph."""
    text = re.sub(r"(?<=\.)\n(?=[A-Z])", "\n\n", text.replace("**", r"\*\*"))
    if not names:
        return text
    argument = re.compile(rf"(?:^|  )({'|'.join(map(re.escape, names))}): ", re.MULTILINE)
    return argument.sub(r"\n- `\1`: ", text)
