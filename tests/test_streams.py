"""The engine's random numbers are uniform, normal and independent, and depend on a member's key and the index alone."""

import numpy as np
import pytest
import torch
from scipy import stats

from memsweep.engine.train import streams
from memsweep.spec.seeds import key

KEYS = torch.tensor([key(seed, "order") for seed in range(64)])


def test_a_members_numbers_do_not_depend_on_the_others():
    together = streams.uniform(KEYS, 100)
    assert all(torch.equal(streams.uniform(KEYS[m : m + 1], 100)[0], together[m]) for m in (0, 7, 63))
    normal = streams.normal(KEYS, 101)
    assert all(torch.equal(streams.normal(KEYS[m : m + 1], 101)[0], normal[m]) for m in (0, 7, 63))


def test_a_longer_draw_begins_with_the_shorter():
    assert torch.equal(streams.uniform(KEYS, 200)[:, :100], streams.uniform(KEYS, 100))


def test_uniform_and_normal_have_their_distributions():
    u, z = streams.uniform(KEYS, 2000).numpy().ravel(), streams.normal(KEYS, 2000).numpy().ravel()
    assert u.min() >= 0 and u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_members_steps_and_places_are_uncorrelated():
    draws = [streams.uniform(streams.subkeys(KEYS, step), 500) for step in range(4)]
    rows = torch.cat(draws).numpy()  # 256 streams
    r = np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
    assert abs(r).max() < 6 / np.sqrt(500)
    assert abs(r.std() * np.sqrt(500) - 1) < 0.05


@pytest.mark.parametrize("bit", range(32))
def test_every_bit_is_fair(bit):
    ones = int(((streams.bits(KEYS, 2000) >> bit) & 1).sum())
    assert abs(ones - 64000) < 5 * np.sqrt(128000) / 2


def test_permutations_are_permutations_and_uniform():
    orders = streams.permutations(torch.tensor([key(seed, "x") for seed in range(6000)]), 4)
    assert torch.equal(orders.sort(1).values, torch.arange(4).expand(6000, 4))
    _, counts = np.unique(orders.numpy(), axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_permutations_differ_between_epochs():
    first, second = (streams.permutations(streams.subkeys(KEYS[:1], epoch), 50) for epoch in (0, 1))
    assert not torch.equal(first, second)


def test_too_many_examples_are_refused():
    with pytest.raises(ValueError, match="an order holds fewer"):
        streams.permutations(KEYS[:1], 1 << 24)


def test_numbers_stay_as_they_are():
    """Stored results rest on these values: raise PROTOCOL when they must change."""
    keys = torch.tensor([key(0, "order")])
    assert streams.bits(keys, 3).tolist() == GOLDEN_BITS
    assert streams.permutations(keys, 5).tolist() == GOLDEN_ORDER


GOLDEN_BITS = [[1402927494, -867763393, -859063771]]
GOLDEN_ORDER = [[4, 1, 2, 3, 0]]
