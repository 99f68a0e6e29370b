"""Muon's direction is orthogonal to the tolerance of five iterations, and torch's but for bfloat16."""

import pytest
import torch

from memsweep.engine.train import muon, optim

SHAPES = [(8, 8), (8, 32), (32, 8), (64, 10)]


def some(*shape, dtype=torch.float64):
    return torch.randn(5, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_one(shape):
    """The iteration trades the limit for speed: its values end between 0.68 and 1.13 (Jordan et al. 2024)."""
    values = torch.linalg.svdvals(muon.orthogonalized(some(*shape)))
    assert values.min() > 0.3 and values.max() < 1.3
    directions = some(*shape)
    left, _, right = torch.linalg.svd(directions, full_matrices=False)
    similarity = (muon.orthogonalized(directions) * (left @ right)).sum((1, 2)) / min(shape)
    assert similarity.min() > 0.8


def test_a_matrix_of_zeros_stays():
    assert muon.orthogonalized(torch.zeros(2, 3, 4)).abs().max() == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_ten_steps_are_torchs_to_bfloat16(shape):
    """torch.optim.Muon iterates in bfloat16, whose numbers have 8 bits: its moves differ by a few percent."""
    weights = some(*shape, dtype=torch.float32)
    ours, theirs = {"weight": weights.clone()}, [value.clone().requires_grad_() for value in weights]
    peer = torch.optim.Muon(theirs, lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    moments, m = optim.moments("muon", ours), torch.ones(5)
    c = optim.Coefficients(0.01 * m, 0.9 * m, 0.9 * m, 0.99 * m, 0.9 * m, 0 * m, 0.1 * m, m)
    for step in range(10):
        gradient = some(*shape, dtype=torch.float32).roll(step, 0) + step
        for parameter, value in zip(theirs, gradient, strict=True):
            parameter.grad = value.clone()
        peer.step()
        optim.update_("muon", ours, {"weight": gradient.clone()}, moments, c, torch.zeros(5, 2, dtype=torch.float64))
    moved = ours["weight"] - weights
    difference = torch.stack([value.detach() for value in theirs]) - ours["weight"]
    assert difference.norm() < 0.03 * moved.norm()
