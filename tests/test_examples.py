"""The examples in docstrings do what they say."""

import doctest
import importlib
import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import memsweep
from memsweep.run.launch_options import LaunchOptions

ROOT = Path(__file__).parents[1]
FILES = [path for folder in ("memsweep", "analysis") for path in sorted((ROOT / folder).rglob("*.py"))]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in FILES
    if ">>>" in path.read_text()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, ray_address):
    """A folder with the results of the smallest sweep, as examples find it."""
    folder = tmp_path_factory.mktemp("examples")
    memsweep.launch("smoke", folder / "results", address=ray_address, keep="weights")
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs={"memsweep": memsweep}, optionflags=doctest.ELLIPSIS)
    assert found.attempted and not found.failed


def test_there_are_examples_of_all_that_users_call():
    assert "memsweep" in MODULES
    for name in (
        "launch",
        "table",
        "sql",
        "figure",
        "Sweep",
        "TrialConfig",
        "linspace",
        "logspace",
        "log2",
        "model",
        "outputs",
    ):
        assert ">>>" in getattr(memsweep, name).__doc__, name


def test_python_takes_what_a_launch_takes():
    """With the same defaults; a budget may be text, too."""
    parameters = inspect.signature(memsweep.launch).parameters.values()
    ours = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    theirs = {each.name: each.default for each in fields(LaunchOptions)}
    assert ours.keys() - theirs.keys() == {"progress", "watch", "data"} and theirs.keys() <= ours.keys()
    assert {name for name in theirs if ours[name] != theirs[name]} == {"budget"}
