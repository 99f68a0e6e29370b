"""Docstrings, comments, messages and pages are in plain English: words and names that they do without."""

import ast
import io
import re
import tokenize

import pytest

from tests.pages import NAMES, ROOT

FILES = sorted(path for folder in ("memsweep", "analysis") for path in (ROOT / folder).rglob("*.py"))
ROOMS = ["memsweep", "analysis"]
"""Rooms whose messages and names are held to it, too."""
BANNED = {
    "tell": r"\b(?:tells?|told)\b",  # software shows, states, names; what differs is distinguished
    "nobody": r"\b(?:nobody|whoever)\b",
}
BANNED_IN_MESSAGES = BANNED | {
    "ask": r"\b(?:asks?|asked)\b",  # software requests, requires, runs
    "of your own": r"\bof (?:your|one's|its) own\b",
}
BANNED_NAMES = {"own", "found", "told", "said", "asked", "known", "held", "here"}
"""Pronouns and participles that name no variable, argument, field or function; except `own`, as argument or field."""
EXCEPTIONS = {
    "memsweep/run/rounds/search.py": "ask and tell are Optuna's terms",
}


def prose(text):
    """Comments and docstrings of a file: strings that are a statement by themselves."""
    previous = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_statement = previous in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and is_statement):
            yield token.string
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            previous = token.type


def messages(text):
    """All other strings of several words: errors, rules, meanings of fields and columns."""
    tree = ast.parse(text)
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements
        if is_text and " " in node.value.strip():
            yield node.value


def names(text):
    """Names of variables, fields, arguments and functions, without leading underscores."""
    nodes = list(ast.walk(ast.parse(text)))
    fields = {node.target for node in nodes if isinstance(node, ast.AnnAssign)}
    for node in nodes:
        if node in fields and isinstance(node, ast.Name) and node.id == "own":  # the field of a trial
            continue
        if isinstance(node, ast.arg) and node.arg != "own":
            yield node.arg.lstrip("_")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name.lstrip("_").lower()
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield (node.id if isinstance(node, ast.Name) else node.attr).lstrip("_")


def banned(parts, words=BANNED):
    parts = list(parts)
    return [word for word, form in words.items() if any(re.search(form, part) for part in parts)]


def test_a_banned_word_is_seen_in_prose_alone():
    assert banned(prose('"""What it tells."""\n')) == ["tell"] and banned(prose("x = 1  # told\n")) == ["tell"]
    assert banned(prose('def f():\n    """For whoever reads."""\n')) == ["nobody"]
    assert not banned(prose('told = "tells nobody"\nsearch.told\n'))


def test_a_banned_word_is_seen_in_messages():
    assert banned(messages('raise E(f"{x} is told twice")')) == ["tell"]
    assert not banned(messages('"""What it tells people."""\nx = {"told": 1}'))


def test_a_banned_name_is_seen_where_it_is_given():
    text = "found = 1\ndef f(own, here): pass\nfor self._held in x: pass\ndef _told(): pass\ny.said"
    assert BANNED_NAMES & set(names(text)) == {"found", "here", "held", "told"}


FOREIGN = {"CHANGELOG.md", "docs/commands.md", "docs/tables.md", "docs/fields.md"}
"""The history, and pages of help texts and meanings, which are strings of the program."""
PAGES = {name: path for name, path in NAMES.items() if name not in FOREIGN}


def page_prose(text):
    """A page without code, links' targets, and the tables of verdicts, which are stored."""
    text = re.sub(r"^```.*?^```|`[^`\n]+`|\]\([^)]*\)", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(<!-- verdicts: \w+ -->\n)(?:\|.*\n)*", "", text)


@pytest.mark.parametrize("name", PAGES)
def test_pages_do_without_banned_words(name):
    text = page_prose(PAGES[name].read_text())
    assert [word for word, form in BANNED.items() if re.search(form, text)] == []


def of_rooms(path):
    return any(path.is_relative_to(ROOT / room) for room in ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_does_without_banned_words(path):
    if str(path.relative_to(ROOT)) not in EXCEPTIONS:
        assert banned(prose(path.read_text("utf-8"))) == []


@pytest.mark.parametrize("path", list(filter(of_rooms, FILES)), ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_and_names_do_without_banned_words(path):
    text = path.read_text("utf-8")
    assert banned(messages(text), BANNED_IN_MESSAGES) == []
    assert BANNED_NAMES & set(names(text)) == set()
