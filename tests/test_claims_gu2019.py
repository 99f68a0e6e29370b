"""Claims of Gu & Tresp 2019 on made-up networks: what reproduces each, what contradicts it, and what chance gives."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.claims import claim as claim_module
from memsweep.analysis.claims import controls, nulls
from memsweep.analysis.claims.gu2019 import PAPER
from memsweep.analysis.claims.gu2019_evidence import exchanged
from memsweep.analysis.claims.verdicts import ALPHA, Verdict, as_tested, combined, judge_paper
from memsweep.analysis.core import figures
from memsweep.analysis.questions import similarity
from tests.claims import sides

SEEDS, EXAMPLES, CLASSES, INPUTS = 24, 60, 4, 8
CLAIMS = {claim.number: claim for claim in PAPER.claims}
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def mixed(rng, common, own, *shape):
    """Numbers of a network: so much of what is common to all, the rest its own."""
    return common * (1 - own) + own * rng.normal(size=shape)


def networks(likeness, widths=(64,), seeds=SEEDS, shares=SHARES):
    """What is stored of networks; likeness: (random share, layer, width, trained) -> how much of it is their own."""
    rng, rows = np.random.default_rng(0), []
    common = {(EXAMPLES, w): rng.normal(size=(EXAMPLES, w)) for w in (CLASSES, INPUTS, 16, 32, 64, 128, 256)}
    first, second = 10**6, 10**6 + 1  # noise seeds of labellings that networks share; None: each its own
    settings = [(share, 64, first) for share in shares] + [(1.0, 64, second), (1.0, 64, None)]
    settings += [(0.0, width, first) for width in widths if width != 64]
    for share, width, labelling in settings:
        for seed in range(seeds):
            about = {
                "trial_id": f"{share}-{width}-{labelling}-{seed}",
                "seed": seed,
                "seeds_noise": labelling or seed,
                "data_noise_kind": "labels" if share else "none",
                "data_noise_fraction": share,
                "model_width": width,
                "status": "finished",
                "train_correct_count": 100,
                "train_count": 100,
                "sweep": "similarity",
            }
            for step in (0, 900 + int(600 * share) + seed):  # networks end when they have fitted their labels
                hidden = [("hidden", layer, width) for layer in (1, 2, 3)]
                for quantity, layer, size in (("gradient", 0, INPUTS), ("logits", 4, CLASSES), *hidden):
                    place = (EXAMPLES, size)
                    numbers = mixed(rng, common[place], likeness(share, layer, width, step > 0), *place)
                    what = {"quantity": quantity, "layer": layer, "width": size, "step": step, "part": "validation"}
                    rows.append({**about, **what, "numbers": numbers.ravel()})
                fitted = mixed(rng, common[EXAMPLES, CLASSES], 0.0 if step else 1.0, EXAMPLES, CLASSES)
                what = {"quantity": "logits", "layer": 4, "width": CLASSES, "step": step, "part": "train"}
                rows.append({**about, **what, "numbers": fitted.ravel()})
    return pd.DataFrame(rows)


def as_published(share, layer, width, trained):
    """Learners share; memorizers share nothing beyond the first layer; the wider, the more."""
    if not trained:
        return 0.9
    if layer == 1:
        return 0.5
    return 0.2 + 0.8 * share


def upside_down(share, layer, width, trained):
    if not trained:
        return 0.1
    if layer == 1:
        return 0.2 + 0.7 * (1 - share)
    return 1 - 0.8 * share


@pytest.fixture(scope="module")
def published():
    return networks(as_published, (16, 256))


@pytest.fixture(scope="module")
def contrary():
    return networks(upside_down)


def parts(number, rows):
    return [as_tested(evidence) for evidence in CLAIMS[number].measure(rows)]


OF_NETWORKS = (1, 3, 4, 5, 7)


@pytest.mark.parametrize("number", [*OF_NETWORKS, 2])
def test_networks_as_published_reproduce(number, published):
    assert combined(parts(number, published))["p"] * len(PAPER.claims) <= ALPHA


@pytest.mark.parametrize("number", OF_NETWORKS)
def test_contrary_networks_contradict(number, contrary):
    found = combined(parts(number, contrary))
    assert found["p"] > ALPHA and found["p_against"] * len(PAPER.claims) <= ALPHA


def differing_on_training(rows):
    is_train = rows["part"] == "train"
    own = [np.random.default_rng(i).normal(size=EXAMPLES * CLASSES) for i in range(len(rows))]
    return rows.assign(numbers=rows["numbers"].where(~is_train, pd.Series(own)))


@pytest.mark.parametrize("number", [1, 3, 7])
def test_a_labelling_that_networks_share_as_they_do_true_labels_speaks_against(number, published):
    """Each of several random labellings must leave networks less alike, not one."""
    is_second = published["seeds_noise"] == 10**6 + 1
    is_true = (published["data_noise_fraction"] == 0) & (published["model_width"] == 64)
    rows = published.assign(numbers=published["numbers"].where(~is_second, None))
    rows.loc[is_second, "numbers"] = published.loc[is_true, "numbers"].to_numpy()
    assert combined(parts(number, rows))["p"] > ALPHA


def test_networks_that_differ_on_training_examples_contradict_the_second_claim(published):
    assert combined(parts(2, differing_on_training(published)))["p_against"] < 0.001


def by_share(slope):
    return networks(lambda share, layer, width, trained: 0.4 + slope * (share - 0.5) if trained else 0.9)


@pytest.mark.parametrize(("slope", "side"), [(0.6, "p"), (-0.6, "p_against")])
def test_share_of_random_labels(slope, side):
    assert combined(parts(6, by_share(slope)))[side] * len(PAPER.claims) <= ALPHA


def by_width(slope):
    return networks(
        lambda share, layer, width, trained: 0.9 if not trained else 0.5 - slope * np.log2(width / 64),
        (16, 32, 128, 256),
        shares=(0.0, 1.0),
    )


@pytest.mark.parametrize(("slope", "verdict"), [(0.12, Verdict.REPRODUCED), (-0.12, Verdict.CONTRADICTED)])
def test_width(slope, verdict):
    row = combined(parts(10, by_width(slope)))
    assert row["p" if verdict == Verdict.REPRODUCED else "p_against"] * len(PAPER.claims) <= ALPHA


def examples(noise):
    """First learned steps; noise: share of random labels -> spread around what is common to all."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=EXAMPLES)
    return pd.concat(
        pd.DataFrame(
            {
                **{"trial_id": f"{share}{seed}", "seed": seed, "seeds_noise": 10**6, "data_noise_fraction": share},
                **{"data_noise_kind": "labels" if share else "none", "model_width": 64, "sweep": "similarity"},
                **{"example": range(EXAMPLES), "first_learned_step": common + noise(share) * rng.normal(size=EXAMPLES)},
            }
        )
        for share in (0.0, 1.0)
        for seed in range(SEEDS)
    )


