"""Claims of Feldman and Zhang (2020) and Lukasik et al. (2023) on scores and answers made up by width and noise."""

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.claims.feldman2020 import BLOCKS, NOISE, WIDTH
from memsweep.analysis.core import figures
from memsweep.analysis.questions import memorization
from tests.claims import sides

WIDTHS, SUBSETS = (8, 16, 32, 64, 128), 240


def blocks(true=lambda width, noise: 0.1, wrong=lambda width: 0.9, agreement=0.5):
    """A row for each setting and block of subsets, as `feldman2020.ROWS` returns them."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            **{"trial_id": f"{noise}-{width}-{block}", "seed": block, "status": "finished", "sweep": "s"},
            **{"setting_id": "", WIDTH: width, NOISE: noise, "agreement": agreement + 0.01 * rng.normal()},
            "true_score": true(width, noise) + 0.002 * rng.normal(),
            "wrong_score": wrong(width) + 0.002 * rng.normal() if noise else np.nan,
        }
        for noise in (0.0, 0.2)
        for width in WIDTHS
        for block in range(BLOCKS)
    )


def networks(help_of_class, pool=40, tests=20):
    """Rows of the widest network's answers. help_of_class: effect of the same class's examples, by half of subsets."""
    rng = np.random.default_rng(0)
    trained = rng.random((pool, SUBSETS)) < 0.7
    labels, test_labels = np.arange(pool) % 4, np.arange(tests) % 4
    share = np.stack([trained[labels == label].mean(0) for label in range(4)])[test_labels] - 0.7
    effect = np.repeat(help_of_class, SUBSETS // 2)
    right = rng.random((tests, SUBSETS)) < np.clip(0.5 + effect * share, 0, 1)
    common = {
        "seed": 0,
        "status": "finished",
        "setting_id": "",
        WIDTH: 128,
        NOISE: 0.0,
        "trial_id": "a",
        "corrupted": False,
    }
    common |= dict.fromkeys(memorization.POOL, 0)
    rows = [
        {**common, "part": "pool", "example": i, "given_label": labels[i], "trained": row, "answers": row}
        for i, row in enumerate(trained)
    ]
    rows += [
        {**common, "part": "test", "example": j, "given_label": label, "trained": ~row & False, "answers": row}
        for j, (label, row) in enumerate(zip(test_labels, right, strict=True))
    ]
    return pd.DataFrame(rows)


TABLES = {
    1: sides(blocks, lambda: blocks(wrong=lambda width: 0.5)),
    2: sides(
        lambda: blocks(true=lambda width, noise: 0.2 - 0.02 * np.log2(width)),
        lambda: blocks(true=lambda width, noise: 0.02 * np.log2(width)),
    ),
    3: sides(
        lambda: blocks(wrong=lambda width: 0.1 * np.log2(width)), lambda: blocks(wrong=lambda width: 2 / np.log2(width))
    ),
    4: sides(
        lambda: blocks(true=lambda width, noise: 0.1 + noise), lambda: blocks(true=lambda width, noise: 0.3 - noise)
    ),
    5: sides(blocks, lambda: blocks(agreement=-0.5)),
    6: sides(lambda: networks((3, 3)), lambda: networks((-3, -3)), lambda: networks((3, -3))),
}


def answers(subsets=400, examples=50):
    """Answers of networks that are right inside with 0.9, outside with 0.2, so that all scores are 0.7."""
    rng = np.random.default_rng(1)
    trained = rng.random((examples, subsets)) < 0.7
    right = rng.random((examples, subsets)) < np.where(trained, 0.9, 0.2)
    return memorization.Answers(
        trained, right, np.zeros(examples, bool), np.zeros(examples, int), right[:5], np.zeros(5)
    )


def test_a_score_is_the_difference_of_shares_and_has_a_standard_error():
    pool = answers()
    scores, errors = memorization.scores(pool.trained, pool.right)
    for example in (0, 7):
        inside = pool.trained[example]
        assert scores[example] == pool.right[example, inside].mean() - pool.right[example, ~inside].mean()
    assert np.abs((scores - 0.7) / errors).mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.25)
    never = memorization.scores(np.zeros((1, 3), bool), np.ones((1, 3), bool))
    assert np.isnan(never).all()


def test_an_influence_is_the_same_difference_of_answers_to_a_test_example():
    pool = answers()
    found = memorization.influences(pool.trained, pool.tested)
    inside = pool.trained[3]
    assert found[3, 2] == pytest.approx(pool.tested[2, inside].mean() - pool.tested[2, ~inside].mean())


def test_the_jackknife_over_subsets_gives_the_spread_of_other_subsets():
    """Of networks whose subsets make them right on all examples or on few: most of the spread is between subsets."""
    rng = np.random.default_rng(2)

    def drawn():
        trained = rng.random((30, 100)) < 0.7
        luck = rng.normal(0, 0.1, size=100)
        right = rng.random((30, 100)) < np.where(trained, 0.8, 0.3 + luck)
        return memorization.Answers(trained, right, np.zeros(30, bool), np.zeros(30, int), right[:0], np.zeros(0))

    def mean(pool):
        return np.array([np.nanmean(memorization.scores(pool.trained, pool.right)[0])])

    estimated = [memorization.jackknifed(drawn(), mean) for _ in range(100)]
    spread = np.std([value for value, _ in estimated])
    assert np.mean([error for _, error in estimated]) == pytest.approx(spread, rel=0.3)


def test_figures_are_drawn_of_scores_and_pairs():
    rows = networks((3, 3))
    trials = pd.DataFrame(
        [
            {**rows.iloc[0].drop(["part", "trained", "answers"]).to_dict(), "trial_id": f"t{i}", "seed": i}
            for i in range(3)
        ]
    )
    wrong = rows.assign(corrupted=rows["example"] % 2 == 0)
    summary = memorization.summarize(pd.concat([trials, wrong], ignore_index=True))
    assert set(summary["quantity"]) == {memorization.SCORE, memorization.HISTOGRAM, memorization.PAIRS}
    pairs = summary[summary["quantity"] == memorization.PAIRS].set_index(["group", "x"])["estimate"]
    assert pairs[memorization.SAME, 0.2] > 5 * pairs[memorization.OTHER, 0.2]
    shares = summary[summary["quantity"] == memorization.HISTOGRAM].groupby("group")["estimate"].sum()
    assert shares.to_list() == pytest.approx([1.0, 1.0])
    for figure in memorization.FIGURES:
        with figures.canvas() as ax:
            figure.draw(summary, ax)
            assert not figures.why_empty(ax) and len(figure.rows(summary))
    assert memorization.summarize(trials.assign(answers=np.nan)).empty
