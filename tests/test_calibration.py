"""Every p-value of the analysis is calibrated: where its null is true, 5 % of simulations reject it at 5 %."""

import numpy as np
import pytest
import torch

from memsweep.analysis.claims import arpit2017_evidence, gu2019_evidence
from memsweep.analysis.claims.chaibub2018 import two_sided
from memsweep.analysis.claims.claim import Margin, Trend
from memsweep.analysis.claims.verdicts import as_tested, holm
from memsweep.engine.probes import permutations

NULLS = 2000
LEAST, MOST = 0.035, 0.065
"""Shares of rejections at 5 % that count as calibrated; 2,000 nulls have a standard error of 0.005."""


def rejected(p):
    assert len(p) == NULLS
    return float(np.mean(np.array(p) <= 0.05))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(NULLS, *shape))


def test_the_sign_test():
    """Of 13 replicates: the p-value is discrete, and attains 4.6 % there; a bound other than 0 makes no difference."""
    tested = [as_tested(Margin("x", values + 2, above=2.0)) for values in normal(13)]
    assert LEAST < rejected([part.p for part in tested]) < MOST
    assert LEAST < rejected([part.p_against for part in tested]) < MOST


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("seeds", "settings"), [(12, 5), (24, 4)])
def test_the_trend_test(seeds, settings, ties):
    """Replicates differ in level; numbers rounded to a tenth of their spread tie."""
    drawn = normal(seeds, settings) + 3 * normal(seeds, 1, seed=1)
    tested = [as_tested(Trend("x", values.round(1) if ties else values)) for values in drawn]
    assert LEAST < rejected([part.p for part in tested]) < MOST
    assert LEAST < rejected([part.p_against for part in tested]) < MOST


def test_the_two_sided_sign_test():
    assert LEAST < rejected([two_sided("x", values).p for values in normal(12)]) < MOST


def test_holms_correction():
    """Of ten true nulls, one or more is rejected in a twentieth of papers."""
    drawn = np.random.default_rng(0).random((NULLS, 10))
    assert LEAST < rejected([min(holm(p)) for p in drawn]) < MOST


def test_the_exchange_of_networks(monkeypatch):
    """Two groups of 16 networks whose likeness has one distribution; networks of a seed began alike."""
    monkeypatch.setattr(gu2019_evidence, "EXCHANGES", 499)
    features = normal(2, 16, 30) + normal(1, 16, 30, seed=1) + normal(1, 1, 30, seed=2)
    p = []
    for groups in features:
        alike = np.corrcoef(groups.reshape(32, 30)).reshape(2, 16, 2, 16)
        p.append(gu2019_evidence.exchanged("x", alike).p)
    assert LEAST < rejected(p) < MOST


def test_the_bootstrap_of_dispersion(monkeypatch):
    """Examples of five classes, equally hard within a class and run: their dispersion is 1."""
    monkeypatch.setattr(arpit2017_evidence, "RESAMPLES", 999)
    generator, parts = np.random.default_rng(0), np.empty((NULLS, 2, 400))
    for null in range(NULLS):
        share = generator.uniform(0.2, 0.8, size=(40, 5, 1))
        is_right = generator.random((40, 5, 80)) < share  # runs, classes, examples
        counts, in_run = is_right.sum(0), is_right.mean(2, keepdims=True)
        variance = np.broadcast_to((in_run * (1 - in_run)).sum(0), counts.shape)
        parts[null] = np.stack([(counts - counts.mean(1, keepdims=True)) ** 2, variance]).reshape(2, -1)
    estimates, draws = arpit2017_evidence.resampled_ratio(parts)
    p = [arpit2017_evidence.bootstrapped("x", *pair, 1.0, 40).p for pair in zip(estimates, draws, strict=True)]
    assert LEAST < rejected(p) < MOST


# The probe of permuted labels.


def nothing_shared(generator, permuted):
    """Features of examples and copies that hold given and true labels, and noise that they don't share."""
    true = torch.arange(48) % 3
    given = torch.where(torch.rand(48, generator=generator) < 0.3, torch.roll(true, 1), true)
    classes = torch.randn(6, 8, generator=generator)
    centres = classes[given] + classes[3 + true]
    train, copies = (centres + torch.randn(48, 8, generator=generator) for _ in range(2))
    labels = torch.stack([given[torch.randperm(48, generator=generator)] for _ in range(permuted)])
    return train.double(), copies.double(), given, 3 * given + true, labels


def test_recognition_beyond_the_class():
    generator, p = torch.Generator().manual_seed(0), []
    for _ in range(NULLS):
        train, copies, _, groups, labels = nothing_shared(generator, 20)
        p.append(permutations.p_beyond(permutations.scores(train, copies, labels), labels, groups))
    assert LEAST < rejected(p) < MOST


def test_learning_of_labels_that_are_a_permutation():
    """With 19 permutations a p-value of 5 % is attained exactly."""
    generator, p_learn, p_chance = torch.Generator().manual_seed(1), [], []
    for _ in range(NULLS):
        train, copies, *_, labels = nothing_shared(generator, 21)
        aucs = permutations.areas(permutations.scores(train, copies, labels), labels)
        tested = permutations._tested(("hidden", "copies", 0.5), aucs[:20], aucs[:20], 0.5, labels[0], None)
        p_learn.append(tested.p_learn)
        p_chance.append(permutations._tested(("hidden", "copies", 0.5), aucs, aucs, 0.5, labels[0], None).p_chance)
    assert LEAST < rejected(p_learn) < MOST and LEAST < rejected(p_chance) < MOST


def test_the_spread_of_a_median_of_areas():
    """A median of 100 areas of independent labels lies beyond 1.96 of its standard errors in a twentieth of cases."""
    generator, off = torch.Generator().manual_seed(2), []
    labels = torch.arange(40) % 4
    variance = permutations.median_variance(permutations.chance_variance(labels), 100)
    for _ in range(NULLS // 50):
        scores = torch.randn(50 * 100, 40, 4, generator=generator)
        medians = permutations.areas(scores, labels.expand(len(scores), -1)).reshape(50, 100).median(1).values
        off += list((medians - 0.5).abs() / variance**0.5)
    assert LEAST < rejected([0.0 if distance > 1.96 else 1.0 for distance in off]) < MOST
