"""Fingerprints of a user's code: what changes them, and what does not."""

import compileall
import subprocess
import sys

import pytest

from memsweep.spec.code import NO_CODE, changes, code_of
from memsweep.spec.config import ConfigError

NET = '''"""A network."""
import torch
from torch import nn

from helpers import scaled

WIDTH = 4
TABLE = {"relu": 1}


def unused():
    return 1


def act(x):
    """Returns the activation."""
    return torch.relu(x)  # a comment


class Net(nn.Module):
    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.layer = nn.Linear(input_dim, WIDTH)

    def forward(self, inputs):
        from more import deep

        return deep(scaled(act(self.layer(inputs))))
'''
HELPERS = "import math\n\n\ndef scaled(x):\n    return x * math.sqrt(FACTOR)\n\n\nFACTOR = 2\nOTHER = 3\n"
MORE = "def deep(x):\n    return x\n"


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Returns a function that writes the user's modules and returns the code of lab:Net."""
    monkeypatch.syspath_prepend(tmp_path)
    files = {"lab.py": NET, "helpers.py": HELPERS, "more.py": MORE}

    def write(**changed):
        for name, text in {**files, **{f"{name}.py": text for name, text in changed.items()}}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return code_of(["lab:Net"])

    return write


SAME = {
    "a comment": ("lab", "# a comment", "# another"),
    "a docstring": ("lab", "Returns the activation.", "Returns max(0, x)."),
    "the module's docstring": ("lab", '"""A network."""', '"""A net."""'),
    "formatting": ("lab", "WIDTH = 4", "WIDTH = (\n    4\n)"),
    "a definition that is not reached": ("lab", "return 1", "return 2"),
    "a new definition": ("lab", "def unused", "def other():\n    pass\n\n\ndef unused"),
    "a variable that is not reached": ("helpers", "OTHER = 3", "OTHER = 4"),
    "code of the main program": ("lab", "def unused", "if __name__ == '__main__':\n    print(1)\n\n\ndef unused"),
    "an import that is not reached": ("lab", "import torch\n", "import torch\nimport json\n"),
}


@pytest.mark.parametrize(("module", "before", "after"), SAME.values(), ids=SAME)
def test_a_change_that_a_trial_does_not_run_keeps_the_fingerprint(lab, module, before, after):
    first = lab()
    text = {"lab": NET, "helpers": HELPERS}[module]
    assert before in text
    assert lab(**{module: text.replace(before, after)}).fingerprint == first.fingerprint


OTHER = {
    "one character of a function": ("lab", "torch.relu", "torch.tanh", "lab:act"),
    "the network": ("lab", "super().__init__()", "super().__init__(); self.x = 1", "lab:Net"),
    "a constant": ("lab", "WIDTH = 4", "WIDTH = 5", "lab:WIDTH"),
    "a module's function": ("helpers", "x * math", "x + math", "helpers:scaled"),
    "a module's constant": ("helpers", "FACTOR = 2", "FACTOR = 3", "helpers:FACTOR"),
    "a module imported in a function": ("more", "return x", "return -x", "more:deep"),
    "a statement that defines nothing": ("helpers", "OTHER = 3", "math.tau = 3", "helpers"),
    "what a name is imported from": ("lab", "from helpers import scaled", "from more import scaled", "lab:scaled"),
}


@pytest.mark.parametrize(("module", "before", "after", "part"), OTHER.values(), ids=OTHER)
def test_a_change_that_a_trial_runs_changes_the_fingerprint_and_is_named(lab, module, before, after, part):
    first = lab()
    text = {"lab": NET, "helpers": HELPERS, "more": MORE}[module]
    assert before in text
    second = lab(**{module: text.replace(before, after)})
    assert second.fingerprint != first.fingerprint
    assert part in changes(first.parts, second.parts)


def test_it_names_files_and_packages_and_leaves_out_python_and_memsweep(lab, tmp_path):
    code = lab(lab=NET + "\nfrom memsweep import Sweep\nimport json\n")
    assert sorted(code.files) == [str(tmp_path / name) for name in ("helpers.py", "lab.py", "more.py")]
    assert code.packages.keys() == {"torch"}
    assert set(code.parts) == {
        *("lab:Net", "lab:WIDTH", "lab:act", "lab:nn", "lab:scaled", "lab:torch"),
        *("helpers:FACTOR", "helpers:math", "helpers:scaled", "more:deep"),
    }


def test_no_code_of_a_user_has_no_fingerprint():
    assert code_of([]) == NO_CODE
    code = code_of(["torch.optim:RMSprop"])
    assert code.fingerprint is None and code.packages.keys() == {"torch"}
    assert code_of(["no_such_module:Net"]) == NO_CODE  # the import reports it


def test_packages_relative_imports_stars_and_circles(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "pkg"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text("from .nets import Net\n")
    (package / "nets.py").write_text("from .sub import *\nfrom . import back\n\nclass Net:\n    f = base, back.g\n")
    (package / "back.py").write_text("from . import nets\n\ndef g():\n    return nets.Net\n")
    (package / "sub" / "__init__.py").write_text("from ..deep import base\n")
    (package / "deep.py").write_text("def base():\n    return 1\n")
    first = code_of(["pkg:Net"])
    assert {"pkg:Net", "pkg.nets:Net", "pkg.back:g", "pkg.sub:base", "pkg.deep:base"} <= first.parts.keys()
    (package / "deep.py").write_text("def base():\n    return 2\n")
    assert changes(first.parts, code_of(["pkg:Net"]).parts) == ["pkg.deep:base"]


def test_names_in_texts_and_names_defined_at_run_time_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "dynamic.py"
    text = "def relu(x):\n    return x\n\n\ndef net(x):\n    return globals()['relu'](x)\n"
    module.write_text(text)
    first = code_of(["dynamic:net"])
    module.write_text(text.replace("return x\n", "return -x\n"))
    assert changes(first.parts, code_of(["dynamic:net"]).parts) == ["dynamic:relu"]
    module.write_text("for name in 'ab':\n    globals()[name] = len\n")
    loop = code_of(["dynamic:a"])
    module.write_text("for name in 'ab':\n    globals()[name] = max\n")
    assert code_of(["dynamic:a"]).fingerprint != loop.fingerprint


def test_a_module_without_source_counts_by_its_bytes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    fingerprints = []
    for body in ("return 1", "return 2"):
        source = tmp_path / "compiled.py"
        source.write_text(f"def f():\n    {body}\n")
        compileall.compile_file(source, quiet=1, legacy=True, force=True)
        source.unlink()
        fingerprints.append(code_of(["compiled:f"]).fingerprint)
    assert None not in fingerprints and len(set(fingerprints)) == 2


def test_a_file_that_is_no_python_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(ConfigError, match=r"^broken:f: its code can't be read \(SyntaxError: .*\)\. Mend the file\.$"):
        code_of(["broken:f"])


def test_it_runs_no_code_and_is_the_same_in_another_process(lab, tmp_path):
    code = lab(helpers=HELPERS + "\nraise SystemExit(3)\n")
    script = "from memsweep.spec.code import code_of; print(code_of(['lab:Net']).fingerprint)"
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert answer.stdout.strip() == code.fingerprint, answer.stderr