def test_order():
    assert parts(8, examples(lambda share: 0.2 + share))[0].p < 0.001
    assert parts(8, examples(lambda share: 1.2 - share))[0].p_against < 0.001


def curves(rate):
    """Accuracy over steps; rate: (share of random labels, corrupted) -> how fast it rises."""
    return pd.DataFrame(
        {
            **{"trial_id": f"{share}{seed}", "seed": seed, "seeds_noise": 10**6, "data_noise_fraction": share},
            **{"data_noise_kind": "labels" if share else "none", "model_width": 64, "step": step},
            **{"train_correct_count": 100 * (1 - np.exp(-rate(share, share == 1) * step)), "train_count": 100},
            **{"clean_correct_count": 50 * (1 - np.exp(-rate(share, False) * step)), "clean_count": 50},
            **{"corrupted_correct_count": 50 * (1 - np.exp(-rate(share, True) * step)), "corrupted_count": 50},
        }
        for share in (0.0, 0.4, 1.0)
        for seed in range(SEEDS)
        for step in range(0, 200, 5)
    )


def later(share, corrupted):
    return 0.02 if corrupted else 0.1


def sooner(share, corrupted):
    return 0.1 if corrupted else 0.02


def test_simple_patterns_first():
    assert combined(parts(9, curves(later)))["p"] < 0.001
    assert combined(parts(9, curves(sooner)))["p_against"] < 0.001


def test_random_labels_that_are_never_fitted_take_longer():
    found = parts(9, curves(lambda share, corrupted: 0.0001 if corrupted else 0.1))[0]
    assert found.estimate == np.inf and found.replicates == SEEDS


