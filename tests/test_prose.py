"""Docstrings, comments and pages are in plain English: a short list of words that they do without."""

import io
import re
import tokenize

import pytest

from tests.pages import NAMES, ROOT

FILES = sorted(path for folder in ("memsweep", "analysis") for path in (ROOT / folder).rglob("*.py"))
BANNED = {
    "tell": r"\b(?:tells?|told)\b",  # software shows, states, names; what differs is distinguished
    "nobody": r"\b(?:nobody|whoever)\b",
}
EXCEPTIONS = {
    "memsweep/run/rounds/search.py": "ask and tell are Optuna's terms",
    "memsweep/cli/launching.py": "docstrings of verbs are help texts",
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


def banned(text):
    return [word for word, form in BANNED.items() if any(re.search(form, part) for part in prose(text))]


def test_a_banned_word_is_seen_in_prose_alone():
    assert banned('"""What it tells."""\n') == ["tell"] and banned("x = 1  # told\n") == ["tell"]
    assert banned('def f():\n    """For whoever reads."""\n') == ["nobody"]
    assert not banned('told = "tells nobody"\nsearch.told\n')


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_does_without_banned_words(path):
    if str(path.relative_to(ROOT)) not in EXCEPTIONS:
        assert banned(path.read_text("utf-8")) == []
