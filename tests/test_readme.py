"""The README's worked example does what it says, word for word, and every verb and table is in it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from memsweep.cli import app
from memsweep.config import FIELDS
from memsweep.schema import SCHEMAS

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLE = re.search(r"```console\n(.*?)```", README, re.DOTALL)[1]


def test_the_worked_example_gives_its_output(tmp_path):
    for block in re.split(r"^\$ ", EXAMPLE, flags=re.MULTILINE)[1:]:
        line, _, expected = block.partition("\n")
        command = [sys.executable, "-m", *shlex.split(line)]
        environment = {**os.environ, "MEMSWEEP_RESULTS": str(tmp_path)}
        ended = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            stdin=subprocess.DEVNULL,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout == expected, line


def test_the_users_own_example_runs(tmp_path):
    """The module is written down and the commands run, as the README says."""
    section = README.partition("## Bring your own")[2].partition("\n## ")[0]
    (module,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (commands,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    (tmp_path / "my_lab.py").write_text(module)
    assert len([line for line in module.splitlines() if line.strip()]) <= 20
    python = f"{shlex.quote(sys.executable)} -m memsweep"
    ended = subprocess.run(
        ["bash", "-ec", f'memsweep() {{ {python} "$@"; }}\n{commands}'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode == 0, ended.stderr
    assert "24 of 24 trials finished" in ended.stderr
    assert ended.stdout.split()[-1] == "fused"


def test_the_examples_of_searches_are_sweeps():
    section = README.partition("## Search instead of a grid")[2].partition("\n## ")[0]
    scope = {}
    exec(re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0], scope)
    assert [scope[name].search.name for name in ("CAPACITY", "BOUNDARY", "BEST")] == ["capacity", "boundary", "best"]


@pytest.mark.parametrize("name", [command.callback.__name__ for command in app.registered_commands])
def test_every_verb_is_in_the_readme(name):
    assert f"`memsweep {name}" in README


@pytest.mark.parametrize("name", [*SCHEMAS, *FIELDS])
def test_every_table_and_field_is_in_the_readme(name):
    assert f"`{name}`" in README
