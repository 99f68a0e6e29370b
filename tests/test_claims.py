"""What makes a verdict: the test of a margin, Holm's correction, conjunctions, facts, and what chance alone gives."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memsweep import TrialConfig
from memsweep.analysis.claims import background_evidence as evidence
from memsweep.analysis.claims import claim as claim_module
from memsweep.analysis.claims import controls, designs, nulls, table, verdicts
from memsweep.analysis.claims.claim import Basis, Claim, Fact, Margin, MissingTrialsError, Paper, Trend, paired
from memsweep.analysis.claims.verdicts import Verdict, as_tested, holm, judge_paper
from memsweep.analysis.questions import capacity, sequence_ablation, sequence_capacity
from memsweep.results.storage.store import Store, StoreError
from memsweep.spec.config import FIELDS
from memsweep.spec.sweep_files import load_sweep
from tests.cases import ended
from tests.commands import run  # noqa: F401


def claim(number, *evidence, **fields):
    return Claim(number, "more than less", Basis.CONFIRMED, "sign test", ("s",), lambda rows: evidence, **fields)


def judged(*claims):
    return judge_paper(Paper("p", "A paper", "Read in full.", claims), lambda query, sweep: pd.DataFrame({"x": [1]}))


def one(*evidence, **fields):
    return judged(claim(1, *evidence, **fields)).iloc[0]


def margin(*values, above=0.0):
    return Margin("a margin", np.array(values, float), above)


@pytest.mark.parametrize(
    ("values", "above", "verdict"),
    [
        (range(1, 11), 0, Verdict.REPRODUCED),
        (range(1, 11), 0.9, Verdict.REPRODUCED),
        (range(1, 11), 5.5, Verdict.UNDECIDED),
        (range(1, 11), 11, Verdict.CONTRADICTED),
        ([-1] * 10, 0, Verdict.CONTRADICTED),
        ([0] * 10, 0, Verdict.UNDECIDED),
        ([1] * 9, 0, Verdict.UNDECIDED),  # too few
        ([1] * 9 + [np.nan], 0, Verdict.UNDECIDED),
    ],
)
def test_a_margin_decides_by_its_seeds(values, above, verdict):
    assert one(margin(*values, above=above))["verdict"] == verdict


def test_a_tie_and_too_few_replicates_are_named():
    assert "tie" in one(margin(*[0] * 10))["reason"]
    assert "9 replicates; the test requires 10" in one(margin(*[1] * 9))["reason"]


def test_the_sign_test_is_exact():
    found = as_tested(margin(1, 2, 3, 4, -1))
    assert found.p == pytest.approx((5 + 1) / 32) and found.p_against == pytest.approx(31 / 32)
    assert (found.estimate, found.low, found.high) == (2, -1, 4)


def test_a_conjunction_is_as_weak_as_its_weakest_part():
    row = one(margin(*[1] * 10), margin(*[1] * 8, -1, -2))
    assert row["verdict"] == Verdict.UNDECIDED and row["low"] < 0
    assert one(margin(*[1] * 10), margin(*[-1] * 10))["verdict"] == Verdict.CONTRADICTED


def test_equivalence_is_two_margins():
    near, wide = np.linspace(-0.1, 0.1, 10), np.linspace(-3, 3, 10)
    assert one(margin(*(0.5 - near)), margin(*(0.5 + near)))["verdict"] == Verdict.REPRODUCED
    assert one(margin(*(0.5 - wide)), margin(*(0.5 + wide)))["verdict"] == Verdict.UNDECIDED


def test_holm_is_over_the_claims_that_were_tested():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    good = margin(*[1] * 9, -1)  # p = 11 / 1024
    assert one(good)["verdict"] == Verdict.REPRODUCED
    assert set(judged(*(claim(i, good) for i in range(5)))["verdict"]) == {Verdict.UNDECIDED}
    beside = [claim(i, Fact("a theorem", 0, True, 3), is_check=True) for i in range(5)]
    assert judged(claim(9, good), *beside)["verdict"].iloc[0] == Verdict.REPRODUCED


@pytest.mark.parametrize(("holds", "verdict"), [(True, Verdict.HOLDS), (False, Verdict.FAILS)])
def test_a_check_needs_no_chance_and_is_counted_apart(holds, verdict):
    table = judged(claim(1, Fact("a theorem", 1e-9, holds, 3), is_check=True), claim(2, margin(*range(1, 11))))
    assert table["verdict"].iloc[0] == verdict and table["p"].iloc[0] == (0 if holds else 1)
    assert verdicts.counted(table) == f"1 finding: 1 reproduced; 1 check: 1 {verdict}"


def rising(seeds, slope=1.0, settings=4):
    return slope * np.arange(settings) + 0.01 * np.random.default_rng(0).normal(size=(seeds, settings))


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (rising(10), Verdict.REPRODUCED),
        (rising(10, -1.0), Verdict.CONTRADICTED),
        (np.concatenate([rising(5), rising(5, -1.0)]), Verdict.UNDECIDED),
        (np.ones((10, 4)), Verdict.UNDECIDED),
        (rising(9), Verdict.UNDECIDED),  # too few
    ],
)
def test_a_trend_decides_by_its_direction(values, verdict):
    assert one(Trend("by width", values))["verdict"] == verdict


def test_a_trend_may_be_decided_where_no_single_seed_is_in_order():
    """Half of the neighbours of each seed are in the wrong order: a correlation within each would not decide."""
    values = np.tile([[0.0, 2.0, 1.0, 3.0, 2.5]], (12, 1)) + 0.01 * np.random.default_rng(0).normal(size=(12, 5))
    row = one(Trend("by width", values))
    assert row["verdict"] == Verdict.REPRODUCED and row["estimate"] == pytest.approx(0.8)


def test_a_second_design_has_half_the_rate_of_wrong_verdicts(monkeypatch):
    good = margin(*[1] * 9, -1)  # p = 11 / 1024
    monkeypatch.setattr(designs, "DESIGNS", {"s": 4})
    assert one(good)["verdict"] == Verdict.REPRODUCED and one(good)["level"] == designs.ALPHA / 4
    monkeypatch.setattr(designs, "DESIGNS", {"s": 5})
    assert one(good)["verdict"] == Verdict.UNDECIDED


def test_a_test_of_its_own_is_taken_as_it_is():
    row = one(claim_module.Tested("a permutation test", 0.3, 0.1, 0.5, 0.002, 0.999, 20))
    assert (row["verdict"], row["replicates"], row["low"]) == (Verdict.REPRODUCED, 20, 0.1)


def test_what_is_missing_is_said():
    def measure(rows):
        raise MissingTrialsError("no trial with noise fraction 0.2")

    row = judged(Claim(1, "s", Basis.ABSTRACT, "t", ("s",), measure)).iloc[0]
    assert (row["verdict"], row["reason"]) == (Verdict.NOT_RUN, "no trial with noise fraction 0.2")
    nothing = Paper("p", "A paper", "", (claim(1, margin(1)),))
    row = judge_paper(nothing, lambda query, sweep: pd.DataFrame({"x": []})).iloc[0]
    assert row["verdict"] == Verdict.NOT_RUN and row["reason"].endswith("memsweep launch s")


# Chance.


def trials(effect, generator, seeds=10):
    return pd.DataFrame(
        {
            "trial_id": f"{kind}{seed}",
            "sweep": "s",
            "seed": seed,
            "data_noise_kind": kind,
            "value": generator.normal() + effect * (kind == "none"),
        }
        for seed in range(seeds)
        for kind in ("none", "labels")
    )


CLEAN_ABOVE_NOISY = Claim(
    1,
    "more on clean data",
    Basis.CONFIRMED,
    "sign test",
    ("s",),
    lambda rows: [Margin("difference", paired(rows, "value", "data_noise_kind", "none", "labels"))],
    shuffled=("data_noise_kind",),
)


@pytest.mark.parametrize("effect", [0, 5])
def test_exchanged_settings_give_a_verdict_no_more_often_than_chance(effect):
    rate = controls.reproduced_by_chance(
        CLEAN_ABOVE_NOISY, trials(effect, np.random.default_rng(1)), np.random.default_rng(2), 100
    )
    assert rate <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_the_control_catches_a_test_that_counts_each_seed_often():
    """Ten copies of a seed are no ten replicates."""

    def measure(rows):
        return [Margin("difference", np.repeat(paired(rows, "value", "data_noise_kind", "none", "labels"), 10))]

    wrong = Claim(1, "s", Basis.CONFIRMED, "t", ("s",), measure, shuffled=("data_noise_kind",))
    rate = controls.reproduced_by_chance(wrong, trials(0, np.random.default_rng(1)), np.random.default_rng(2), 100)
    assert rate > 0.1


def test_shuffling_exchanges_within_a_seed_alone():
    rows = trials(5, np.random.default_rng(0))
    changed = nulls.shuffled(rows, ("data_noise_kind",), np.random.default_rng(3))
    assert sorted(changed["trial_id"]) == sorted(rows["trial_id"])
    assert (changed.groupby("seed")["data_noise_kind"].nunique() == 2).all()
    kinds = changed.set_index("trial_id")["data_noise_kind"]
    assert 0 < sum(kinds[t] != k for t, k in zip(rows["trial_id"], rows["data_noise_kind"], strict=True)) < len(rows)


def test_what_changes_within_a_trial_is_exchanged_between_its_times():
    rows = pd.DataFrame({"trial_id": list("aaaabbbb"), "value": [1.0, np.nan, 2.0, 3.0, 4.0, np.nan, 5.0, 6.0]})
    changed = [nulls.shuffled(rows, ("value",), np.random.default_rng(seed))["value"] for seed in range(20)]
    for values in changed:
        assert list(values.isna()) == list(rows["value"].isna())
        assert set(values[:4].dropna()) == {1.0, 2.0, 3.0} and set(values[4:].dropna()) == {4.0, 5.0, 6.0}
    assert len({tuple(values.dropna()) for values in changed}) > 10


def test_paired_differences_name_what_is_not_there():
    rows = trials(1, np.random.default_rng(0))
    assert len(paired(rows, "value", "data_noise_kind", "none", "labels")) == 10
    with pytest.raises(MissingTrialsError, match="noise kind wrong_labels"):
        paired(rows, "value", "data_noise_kind", "none", "wrong_labels")


# Networks before training, and injected effects.


def probed(gain):
    """A value of ten networks before training and after, `gain` more."""
    value = np.random.default_rng(0).normal(2, 0.1, size=10)
    rows = [
        {"trial_id": f"t{seed}", "seed": seed, "step": step, "part": part, "value": value[seed] + gain * (step > 0)}
        for seed in range(10)
        for step in (0, 5)
        for part in ("train", "test")
    ]
    return pd.DataFrame(rows)


def of_probe(measure):
    return Claim(1, "s", Basis.CONFIRMED, "t", ("s",), measure, untrained=("part",))


def test_a_claim_that_untrained_networks_pass_is_undecided():
    def at_end(rows):
        return [Margin("value", rows.loc[(rows["step"] > 0) & (rows["part"] == "test"), "value"].to_numpy())]

    def gained(rows):
        by_step = rows[rows["part"] == "test"].pivot(index="seed", columns="step", values="value")
        return [Margin("gain", (by_step[5] - by_step[0]).to_numpy())]

    for measure, verdict in ((at_end, Verdict.UNDECIDED), (gained, Verdict.REPRODUCED)):
        paper = Paper("p", "A paper", "", (of_probe(measure),))
        row = judge_paper(paper, lambda query, sweep: probed(3.0)).iloc[0]
        assert row["verdict"] == verdict
        assert ("untrained networks pass" in row["reason"]) == (row["p_untrained"] < 0.05) == (measure is at_end)


@pytest.mark.parametrize(
    ("evidence", "least", "most"),
    [
        (margin(*np.random.default_rng(0).normal(size=12), above=3.0), 0.9, 1.0),
        (margin(*[7.0] * 12), 1.0, 1.0),
        (Trend("t", np.random.default_rng(0).normal(size=(12, 4))), 0.9, 1.0),
        (margin(*np.random.default_rng(0).normal(size=4)), 0.0, 0.0),  # four seeds can't decide
    ],
)
def test_an_injected_effect_is_seen_by_a_test_of_enough_seeds(evidence, least, most):
    rate = controls.power(claim(1, evidence), pd.DataFrame(), np.random.default_rng(1), 50, findings=10)
    assert least <= rate <= most
    absent = controls.power(claim(1, evidence), pd.DataFrame(), np.random.default_rng(1), 50, findings=10, size=0.0)
    assert absent <= 0.1 or evidence.values.std() == 0


@pytest.mark.parametrize(("bound", "least", "most"), [(5.0, 0.95, 1.0), (0.2, 0.0, 0.0)])
def test_the_effect_of_a_number_near_another_is_that_they_are_equal(bound, least, most):
    """A test that asks for less than the replicates' spread can't be passed, however true the claim is."""
    difference = np.random.default_rng(0).normal(size=12)
    near = claim(1, *claim_module.within("a - b", difference, bound))
    assert least <= controls.power(near, pd.DataFrame(), np.random.default_rng(1), 50, findings=10) <= most


# The table in a results folder.


@pytest.fixture
def paper(monkeypatch):

    def measure(rows):
        return [Margin("share fitted", (rows["train_correct_count"] / rows["train_count"]).to_numpy(), 0.5)]

    claims = (
        Claim(1, "all is fitted", Basis.CONFIRMED, "sign test", ("s",), measure, shuffled=("model_width",)),
        Claim(2, "of another sweep", Basis.EXTENSION, "sign test", ("other",), measure),
    )
    own = Paper("p2000", "Somebody (2000)", "Read in full.", claims)
    for module in (verdicts, controls, __import__("memsweep.analysis.report.report", fromlist=["report"])):
        monkeypatch.setattr(module, "papers", lambda: [own])
    return own


@pytest.fixture
def results(tmp_path):
    store = Store(tmp_path / "results", create=True)
    configs = [TrialConfig.of({"seed": seed}) for seed in range(10)]
    for position, config in enumerate(configs):
        row = {"sweep": "s", "trial_id": config.trial_id, "setting_id": config.setting_id, "position": position}
        store.write("wanted", [{**row, "seed": config.seed, "probes": "", "configuration": json.dumps(config.flat())}])
    store.write("trials", [ended(c.trial_id, seed=c.seed, train_correct_count=9, train_count=10) for c in configs])
    return store.results


def test_the_table_is_written_and_read_again(paper, results):
    made = table.write(results)
    assert list(made["verdict"]) == [Verdict.REPRODUCED, Verdict.NOT_RUN]
    assert list(table.stored(results)["verdict"]) == ["reproduced", "not run"]
    assert made["estimate"].iloc[0] == 0.9 and made["replicates"].iloc[0] == 10
    assert made["by_chance"].isna().all()


def test_a_test_that_shuffles_do_not_change_shows_in_the_table(paper, results):
    made = table.write(results, shuffles=3).iloc[0]
    assert made["by_chance"] == 1 and made["power"] == 1
    assert made["verdict"] == Verdict.UNDECIDED and "chance alone" in made["reason"]
    assert table.stored(results)["by_chance"].iloc[0] == 1


def test_the_report_shows_the_verdicts(paper, results):
    from memsweep.analysis.report import report

    assert "Somebody (2000)" not in report.write(results).read_text()
    table.write(results)
    page = report.write(results).read_text()
    assert "Somebody (2000)" in page and "2 findings: 1 reproduced, 1 not run" in page
    assert (results / "figures" / "claims-p2000.png").stat().st_size > 1000


def test_a_table_of_an_earlier_version_is_read(paper, results):
    earlier = table.write(results).drop(columns=[*table.ADDED])
    (results / table.FILE).write_text(earlier.to_csv(index=False))
    again = table.stored(results)
    assert list(again.columns) == verdicts.COLUMNS and set(again["kind"]) == {"finding"}


@pytest.mark.parametrize("content", ["", "paper,claim\np,1\n"])
def test_a_damaged_table_is_refused_with_what_to_do(content, tmp_path):
    Store(tmp_path, create=True)
    (tmp_path / table.FILE).write_text(content)
    with pytest.raises(StoreError, match="Delete it, then: memsweep claims"):
        table.stored(tmp_path)


def test_the_verb_prints_and_writes(results, run):  # noqa: F811
    assert run("claims", "--results", results, "--shuffles", 3, "--format", "jsonl")[0] == 0
    assert (results / table.FILE).exists()
    code, _, err = run("claims", "--results", results / "nowhere")
    assert code == 2 and "no results at" in err


def test_every_claim_says_what_it_needs_to():
    for own in verdicts.papers():
        assert [c.number for c in own.claims] == list(range(1, len(own.claims) + 1))
        assert all(c.statement and c.test for c in own.claims), own.key


# The sweeps that claims are tested on.

SWEEPS = Path(__file__).parent.parent / "sweeps"


def test_every_claim_is_tested_on_sweeps_that_are_there():
    asked = {(own.key, sweep) for own in verdicts.papers() for claim in own.claims for sweep in claim.sweeps}
    assert not [(key, sweep) for key, sweep in asked if not (SWEEPS / f"{sweep}.py").exists()]


TOLD_APART = {name: {"model.depth"} for name in ("sequence_capacity", "exposure", "string_capacity")}
"""Sweep -> what its figures and claims tell apart though it is one and the same in the default; depth by width, too."""
BEST_OF_WAYS = {"memorizer_width", "sequence_capacity"}
"""Sweeps whose analysis takes the best of the ways to train, by `capacity.best_by_size`."""
ONE_WAY = {"optimizer.learning_rate", "data.examples", "data.validation_examples", "data.classes"}
"""What only a default sweep varies: how it trains, and what real data fix."""


def varied(sweep):
    """Fields that vary, but seeds, and the protocol, which follows from other fields."""
    rows = [trial.flat() for trial in sweep.trials]
    names = [name for name in FIELDS if not name.startswith(("seed", "protocol"))]
    return {name for name in names if len({row[name] for row in rows}) > 1}


@pytest.mark.parametrize("path", sorted((SWEEPS / "paper").glob("*.py")), ids=lambda path: path.stem)
def test_a_sweep_at_the_papers_size_answers_the_question_of_its_namesake(path):
    """So that its trials are read by the same analysis, which mixes nothing: it takes the best of ways to train."""
    large, default = load_sweep(str(path)), load_sweep(path.stem)
    assert large.name == default.name == path.stem
    ways = {name for name in FIELDS if name.replace(".", "_").startswith(capacity.TUNED)}
    allowed = TOLD_APART.get(path.stem, set()) | (ways if path.stem in BEST_OF_WAYS else set())
    of_large, of_default = varied(large), varied(default)
    assert of_large - of_default <= allowed
    assert of_default - of_large <= ONE_WAY


def test_widths_of_the_ablation_are_those_that_its_figures_and_claims_name():
    widths = {trial.model.width for trial in load_sweep("sequence_ablation").trials}
    assert widths == {sequence_ablation.EQUAL, sequence_ablation.WIDER}


def test_cells_are_labelled_at_the_lengths_that_claims_name():
    trials = [t for t in load_sweep("sequence_capacity").trials if t.data.task == "random_sequences"]
    lengths = {cell: {t.data.sequence_length for t in trials if t.model.cell == cell} for cell in evidence.CELLS}
    assert all(sequence_capacity.COMPARED_AT in own for own in lengths.values())
    assert set(evidence.LENGTHS) in lengths.values()
