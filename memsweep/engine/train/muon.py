"""Muon's direction: a nearly orthogonal matrix from a momentum (Jordan et al. 2024), for all members at once."""

from __future__ import annotations

import torch
from torch import Tensor

COEFFICIENTS, ITERATIONS, EPSILON = (3.4445, -4.775, 2.0315), 5, 1e-7
"""Of the quintic Newton-Schulz iteration; the defaults of torch.optim.Muon."""


def is_matrix(parameter: Tensor) -> bool:
    """Returns whether a parameter [M, *shape] holds a matrix of each member, which Muon updates."""
    return parameter.dim() == 3


def scale(parameter: Tensor) -> float:
    """Returns the factor that gives Muon's moves the root mean square of AdamW's: 0.2 sqrt(larger side)."""
    return float(0.2 * max(parameter.shape[1:]) ** 0.5)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Returns each matrix with singular values near 1, [M, A, B]: ITERATIONS of X -> a X + (b G + c G^2) X, G = X X^T.

    Computed in the precision of the argument; torch.optim.Muon iterates in bfloat16.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if is_tall else matrices
    x = x / torch.linalg.vector_norm(x.flatten(1), dim=1).clamp(min=EPSILON)[:, None, None]
    for _ in range(ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if is_tall else x
