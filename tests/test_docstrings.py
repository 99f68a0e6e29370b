"""Every public name has a docstring; those of functions begin with a verb in the third person."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ["memsweep", "analysis"]
"""Rooms that are held to it."""
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
VERB = re.compile(r"[A-Z][a-z]+s\b")
"""First word of a function's docstring: Returns, Yields, Trains."""
IMPERATIVE = re.compile(r"[A-Z][a-z]*[^\Ws]\b")
VERBS = ("launching.py", "submitting.py", "reading.py", "recording.py", "keeping.py")
HELP_TEXTS = {ROOT / "memsweep" / "cli" / name for name in VERBS}
"""Files whose docstrings are help texts, which begin with an imperative: Show, Run."""


def public(node, name=""):
    """Yields (dotted name, definition) of public classes, functions and methods; what a function defines is its own."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            path = f"{name}.{child.name}".lstrip(".")
            yield path, child
            if isinstance(child, ast.ClassDef):
                yield from public(child, path)


def problems(text, verb=VERB):
    tree = ast.parse(text)
    found = [] if ast.get_docstring(tree) else ["the module has no docstring"]
    for name, node in public(tree):
        docstring = ast.get_docstring(node)
        if not docstring:
            found.append(f"{name} has no docstring")
        elif not isinstance(node, ast.ClassDef) and not verb.match(docstring):
            found.append(f"{name}: begin with a verb, not {docstring.split()[0]!r}")
    return found


def test_what_lacks_a_docstring_is_seen():
    assert problems("def f(): pass") == ["the module has no docstring", "f has no docstring"]
    assert problems('"""M."""\nclass A:\n    """A noun."""\n    def g(self):\n        """The sum."""') == [
        "A.g: begin with a verb, not 'The'"
    ]
    assert problems('"""M."""\ndef f():\n    """Show it."""', IMPERATIVE) == []
    assert problems('"""M."""\ndef f():\n    """Shows it."""', IMPERATIVE) == ["f: begin with a verb, not 'Shows'"]
    assert problems('"""M."""\ndef _f():\n    def g(): pass\nclass _A:\n    def g(self): pass') == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_have_docstrings(path):
    assert problems(path.read_text("utf-8"), IMPERATIVE if path in HELP_TEXTS else VERB) == []
