"""Two sweeps, or two codes, compared at the settings that both have: against differences taken by hand."""

from pathlib import Path

import numpy as np
import pytest

from memsweep import Sweep
from memsweep.analysis.core import differences, figures, statistics
from memsweep.results.storage.store import Store, StoreError
from memsweep.run.rounds.definition import write_wanted
from memsweep.spec.schema import cell
from tests.cases import ended
from tests.commands import own_folder, run

SEEDS = range(5)


def sweep(name, widths=(8, 16, 32), seeds=SEEDS, **fields):
    base = {"optimizer.epochs": 2, **{key.replace("__", "."): value for key, value in fields.items()}}
    return Sweep(name, base=base, axes={"model.width": widths}, seeds=seeds)


def accuracy(trial, base):
    """Of 1,000 examples, as whole numbers."""
    return round(base + 3 * trial.model.width + 10 * np.sin(trial.seed + base))


def row_of(trial, base, status="finished", attempt="a", minute=0, **columns):
    fields = {name.replace(".", "_"): cell(value) for name, value in trial.flat().items()}
    counts = {"validation_correct_count": accuracy(trial, base), "validation_count": 1000}
    return ended(trial.trial_id, status, attempt, minute, **{**fields, **counts, **columns})


def fill(store, sweep, base, **columns):
    write_wanted(sweep, sweep.trials, store)
    store.write("trials", [row_of(trial, base, **columns) for trial in sweep.trials])


SGD, ADAM = sweep("sgd"), sweep("adam", (16, 32, 64), range(2, 8), optimizer__name="adamw")


@pytest.fixture
def store(own_folder):
    made = Store("results", create=True)
    fill(made, SGD, 500)
    fill(made, ADAM, 520)
    return made


def test_differences_are_paired_by_setting_and_seed(store):
    found = differences.compare("sgd", "adam", store)
    assert str(found) == "adam - sgd: 2 settings are in both; they differ in optimizer.name (sgd, adamw)."
    rows = found.rows.set_index("setting")
    assert list(rows.index) == [differences.ALL, "width 16", "width 32"]
    assert set(rows["measure"]) == {"validation_accuracy"} and set(rows["seeds"]) == {3} and set(rows["missing"]) == {0}
    for width in (16, 32):
        pairs = [[a for a in side.trials if a.model.width == width and a.seed in (2, 3, 4)] for side in (SGD, ADAM)]
        mine, theirs = (np.array([accuracy(t, base) for t in pairs[i]]) / 1000 for i, base in enumerate((500, 520)))
        row = rows.loc[f"width {width}"]
        assert row["first"] == pytest.approx(mine.mean()) and row["second"] == pytest.approx(theirs.mean())
        assert row["estimate"] == pytest.approx((theirs - mine).mean())
        low, high = statistics.bootstrap_mean((theirs - mine)[None], np.random.default_rng(0))
        assert (row["low"], row["high"]) == (pytest.approx(low[0]), pytest.approx(high[0]))
    assert rows.loc[differences.ALL, "estimate"] == pytest.approx(rows["estimate"].iloc[1:].mean())
    whole = rows.loc[differences.ALL]
    assert whole["low"] <= whole["estimate"] <= whole["high"]


def test_swapped_sides_have_the_opposite_sign(store):
    one, other = (differences.compare(*names, store).rows for names in (("sgd", "adam"), ("adam", "sgd")))
    assert np.allclose(one["estimate"], -other["estimate"]) and np.allclose(one["low"], -other["high"], atol=1e-3)


def test_a_trial_without_a_result_is_missing_on_both_sides(store):
    lost = next(trial for trial in ADAM.trials if trial.model.width == 16 and trial.seed == 3)
    store.write("trials", [row_of(lost, 520, "diverged", "b", minute=-9)])  # settled earlier: this one counts
    rows = differences.compare("sgd", "adam", store).rows.set_index("setting")
    assert rows.loc["width 16", ["seeds", "missing"]].tolist() == [2, 1]
    assert rows.loc[differences.ALL, ["seeds", "missing"]].tolist() == [2, 1]
    assert rows.loc["width 16", "first"] == pytest.approx(
        np.mean([accuracy(t, 500) for t in SGD.trials if t.model.width == 16 and t.seed in (2, 4)]) / 1000
    )


def test_two_versions_of_code(store):
    nets = sweep("nets", (16, 32), SEEDS, model__family="tests.test_choices:Branching")
    fill(store, nets, 400, attempt="old", code_fingerprint="aaaa1")
    fill(store, nets, 430, attempt="new", code_fingerprint="bbbb2")
    found = differences.compare("nets@aaaa", "nets@bbbb2", store)
    assert found.settings == 2 and found.apart == {}
    by_hand = np.mean([accuracy(t, 430) - accuracy(t, 400) for t in nets.trials]) / 1000
    assert found.rows.iloc[0]["estimate"] == pytest.approx(by_hand) and found.rows.iloc[0]["seeds"] == 5
    with pytest.raises(StoreError, match=r"0 versions of code of sweep 'nets' begin with 'c'; there: aaaa1, bbbb2\."):
        differences.compare("nets@c", "nets", store)


def test_a_sweep_and_itself_do_not_differ(store):
    found = differences.compare("sgd", "sgd", store)
    assert found.apart == {} and found.settings == 3 and set(found.rows["estimate"]) == {0.0}


@pytest.mark.parametrize(
    "names, message",
    [
        (("sgd", "none"), "no sweep 'none' in results; there: adam, sgd, wide."),
        (("sgd", "wide"), "model.width is 8 or 16 or 32 in the first and 128 or 256 in the second"),
        (("sgd", "adam", "--measure", "beauty"), "there is no measure 'beauty'; the measures are train_accuracy"),
        (("sgd", "adam", "--figure", "a.doc"), "a.doc: the figure can't be written"),
        (("sgd", "adam", "--figure", "none/a.png"), "none/a.png: the figure can't be written"),
    ],
)
def test_what_is_refused(store, run, names, message):
    fill(store, sweep("wide", (128, 256)), 500)
    code, _, err = run("diff", *names)
    assert code == 2 and message in err.replace(str(store.results), "results")


def test_the_verb(store, run):
    code, out, err = run("diff", "sgd", "adam", "--format", "csv", "--figure", "difference.svg")
    assert code == 0 and "2 settings are in both" in err and out.count("\n") == 4
    text = Path("difference.svg").read_text()
    assert "validation accuracy: adam - sgd" in text and "width 16" in text and differences.ALL in text
    code, out, _ = run("diff", "sgd", "adam", "--measure", "validation_accuracy", "--measure", "validation_loss_nats")
    assert code == 0 and "validation_loss_nats" in out


def test_many_settings_are_drawn_without_names(store):
    for name, base in (("a", 500), ("b", 520)):
        wide = sweep(name, tuple(range(8, 70)), range(3), optimizer__name="sgd" if name == "a" else "adamw")
        fill(store, wide, base)
    with figures.canvas() as ax:
        differences.draw(differences.compare("a", "b", store), ax)
        assert len(ax.get_yticks()) == 0 and ax.get_ylabel() == "settings, by difference"
        assert len(ax.containers[0][0].get_xdata()) == 63


def test_a_measure_without_values_says_so(store):
    with figures.canvas() as ax:
        differences.draw(differences.compare("sgd", "adam", store, ["test_accuracy"]), ax)
        assert figures.why_empty(ax) == "no setting has a test accuracy in both"
