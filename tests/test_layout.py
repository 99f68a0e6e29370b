"""What a move of modules must leave as it was: the names of trials; and what it must leave nowhere: the old names."""

import ast
import hashlib
import re
from pathlib import Path

import pytest

from memsweep.spec.sweep_files import load_sweep

ROOT = Path(__file__).parents[1]
MOVED = {
    "memsweep": "arguments axes budget config doctor fields hints numerals options packages printing processors "
    "progress rules schema searches seeds sweep ui verbs",
    "memsweep.launch": "apart asking attempt calibration checkpoints choices cluster comparison definition driver "
    "execution inspection launcher ledger packing patience plan probes protocols provenance retries search sources "
    "spelling tune verification watchdog",
    "memsweep.run.policy": "apart",
    "memsweep.run.rounds": "asking",
    "memsweep.results": "background databases follow location locks parts projection store tracking",
    "memsweep.engine": "cells checkpoint compilation evaluation lifting losses memorizer metrics models optim plain "
    "program regularizers scan sequence_models state step streams trainer updates",
    "analysis": "adversarial_training best boundary capacity capacity_search class_sensitivity comparisons composition "
    "construction convergence cover critical_samples figures frames generalization interactive learning_curves "
    "learning_order least_width loss_sensitivity memorizer_width noise_capacity permutation persistence random_labels "
    "readouts recall_positions reconstruction regularization sequence_ablation sequence_capacity sequence_length "
    "sequences series sgd_near_memorizer similarity statistics trainability",
}
"""Package -> modules that it no longer has."""
IDENTITIES = (
    (
        "boundary capacity capacity_search composition construction cover generalization loss_sensitivity "
        "persistence random_labels reconstruction sequence_length sgd_near_memorizer smoke trainability",
        "ec4f2824ea36e0a481761259b2d148198e5a6f0395c06b5a1ea03aa8035ebdff",
    ),
    (
        "adversarial_training critical_samples learning_curves learning_order memorizer_width noise_capacity "
        "permutation regularization sequence_ablation sequence_capacity similarity",
        "00727dc9ca84d5c398d4a2f798dd7e1b15803f88409b2c9e9124876486bfb140",
    ),
    (
        "exposure string_capacity",
        "0ebcd693d3e7e11b1ff43dbef606a2f3a69ed59ddeac4edd7a6689a2cced5d07",
    ),
    ("memorization_map", "5f3913232f0031cf3190f4af5b56f2e6dbd3b176c9c815d7ee6cc1f0b70c1014"),
    ("double_descent", "0e4debbdc680cf1c21f945f260b3429b8fd529d2eecbb4c02300ba1f6caedc87"),
    ("largest_set", "8b8255fd55deb1b4abbb004397c859a133ac90883b3d0386a08fa522fa3c6596"),
    ("grokking", "71c0df251da83f2f70ab2630982a88146f151e70e38fda77a65224a10c86b879"),
    ("mup", "146659be0931a6191c10a6640e619424d03daf522b05f07a84272bf34d9880b0"),
    ("recall", "e6f68579516a625f9e63d58fea8dc45c1000ad0d550051870531e7a4a23cc762"),
    ("memorization", "9b28d57140db23ab733350a39a9d879ee6117c335593a5dc546867528501acd2"),
    ("tempered", "285ba7e3e5b7a621af75bca75ab3b0033291e8705f674d1bbe5487fe7134c0cc"),
)
"""Default sweeps, and the hash of the identities of their trials: 14,565 of the first, 17,196 of the second, which were
designed anew in 2026-11. A new sweep is a new row."""
OLD = [f"{package}.{module}" for package, modules in MOVED.items() for module in modules.split()]
FOLDERS = ("memsweep", "analysis", "sweeps", "docs", "tests", ".")
ELSEWHERE = {"CHANGELOG.md", "test_layout.py"}
"""The history, and this file."""


def texts():
    for folder in FOLDERS:
        for path in (ROOT / folder).glob("*" if folder == "." else "**/*"):
            if path.suffix in (".py", ".md", ".toml", ".yaml", ".sh") and path.name not in ELSEWHERE:
                yield path.relative_to(ROOT), path.read_text("utf-8")


def old_names(text):
    names = "|".join(re.escape(name).replace(r"\.", "[./]") for name in sorted(OLD, key=len, reverse=True))
    packages = r"from (?:memsweep\.launch|memsweep\.verbs|memsweep\.searches|analysis|sweeps) import"
    top = r"(?<![\w./])analysis\.(?:core|questions|report|claims)\b"  # now below memsweep
    return re.findall(rf"(?<![\w./])(?:{names})(?:\.py\b|(?![\w(./]))|{packages}|{top}", text)


def test_old_names_are_seen():
    assert old_names("see memsweep.launch.tune, memsweep/config.py and `analysis.capacity`") == [
        "memsweep.launch.tune",
        "memsweep/config.py",
        "analysis.capacity",
    ]
    assert old_names("from memsweep.launch import tune") and old_names("from analysis import figures")
    assert old_names("import analysis.questions.capacity") and not old_names("analysis/questions/capacity.py")
    assert not old_names("memsweep.launch(sweep), memsweep.spec.config, memsweep.analysis.questions.capacity")


def test_nothing_is_called_as_before_it_was_moved():
    found = {str(path): names for path, text in texts() if (names := old_names(text))}
    assert found == {}


def test_files_and_functions_stay_short():
    """350 lines and 60 lines; above them a file holds two nouns, and a function two jobs."""
    long = []
    for path in (path for folder in ("memsweep", "analysis") for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text("utf-8")
        long += [path.name] if text.count("\n") > 350 else []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
                long.append(f"{path.name}: {node.name}")
    assert long == []


def test_one_module_sorts_statuses():
    """trial_state has the groups of statuses; a group named elsewhere would be a second answer."""
    groups = []
    for path in (path for folder in ("memsweep", "analysis") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            members = getattr(node, "elts", None) or getattr(node, "comparators", [])
            if sum(ast.unparse(member).startswith("Status.") for member in members) > 1:
                groups.append(path.name)
    assert set(groups) == {"trial_state.py", "status.py"}  # `status` counts each status in a column


@pytest.mark.parametrize("name", OLD)
def test_a_moved_module_is_gone(name):
    path = ROOT / name.replace(".", "/")
    assert not path.with_suffix(".py").exists() and not (path / "__init__.py").exists()


@pytest.mark.parametrize("names, digest", IDENTITIES)
def test_trials_of_the_default_sweeps_have_the_names_that_they_had(names, digest):
    """A move of modules changes no hash; a value of a sweep does, on purpose."""
    content = hashlib.sha256()
    for name in names.split():
        for trial in load_sweep(name).trials:
            content.update(trial.trial_id.encode())
    assert content.hexdigest() == digest


def test_the_trials_of_every_default_sweep_are_hashed():
    hashed = [name for names, _ in IDENTITIES for name in names.split()]
    assert sorted(hashed) == sorted(path.stem for path in (ROOT / "sweeps").glob("[a-z]*.py"))