def alike():
    """Networks of which all labels leave as much in common; units have an order of their own in each network."""
    rows, rng = networks(lambda share, layer, width, trained: 0.8 if trained else 0.9), np.random.default_rng(1)
    is_hidden = rows["quantity"] == "hidden"
    ordered = [rng.permutation(n.reshape(EXAMPLES, -1), axis=1).ravel() for n in rows.loc[is_hidden, "numbers"]]
    rows.loc[is_hidden, "numbers"] = pd.Series(ordered, rows.index[is_hidden])
    return rows


@cache
def _networks(likeness):
    return networks(likeness, (16, 256))


def _published_or_contrary(side):
    return None if side is None else _networks(as_published if side else upside_down)


def _on_training(side):
    if side is None:
        return None
    rows = _networks(as_published)
    return rows if side else differing_on_training(rows)


TABLES = {number: _published_or_contrary for number in OF_NETWORKS} | {
    2: _on_training,
    6: sides(lambda: by_share(0.6), lambda: by_share(-0.6)),
    8: sides(lambda: examples(lambda share: 0.2 + share), lambda: examples(lambda share: 1.2 - share)),
    9: sides(lambda: curves(later), lambda: curves(sooner)),
    10: sides(lambda: by_width(0.12), lambda: by_width(-0.12)),
}

# Chance.


@pytest.mark.parametrize("number", [1, 3, 7])
def test_exchanged_networks_reproduce_no_more_often_than_chance(number, monkeypatch):
    monkeypatch.setattr("memsweep.analysis.claims.gu2019_evidence.EXCHANGES", 199)
    rows = networks(as_published, seeds=12, shares=(0.0, 1.0))
    rate = controls.reproduced_by_chance(CLAIMS[number], rows, np.random.default_rng(1), 40)
    assert rate <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)


def test_networks_of_exchanged_widths_can_be_compared():
    rows = nulls.shuffled(by_width(0.12), CLAIMS[10].shuffled, np.random.default_rng(1))
    assert combined(parts(10, rows))["p"] > ALPHA


def test_the_permutation_test_holds_its_rate_and_its_interval_the_difference():
    rng, p = np.random.default_rng(3), []
    for _ in range(200):
        one = rng.normal(size=(20, 20))
        p.append(exchanged("x", ((one + one.T) / 2).reshape(2, 10, 2, 10)).p)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    alike = np.where(np.kron([[1, 0], [0, 0]], np.ones((10, 10))) > 0, 0.7, 0.2).reshape(2, 10, 2, 10)
    found = exchanged("x", alike)
    assert found.estimate == pytest.approx(0.5) and found.low == pytest.approx(0.5) and found.replicates == 10


def test_networks_that_are_missing_leave_their_seed_out():
    alike = np.where(np.kron([[1, 0], [0, 0]], np.ones((10, 10))) > 0, 0.7, 0.2).reshape(2, 10, 2, 10)
    alike[1, 3] = alike[:, :, 1, 3] = np.nan
    found = exchanged("x", alike)
    assert found.replicates == 9 and found.estimate == pytest.approx(0.5) and 0 < found.p < 0.01


def test_too_few_networks_are_no_test(published):
    rows = published.assign(train_correct_count=98)
    with pytest.raises(claim_module.MissingTrialsError, match="0 seeds with fitted networks"):
        CLAIMS[1].measure(rows)


def test_every_claim_is_there_and_none_is_run_without_trials():
    found = judge_paper(PAPER, lambda query, sweep: pd.DataFrame({"x": []}))
    assert found["claim"].tolist() == list(range(1, 11)) and set(found["verdict"]) == {Verdict.NOT_RUN}


def test_figures_show_what_is_compared_and_say_where_nothing_is(published):
    summary, nothing = (similarity.summarize(rows) for rows in (published, published.assign(status="failed")))
    for figure in similarity.FIGURES:
        assert len(figure.rows(summary)), figure.name
        assert set(figure.rows(summary)["seeds"]) == {SEEDS // 2} and not figure.rows(summary)["missing"].any()
        with figures.canvas() as ax:
            figure.draw(summary, ax)
            assert ax.lines
        with figures.canvas() as ax:
            figure.draw(nothing, ax)
            assert "no finished trial" in ax.texts[0].get_text()
