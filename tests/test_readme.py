"""The README's commands and programs do what it says, word for word; its pages list all there is."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import memsweep
from docs import reference
from memsweep.cli.app import app
from memsweep.spec.config import FIELDS, TrialConfig
from memsweep.spec.schema import SCHEMAS
from memsweep.spec.sweep_files import load_sweep, load_sweeps
from tests.test_imports import ROOMS
from tests.test_report import store_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [path for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/**/*.md")])]


def section(title):
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def blocks(title, language):
    """The code in this language in a section."""
    return re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)


def shell(commands, folder):
    """Ends of these commands, run as if .venv/bin were on the path."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
    )


def test_the_first_sweep_gives_its_output(tmp_path):
    """And what follows, from Python, finds it."""
    (console,) = blocks("A first sweep", "console")
    for block in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        line, _, expected = block.partition("\n")
        ended = shell(line, tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout == expected, line
    (python,) = blocks("Ask the tables", "python")
    ended = shell(f"python -c {shlex.quote(python)}", tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_the_walk_to_a_sweep_of_ones_own_ends_with_a_figure(tmp_path):
    """From nothing but the README: three files, some commands, a figure."""
    title = "Your own sweep, of your own module"
    files = {program.partition("\n")[0].removeprefix("# "): program for program in blocks(title, "python")}
    assert set(files) == {"my_lab.py", "my_sweep.py", "my_figure.py"}
    assert len([line for line in files["my_lab.py"].splitlines() if line.strip()]) <= 20
    for name, program in files.items():
        (tmp_path / name).write_text(program)
    (commands,) = blocks(title, "sh")
    ended = shell(commands, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "50 of 50 trials finished" in ended.stderr
    assert "3 trials run again: 3 exact, 0 differ" in ended.stderr
    assert (tmp_path / "memorized.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "my_results/report.html").stat().st_size > 10**6
    assert memsweep.sql("select distinct mode from packs", tmp_path / "my_results")["mode"].tolist() == ["fused"]


def test_a_figure_of_the_report_and_one_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = {"data.noise_fraction": (0.2, 0.6), "regularization.weight_decay": (0.0, 0.01), "seeds": range(2)}
    memsweep.launch(load_sweep("generalization").with_axes(few), "results")
    others = [
        TrialConfig.of({"data.noise_kind": "labels", "data.noise_fraction": 0.5, "seed": seed}) for seed in (0, 1)
    ]
    store_of(tmp_path / "results", "another", [(one, {}) for one in others])
    (python,) = blocks("Figures and the report", "python")
    scope = {}
    exec(python, scope)
    assert (tmp_path / "accuracy.pdf").read_bytes().startswith(b"%PDF")
    assert {"estimate", "low", "high", "seeds", "missing"} <= set(scope["summary"].columns)
    assert sorted(scope["summary"]["data_noise_fraction"].unique()) == [0.2, 0.6]
    ax = scope["ax"]
    ax.figure.canvas.draw()
    assert ax.lines and not ax.figure.legends[0].get_window_extent().overlaps(ax.get_tightbbox())


def test_the_examples_of_sweeps_are_sweeps():
    scope = {}
    exec(blocks("Write a sweep", "python")[0], scope)
    assert len(scope["SWEEP"].trials) == 5 * 2 * 10
    exec(blocks("Search instead of a grid", "python")[0], scope)
    assert [scope[name].search.name for name in ("CAPACITY", "BOUNDARY", "BEST")] == ["capacity", "boundary", "best"]


@pytest.mark.parametrize(
    "program", [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Sweep(" in block]
)
def test_every_block_with_sweeps_is_a_sweep_file_as_it_is_printed(program, tmp_path):
    (tmp_path / "mine.py").write_text(program)
    sweeps = load_sweeps(str(tmp_path / "mine.py"))
    assert len(sweeps) == program.count("= Sweep(")
    assert all(next(iter(sweep)).trial_id for sweep in sweeps.values())


def commands():
    """Each command of ours that a page shows, in words, whatever follows it."""
    for page in PAGES:
        for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                match = re.match(r"\s*(?:\$ )?memsweep ([^#|;&>]*)", line)
                if match and "[OPTIONS]" not in line:  # how a verb is used, in words
                    yield match[1]


@pytest.mark.parametrize("text", dict.fromkeys(commands()))
def test_every_command_of_a_page_is_one_that_the_program_takes(text):
    words = shlex.split(text + '"' * (text.count('"') % 2))  # a statement may go on in the next line
    verb = get_command(app).commands[words[0]]
    verb.make_context(words[0], words[1:])


@pytest.mark.parametrize("name", [command.callback.__name__ for command in app.registered_commands])
def test_every_verb_is_in_the_readme(name):
    assert f"`memsweep {name}" in README


def test_every_table_is_in_the_readme():
    assert {name for name in SCHEMAS if f"`{name}`" not in README} == set()


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
        helped = shell(f"COLUMNS=200 memsweep {command.callback.__name__} --help", ROOT).stdout
        options = set(re.findall(r"--[a-z-]+", helped.partition("Options:")[2]))
        assert options and {option for option in options if option not in part} == set(), command.callback.__name__
        assert "Example: memsweep " in part


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(page):
    text = page.read_text()
    targets = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)]
    missing = [name for name in targets if "://" not in name and not (page.parent / name.partition("#")[0]).exists()]
    assert missing == []


def test_the_arrows_of_the_architecture_are_those_that_are_tested():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    drawn = dict(re.findall(r"^([a-z]+) +-> (.+)$", text, re.MULTILINE))
    assert drawn.keys() == ROOMS.keys()
    for room, (rooms, packages) in ROOMS.items():
        expected = rooms - {room} or packages
        assert set(drawn[room].split(", ")) == expected, room
