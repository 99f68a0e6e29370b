"""The report shows what the tables hold, complete or not, and is one page that needs nothing else."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest

import memsweep
import memsweep.analysis
from memsweep.analysis.questions import capacity, generalization
from memsweep.analysis.report import provenance, report
from memsweep.cli import app
from memsweep.results.mlflow.artifacts import figures as figure_files
from memsweep.results.storage.store import Store, StoreError
from memsweep.spec.config import TrialConfig
from tests.cases import field_columns

pytestmark = pytest.mark.usefixtures("svg_alone")

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEST_ALONE = dict.fromkeys(
    ("train_correct_count", "train_count", "memorized_count", "recovered_count", "label_changed_count")
)
"""Nothing but test accuracy, so that one figure is drawn instead of four."""


def store_of(results, sweep, trials, **outcome):
    """A results folder with a sweep of these trials; those with an outcome of None are wanted and not stored."""
    store = Store(results, create=True)
    store.write("wanted", [wanted(sweep, i, trial) for i, (trial, _) in enumerate(trials)])
    stored = [row(trial, {**outcome, **own}) for trial, own in trials if own is not None]
    if stored:
        store.write("trials", stored)
    return store


def wanted(sweep, position, trial):
    names = {"sweep": sweep, "trial_id": trial.trial_id, "setting_id": trial.setting_id}
    return {**names, "position": position, "seed": trial.seed, "configuration": json.dumps(trial.flat())}


def row(trial, outcome):
    ids = {"trial_id": trial.trial_id, "setting_id": trial.setting_id, "attempt_id": "a"}
    counts = {
        "test_correct_count": 60, "test_count": 100, "train_correct_count": 90, "train_count": 100,
        "memorized_count": 3, "recovered_count": 4, "label_changed_count": 10, "class_count": 10,
    }  # fmt: skip
    return {**field_columns(trial), **ids, "status": "finished", "finished_at": NOON, **counts, **outcome}


def grid(noise=(0.2, 0.4), seeds=2):
    base = {"data.noise_kind": "labels"}
    return [TrialConfig.of({**base, "data.noise_fraction": n, "seed": s}) for n in noise for s in range(seeds)]


def page_of(results):
    return report.write(results).read_text()


def plots(page):
    """Figure -> what Plotly draws."""
    found = re.findall(r'<script type="application/json" id="(.*?)-data">(.*?)</script>', page)
    return {name: json.loads(text) for name, text in found}


def test_a_finished_sweep_is_drawn_with_its_twins(tmp_path, monkeypatch):
    monkeypatch.undo()  # of svg_alone
    store_of(tmp_path, "generalization", [(trial, {}) for trial in grid()])
    page = page_of(tmp_path)
    (curve, _, chance) = plots(page)["generalization-test-accuracy"]["data"]
    assert curve["x"] == [0.2, 0.4] and curve["y"] == [0.6, 0.6] and chance["name"] == "chance"
    for kind in ("pdf", "svg", "png"):
        assert (tmp_path / "figures" / f"generalization-test-accuracy.{kind}").stat().st_size > 1000
    assert "4 of 4 trials" in page and 'class="notice"' not in page


def test_a_figure_is_told_to_those_who_can_not_see_it(tmp_path):
    store_of(tmp_path, "generalization", [(trial, {}) for trial in grid()], **TEST_ALONE)
    label = re.search(
        r'aria-label="(Test accuracy.*?)" data-plot="generalization-test-accuracy-data"', page_of(tmp_path)
    )[1]
    assert "Across: noise fraction." in label and "0.6 at 0.2 to 0.6 at 0.4." in label and "chance: 0.1 at" in label


def test_one_question_that_fails_takes_no_other_with_it(tmp_path, monkeypatch):
    def broken(frame):
        raise ZeroDivisionError("by <nothing>")

    monkeypatch.setattr(capacity, "summarize", broken)
    store_of(tmp_path, "capacity", [(trial, {}) for trial in grid()], **TEST_ALONE)
    store_of(tmp_path, "generalization", [(trial, {}) for trial in grid()], **TEST_ALONE)
    problems = []
    page = report.write(tmp_path, problems.append).read_text()
    (problem,) = problems
    assert problem.startswith(
        "memsweep.analysis.questions.capacity can't draw sweep 'capacity': ZeroDivisionError: by <nothing> (analysis/"
    )
    assert "by &lt;nothing&gt;" in page and "generalization-test-accuracy" in plots(page)


MODULES = {
    "import": ("raise RuntimeError('no luck')", "RuntimeError: no luck (analysis/mine.py, line 1)"),
    "syntax": ("x = (", "SyntaxError: '(' was never closed"),
    "summarize": ("return {}['width']", "KeyError: 'width' (analysis/mine.py, line 4)"),
    "nothing": ("return None", "(analysis/"),
    "draw": ("return rows", "NameError: name 'gone' is not defined (analysis/mine.py, line 6)"),
}
OWN = """from memsweep.analysis.core import figures, frames
QUERY = frames.TRIALS
def summarize(rows):
    {summarize}
