"""The commands and programs of README and tutorial do what the pages say, word for word, in one results folder."""

import math
import re
import shlex

import pytest

import memsweep
from memsweep.spec.sweep_files import load_sweeps
from tests.pages import NAMES, ROOT, blocks, commands, shell

README, TUTORIAL = NAMES["README.md"].read_text(), NAMES["docs/tutorial.md"].read_text()
pytestmark = [pytest.mark.launches, pytest.mark.timeout(1200)]  # a walk of a dozen commands is the setup of one test

QUERY, FIGURES = NAMES["docs/how-to/query.md"].read_text(), NAMES["docs/how-to/figures.md"].read_text()


class Walk:
    """A folder in which the blocks of a page run in order; exported variables last, as in a terminal."""

    def __init__(self, folder):
        self.folder, self.errors = folder, ""
        self.exports = (
            "export MLFLOW_TRACKING_URI=none\n"  # MLflow's process would take the processor of later commands
        )

    def run(self, text):
        """Standard output of these commands, which must end well."""
        ended = shell(self.exports + text, self.folder)
        assert ended.returncode == 0, f"{text}\n{ended.stderr}"
        self.exports += "".join(line + "\n" for line in text.splitlines() if line.startswith("export "))
        self.errors += ended.stderr
        return ended.stdout

    def through(self, page):
        """Runs each block; output must be that of the page."""
        for language, block in blocks(page, "console", "sh", "python"):
            if language == "console":
                for command, expected in commands(block):
                    assert alike(self.run(command), expected), command
            elif language == "sh":
                self.run(block)
            elif name := re.match(r"# (\w+\.py)\n", block):
                (self.folder / name[1]).write_text(block)
            else:
                self.run(f"python -c {shlex.quote(block)}")


def alike(output, expected):
    """Whether texts agree word for word; numbers with a point may differ by 0.1, as machines round differently."""
    words, wanted = output.split(), expected.split()
    return len(words) == len(wanted) and all(
        word == other or ("." in other and math.isclose(float(word), float(other), abs_tol=0.1))
        for word, other in zip(words, wanted, strict=True)
    )


def test_outputs_that_differ_are_seen():
    assert alike("a  0.25\n", "a 0.3") and not alike("a 0.25", "a 0.45")
    assert not alike("a 3", "a 4") and not alike("a", "a b")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A folder after all commands of the README: one launch."""
    walk = Walk(tmp_path_factory.mktemp("walk"))
    walk.through(README)
    return walk


@pytest.fixture(scope="module")
def walk(start):
    """The same folder after all commands of the tutorial: another launch."""
    start.through(TUTORIAL)
    return start


def test_the_readme_launches_its_sweep(start):
    assert "smoke: 12 of 12 trials finished" in start.errors


def test_the_readmes_own_code_runs_and_has_two_files_of_twenty_lines(start):
    files = [block.splitlines() for _, block in blocks(README, "python") if re.match(r"# my_\w+\.py\n", block)]
    assert len(files) == 2 and all(sum(map(bool, map(str.strip, file))) <= 20 for file in files)
    results = start.folder / "own"
    trials = memsweep.table("trials", results)
    assert trials["status"].tolist() == ["finished"] * 4 and sorted(set(trials["own_dropout"])) == [0.0, 0.5]
    assert set(memsweep.table("metrics", results)["name"]) == {"mean"}
    assert memsweep.table("packs", results)["cause"].isna().all()  # it can be fused


def test_the_tutorial_ends_with_a_figure(walk):
    assert "rings: 50 of 50 trials finished" in walk.errors
    assert "3 trials run again: 3 exact, 0 differ" in walk.errors
    assert (walk.folder / "memorized.pdf").read_bytes().startswith(b"%PDF")
    assert (walk.folder / "results/report.html").stat().st_size > 10**6
    modes = memsweep.sql("select distinct mode from packs", walk.folder / "results")["mode"]
    assert modes.tolist() == ["fused"]


def test_the_tutorial_is_short():
    programs = [block for _, block in blocks(TUTORIAL, "python")]
    assert [program.partition("\n")[0] for program in programs] == ["# my_lab.py", "# my_sweep.py", "# my_figure.py"]
    assert len([line for line in programs[0].splitlines() if line.strip()]) <= 20


def test_the_tutorial_draws_what_it_shows(walk):
    """The penalty lowers the share of memorized labels at every noise fraction but none, as the page says."""
    shares = memsweep.sql(
        "select regularization_penalty_strength as penalty, "
        "sum(memorized_count) / sum(label_changed_count) as memorized from trials "
        "where data_task = 'my_lab:rings' and data_noise_fraction > 0 group by 1 order by 1",
        walk.folder / "results",
    )["memorized"]
    assert shares[1] < 0.8 * shares[0]


def test_a_figure_of_the_report_and_one_of_ones_own(walk, monkeypatch):
    """The folder holds another sweep, too."""
    monkeypatch.chdir(walk.folder)
    scope = {}
    for _, program in blocks(FIGURES, "python"):
        exec(program, scope)
    assert (walk.folder / "shares.pdf").read_bytes().startswith(b"%PDF")
    assert {"estimate", "low", "high", "seeds", "missing"} <= set(scope["summary"].columns)
    assert sorted(scope["summary"]["data_noise_fraction"].unique()) == [0.0, 0.5]
    ax = scope["ax"]
    ax.figure.canvas.draw()
    assert ax.lines and not ax.figure.legends[0].get_window_extent().overlaps(ax.get_tightbbox())


def test_the_queries_of_the_page_about_queries(walk, monkeypatch):
    monkeypatch.chdir(walk.folder)
    for _, block in blocks(QUERY, "sh"):
        walk.run(block)
    scope = {}
    for _, program in blocks(QUERY, "python"):
        exec(program, scope)
    assert len(scope["trials"]) == 62 and len(scope["rings"]) == 50
    assert [len(memsweep.sql(statement)) for _, statement in blocks(QUERY, "sql")] == [12]


def test_make_has_the_commands_of_the_readme():
    targets = re.findall(r"^    make ([\w-]+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in [*targets, "docs", "docs-serve"]:
        ended = shell(f"make --dry-run {target}", ROOT)
        assert ended.returncode == 0 and ended.stdout, ended.stderr


SWEEP_FILES = {
    f"{name} {number}": program
    for name, path in NAMES.items()
    for number, (_, program) in enumerate(blocks(path.read_text(), "python"))
    if "= Sweep(" in program and program.lstrip("# \n").startswith(("my_sweep.py", "from memsweep import"))
}


@pytest.mark.parametrize("program", SWEEP_FILES.values(), ids=SWEEP_FILES)
def test_every_block_with_sweeps_is_a_sweep_file_as_it_is_printed(program, tmp_path):
    (tmp_path / "mine.py").write_text(program)
    sweeps = load_sweeps(str(tmp_path / "mine.py"))
    assert len(sweeps) == program.count("= Sweep(")
    assert all(next(iter(sweep)).trial_id for sweep in sweeps.values())


def test_the_examples_of_sweeps_are_sweeps():
    scope = {}
    exec(SWEEP_FILES["docs/how-to/own-sweep.md 0"], scope)
    assert len(scope["SWEEP"].trials) == 5 * 2 * 10
    exec(SWEEP_FILES["docs/how-to/search.md 0"], scope)
    assert [scope[name].search.name for name in ("CAPACITY", "BOUNDARY", "BEST")] == ["capacity", "boundary", "best"]
    exec(SWEEP_FILES["docs/tutorial.md 1"], scope)
    assert len(scope["SWEEP"].trials) == 5 * 2 * 5
