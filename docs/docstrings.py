"""Extension of mkdocstrings: shows the arguments in a docstring as a list, and its examples as code.

In a docstring each argument is a line `name: meaning`, or follows another after two spaces. Markdown joins these.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class ArgumentLists(griffe.Extension):
    """Formats the docstrings of functions and classes."""

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
    paragraphs = docstring.split("\n\n")
    return "\n\n".join(
        f"```pycon\n{text}\n```" if text.startswith(">>> ") else _listed(text, names) for text in paragraphs
    )


def _listed(paragraph: str, names: list[str]) -> str:
    if not names:
        return paragraph
    argument = re.compile(rf"(?:^|  )({'|'.join(map(re.escape, names))}): ", re.MULTILINE)
    text = argument.sub(r"\n- `\1`: ", paragraph)
    return re.sub(r"^(Returns |Raises |Trials )", r"\n\1", text, flags=re.MULTILINE)
