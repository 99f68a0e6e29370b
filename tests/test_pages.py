"""The pages agree with the program: commands, verbs, tables, links, arrows, versions and sizes."""

import ast
import re
import shlex
import textwrap
import tomllib

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from docs import reference
from memsweep.cli.app import app
from memsweep.spec.config import FIELDS
from memsweep.spec.schema import SCHEMAS
from tests.pages import NAMES, PAGES, ROOT, anchors, blocks
from tests.test_imports import ROOMS

WRITTEN = "".join(
    path.read_text()
    for name, path in NAMES.items()
    if path.name not in reference.PAGES and (name == "README.md" or name.startswith("docs/"))
)
"""The text of README and docs/, without the pages that the program writes."""


def shown_commands():
    """Each command of ours that a page shows, in words, without what follows it."""
    for page in PAGES:
        for _, block in blocks(page.read_text(), "console", "sh", "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                match = re.match(r"\s*(?:\$ )?memsweep ([^#|;&>]*)", line)
                if match and "[OPTIONS]" not in line:  # how a verb is used, in words
                    yield match[1]


@pytest.mark.parametrize("text", dict.fromkeys(shown_commands()))
def test_every_command_of_a_page_is_one_that_the_program_takes(text):
    words = shlex.split(text + '"' * (text.count('"') % 2))  # a statement may go on in the next line
    verb = get_command(app).commands[words[0]]
    verb.make_context(words[0], words[1:])


@pytest.mark.parametrize("page", PAGES, ids=list(NAMES))
def test_every_python_block_parses(page):
    for _, program in blocks(page.read_text(), "python"):
        ast.parse(textwrap.dedent(program))


@pytest.mark.parametrize("name", [command.callback.__name__ for command in app.registered_commands])
def test_every_verb_is_on_a_written_page(name):
    assert f"`memsweep {name}" in WRITTEN or f"\nmemsweep {name}" in WRITTEN


def test_every_table_is_on_a_written_page():
    assert {name for name in SCHEMAS if f"`{name}`" not in WRITTEN} == set()


def test_every_default_sweep_is_on_the_page_of_sweeps():
    text = NAMES["docs/sweeps.md"].read_text()
    assert {path.stem for path in ROOT.glob("sweeps/[a-z]*.py") if f"| `{path.stem}` |" not in text} == set()


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_pages_of_commands_tables_and_fields_are_up_to_date(name):
    """They are written from the program: make docs."""
    assert (ROOT / "docs" / name).read_text() == reference.PAGES[name]()


def test_these_pages_have_every_option_column_and_field():
    """Whatever writes them."""
    pages = {name: (ROOT / "docs" / name).read_text() for name in reference.PAGES}
    assert {name for name in FIELDS if f"| `{name}` |" not in pages["fields.md"]} == set()
    for table, schema in SCHEMAS.items():
        part = pages["tables.md"].partition(f"## {table}\n")[2].partition("\n## ")[0]
        assert {name for name in schema.names if f"| `{name}` |" not in part} == set(), table
    for command in app.registered_commands:
        part = pages["commands.md"].partition(f"## `memsweep {command.callback.__name__}`")[2].partition("\n## ")[0]
        helped = CliRunner().invoke(app, [command.callback.__name__, "--help"], env={"COLUMNS": "200"}).stdout
        options = set(re.findall(r"--[a-z-]+", helped.partition("Options:")[2]))
        assert options and {option for option in options if option not in part} == set(), command.callback.__name__
        assert "Example: memsweep " in part


@pytest.mark.parametrize("page", PAGES, ids=list(NAMES))
def test_links_and_pictures_lead_somewhere(page):
    """Files, and headings of pages, by the anchors that GitHub gives them; the site's are checked when it is built."""
    text = page.read_text()
    targets = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'(?:src|href)="([^"]+)"', text)]
    missing = []
    for target in (target for target in targets if "://" not in target):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path.read_text())):
            missing.append(target)
    assert missing == []


def test_a_broken_anchor_is_seen():
    assert anchors("# A worker dies\n\n```sh\n# no heading\n```\n## What `x` is\n") == {"a-worker-dies", "what-x-is"}


def test_the_arrows_of_the_architecture_are_those_that_are_tested():
    text = NAMES["ARCHITECTURE.md"].read_text()
    drawn = dict(re.findall(r"^([a-z]+) +-> (.+)$", text, re.MULTILINE))
    assert drawn.keys() == ROOMS.keys()
    for room, (rooms, packages) in ROOMS.items():
        expected = rooms - {room} or packages
        assert set(drawn[room].split(", ")) == expected, room


def test_the_map_of_the_architecture_has_every_module():
    """Of memsweep, each with its name or that of its folder."""
    words = set(re.findall(r"\w+", NAMES["ARCHITECTURE.md"].read_text()))
    modules = {path for path in (ROOT / "memsweep").rglob("*.py") if not path.name.startswith("__")}
    listed = [path for path in modules if path.parent.name != "probes"]
    assert {str(path.relative_to(ROOT)) for path in listed if path.stem not in words} == set()


@pytest.mark.parametrize(("name", "least", "most"), [("README.md", 6000, 8192), ("ARCHITECTURE.md", 0, 8192)])
def test_the_first_pages_are_short(name, least, most):
    assert least <= NAMES[name].stat().st_size <= most


def test_the_citation_names_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["message"]