def draw(summary, ax):
    gone
FIGURES = (figures.Figure("one", "One", draw, ""),)
"""


@pytest.mark.parametrize("fault", MODULES)
def test_a_module_of_ones_own_that_is_wrong_fails_alone(tmp_path, monkeypatch, request, fault):
    """Whatever is wrong with it; that it has no docstring is not."""
    line, expected = MODULES[fault]
    (tmp_path / "mine.py").write_text(line if fault in ("import", "syntax") else OWN.format(summarize=line))
    monkeypatch.setattr(memsweep.analysis.questions, "__path__", [*memsweep.analysis.questions.__path__, str(tmp_path)])
    request.addfinalizer(lambda: sys.modules.pop("memsweep.analysis.questions.mine", None))
    results = tmp_path / "results"
    for sweep in ("mine", "generalization"):
        store_of(results, sweep, [(trial, {}) for trial in grid()], **TEST_ALONE)
    problems = []
    page = report.write(results, problems.append).read_text()
    (problem,) = problems
    assert problem.startswith("memsweep.analysis.questions.mine can't draw sweep 'mine': ") and expected in problem
    assert "generalization-test-accuracy" in plots(page)
    with pytest.raises((RuntimeError, SyntaxError, KeyError, AttributeError, TypeError, NameError)):
        memsweep.figure("mine", "one", results)


def test_a_question_beside_another_fails_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(generalization, "ALSO", ("learning_curves", "gone"))
    store_of(tmp_path, "generalization", [(trial, {}) for trial in grid()])
    problems = []
    page = report.write(tmp_path, problems.append).read_text()
    (problem,) = problems
    assert problem.startswith("memsweep.analysis.questions.gone can't draw sweep 'generalization': ModuleNotFoundError")
    assert "generalization-test-accuracy" in plots(page)
    assert memsweep.figure("generalization", "memorized-share", tmp_path).axes


def test_a_figure_with_nothing_on_it_is_left_out_with_a_line(tmp_path):
    """Weight decay and number of examples, no noise, no test data."""
    configs = [
        TrialConfig.of({"regularization.weight_decay": decay, "data.examples": size, "seed": seed})
        for decay in (0, 0.01)
        for size in (100, 200)
        for seed in range(2)
    ]
    counts = {"validation_correct_count": 40, "validation_count": 50, "label_changed_count": 0}
    absent = {"test_count": None, "test_correct_count": None, "memorized_count": 0, "recovered_count": 0}
    store = store_of(tmp_path, "own", [(trial, {**counts, **absent}) for trial in configs])
    (store.results / "figures").mkdir()
    (store.results / "figures" / "own-test-accuracy.svg").write_text("of an older report")
    page = page_of(tmp_path)
    assert set(plots(page)) == {"own-validation-accuracy", "own-train-accuracy"}
    assert plots(page)["own-validation-accuracy"]["data"][0]["y"] == [0.8, 0.8]
    assert "Left out: Test accuracy (no finished trial has a value for test accuracy); Wrong labels memorized (" in page
    assert "<h3>How does accuracy change with examples and weight decay?</h3>" in page
    assert {path.stem for path in store.results.glob("figures/*")} == set(plots(page))
    assert memsweep.figure("own", results=tmp_path).axes[0].get_ylabel() == "validation accuracy"


def test_values_of_an_axis_read_differently_in_the_table(tmp_path):
    noise = (0.12341, 0.12342, 0.2)
    store_of(tmp_path, "generalization", [(trial, {}) for trial in grid(noise)], **TEST_ALONE)
    cells = re.findall(r"<tr><td>10</td><td>(.*?)</td>", page_of(tmp_path))
    assert cells[:3] == ["0.12341", "0.12342", "0.2"]


def test_the_verb_tells_a_question_that_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(capacity, "summarize", lambda frame: {}["width"])
    store_of(tmp_path, "capacity", [(trial, {}) for trial in grid()])
    monkeypatch.setattr(sys, "argv", ["memsweep", "report", "--results", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 1 and "KeyError: 'width'" in err and out.strip() == str(tmp_path / "report.html")


def test_the_page_needs_nothing_else(tmp_path):
    store_of(tmp_path, "generalization", [(trial, {}) for trial in grid()], **TEST_ALONE)
    page = page_of(tmp_path)
    own = page.replace(report.get_plotlyjs(), "")
    assert report.get_plotlyjs() in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", own)
    assert "default-src 'none'" in own
    assert "://" not in own


def test_an_empty_folder_says_what_to_do(tmp_path):
    Store(tmp_path, create=True)
    assert "memsweep launch SWEEP" in page_of(tmp_path)


def test_what_is_not_there_is_counted_and_left_open(tmp_path):
    first, second, third, fourth = grid()
    failed = {"status": "failed", "cause": "Traceback\nRuntimeError: <script>alert(1)</script>", "test_count": None}
    store_of(tmp_path, "generalization", [(first, {}), (second, failed), (third, None), (fourth, None)])
    page = page_of(tmp_path)
    assert "1 of 4 trials are failed." in page and "2 of 4 trials are not stored" in page
    assert "RuntimeError: &lt;script&gt;" in page and "<script>alert" not in page
    names = {trace["name"] for trace in plots(page)["generalization-test-accuracy"]["data"]}
    assert "some seeds missing" in names
    assert "1 of 4 trials." in page


def test_a_sweep_that_has_not_begun_is_on_the_page(tmp_path):
    store_of(tmp_path, "capacity", [(trial, None) for trial in grid()])
    page = page_of(tmp_path)
    assert plots(page) == {}
    assert "4 of 4 trials are not stored" in page and "Left out: Random labels fitted, by width, " in page


@pytest.mark.parametrize("name", ["report", "my-own.sweep", "frames", "series", "__init__"])
def test_a_sweep_without_a_question_of_its_own_is_drawn_as_any(tmp_path, name):
    """Also one that is called like a module of ours that is no question."""
    store_of(tmp_path, name, [(trial, {}) for trial in grid()], **TEST_ALONE)
    assert f"{name}-test-accuracy" in plots(page_of(tmp_path))


def test_a_name_that_would_end_the_query_is_only_a_name(tmp_path):
    store_of(tmp_path, "o'clock", [(trial, {}) for trial in grid()], **TEST_ALONE)
    assert "o&#39;&#39;clock" in page_of(tmp_path)


def test_a_name_that_would_leave_the_folder_stays_in_it(tmp_path):
    store_of(tmp_path / "results", "../../away", [(trial, {}) for trial in grid()], **TEST_ALONE)
    report.write(tmp_path / "results")
    drawn = {path.parent for path in tmp_path.rglob("*.svg")}
    assert drawn == {tmp_path / "results" / "figures"}


def test_a_name_too_long_for_files_costs_its_own_figures_alone(tmp_path):
    """As older versions took it."""
    store_of(tmp_path, "x" * 280, [(trial, {}) for trial in grid()], **TEST_ALONE)
    store_of(tmp_path, "other", [(trial, {}) for trial in grid()], **TEST_ALONE)
    problems = []
    there = plots(report.write(tmp_path, problems.append).read_text())
    assert "other-test-accuracy" in there and not any(name.startswith("x") for name in there)
    (problem,) = problems
    assert problem.endswith("File name too long.") and "\n" not in problem


def test_figures_of_a_sweep_are_those_of_no_longer_name(tmp_path):
    names = ("x-gap", "x-y-gap", "x-y-z-gap", "xy-gap")
    (tmp_path / "figures").mkdir()
    for name in names:
        (tmp_path / f"figures/{name}.svg").touch()
    found = {
        name: [path.stem for path in figure_files(tmp_path, name, ("x", "x-y", "xy"))] for name in ("x", "x-y", "xy")
    }
    assert found == {"x": ["x-gap"], "x-y": ["x-y-gap", "x-y-z-gap"], "xy": ["xy-gap"]}


def test_figures_that_can_not_be_written_are_one_message(tmp_path):
    store_of(tmp_path, "generalization", [(trial, {}) for trial in grid()], **TEST_ALONE)
    (tmp_path / "figures").write_text("in the way")
    with pytest.raises(StoreError, match="figures can't be written"):
        report.write(tmp_path)


def test_provenance_is_told(tmp_path):
    outcome = {"memsweep_version": "9.8.7", "torch_version": "2.13.0"}
    store = store_of(tmp_path, "generalization", [(trial, {}) for trial in grid(seeds=3)], **outcome, **TEST_ALONE)
    pack = {"attempt_id": "a", "host": "there", "device_name": "abacus", "device": "cpu", "memsweep_commit": "c0ffee"}
    store.write("packs", [{**pack, "pack_id": "p", "member_step_count": 1200, "wall_seconds": 2.0}])
    facts = dict(re.findall(r"<tr><th scope=\"row\">(.*?)</th><td>(.*?)</td></tr>", page_of(tmp_path)))
    assert facts["trials"].startswith("6 wanted, 6 stored; hash of their ids ")
    assert facts["settings and seeds"] == "2 settings; seeds 0-2"
    assert facts["varied"] == "data.noise_fraction"
    assert facts["machine"] == "there: abacus (cpu)"
    assert facts["versions"] == "memsweep 9.8.7, torch 2.13.0"
    assert facts["commit"] == "c0ffee"


def test_the_same_tables_make_the_same_figures(tmp_path):
    for folder in ("a", "b"):
        store_of(tmp_path / folder, "generalization", [(trial, {}) for trial in grid()])
        report.write(tmp_path / folder)
    for path in (tmp_path / "a" / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "figures" / path.name).read_bytes()


@pytest.mark.parametrize("sweep", ["generalization", "of-my-own"])
def test_a_figure_is_had_in_python_as_the_report_draws_it(tmp_path, sweep):
    store_of(tmp_path, sweep, [(trial, {}) for trial in grid()], **TEST_ALONE)
    drawn = memsweep.figure(sweep, "test-accuracy", tmp_path)
    plot = plots(page_of(tmp_path))[f"{sweep}-test-accuracy"]
    assert list(drawn.axes[0].lines[0].get_ydata()) == plot["data"][0]["y"]
    drawn.savefig(tmp_path / "own.pdf")
    assert memsweep.figure(sweep, results=tmp_path).axes
    with pytest.raises(StoreError, match=r"has no figure 'gone'; it has .*test-accuracy"):
        memsweep.figure(sweep, "gone", tmp_path)
    with pytest.raises(StoreError, match=f"no sweep 'gone' in .*; there: {sweep}"):
        memsweep.figure("gone", None, tmp_path)


def test_the_verb_says_where_the_page_is(tmp_path, monkeypatch, capsys):
    Store(tmp_path, create=True)
    command = [sys.executable, "-m", "memsweep", "report", "--results", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL)
    assert (ended.returncode, ended.stdout) == (0, f"{tmp_path / 'report.html'}\n")
    monkeypatch.setattr(sys, "argv", ["memsweep", "report", "--results", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as refused:
        app.main()
    assert refused.value.code == 2 and "launch a sweep first" in capsys.readouterr().err


def test_ranges_of_seeds_are_short():
    import pandas as pd

    assert provenance.spans(pd.Series([3, 0, 1, 2, 7, 9, 8, 20])) == "0-3, 7-9, 20"
