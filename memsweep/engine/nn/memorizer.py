"""Weights that memorize a training set, by construction instead of training, in float64.

After Yun, Sra and Jadbabaie (2019), who prove that about 4 sqrt(N) ReLU units in two hidden layers hold N points, and
4K more in a third their K classes. Their proofs could not be read: counts follow secondary sources, the constructions
are our own derivation. They need float64: weights grow as the inverse of the smallest gap between projected points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Layer = tuple[Array, Array]
"""Weight [outputs, inputs] and bias [outputs]; ReLU between layers."""

DIRECTIONS = 64
"""Random projections to choose from; the one with the widest smallest gap is used."""
MOST_CONDITION = 1e12
"""Largest condition number of the equations of a hyperplane through D points."""
MARGIN = 0.05
"""How far beyond saturation a unit is at the points that it must ignore."""


class TiesError(ValueError):
    """Points that no construction can distinguish."""


def memorizer(inputs: Array, targets: Array, generator: np.random.Generator) -> list[Layer]:
    """Returns two hidden layers, 2p - 1 and 2q units, and a read-out whose output is each point's target.

    Points are projected on a line and cut into p groups of q, q even, p q >= N. The first layer spans all functions of
    the line that are linear on every group. In the second, pairs of ReLUs make q saturating units
    h_k = relu(z_k + 1) - relu(z_k - 1) - 1: unit k passes the k-th target of every group and is (-1)^k behind and
    -(-1)^k before that point, so that 1 + sum_k h_k is the target. Kinks lie between points.

    inputs: [N, D].  targets: [N] in [-1, 1].  Raises TiesError where points coincide.
    """
    q = _group_size(len(inputs))
    direction, line = _projected(inputs, generator)
    order = np.argsort(line)
    missing = -len(inputs) % q  # padding points beyond the last point
    beyond = line.max() + np.arange(1, missing + 1) * max(np.ptp(line), 1.0)
    t = np.concatenate([line[order], beyond]).reshape(-1, q)  # [p, q]
    y = np.concatenate([targets[order], np.zeros(missing)]).reshape(-1, q)
    sign = np.where(np.arange(q) % 2, 1.0, -1.0)
    gaps, wide = np.diff(t, axis=1), np.full((len(t), 1), np.inf)
    before, behind = np.hstack([wide, gaps]), np.hstack([gaps, wide])
    slope = sign * np.maximum((1 + MARGIN - sign * y) / behind, (1 + MARGIN + sign * y) / before)  # [p, q]

    between = t[1:, 0] - t[:-1, -1]
    leave, enter = t[:-1, -1] + between / 4, t[1:, 0] - between / 4  # [p - 1], kinks behind and before groups
    left = y[:-1] + slope[:-1] * (leave[:, None] - t[:-1])
    right = y[1:] + slope[1:] * (enter[:, None] - t[1:])
    bridge = (right - left) / (enter - leave)[:, None]
    kinks = np.stack([leave, enter], 1).ravel()
    bends = np.stack([bridge - slope[:-1], slope[1:] - bridge], 1).reshape(-1, q)  # [2p - 2, q], changes of slope
    middle = len(t) // 2
    facing = np.where(np.arange(len(kinks)) < 2 * middle, -1.0, 1.0)  # away from the middle: fewer terms cancel
    start = t[0, 0] - 1.0
    height = y[middle] + slope[middle] * (start - t[middle])
    return [
        (np.outer([1.0, *facing], direction), np.array([-start, *-facing * kinks])),
        (np.repeat(np.vstack([slope[middle], bends]).T, 2, axis=0), np.repeat(height, 2) + np.tile([1.0, -1.0], q)),
        (np.tile([1.0, -1.0], q)[None], np.array([1.0 - q])),
    ]


def classifier(inputs: Array, labels: NDArray[np.int64], classes: int, generator: np.random.Generator) -> list[Layer]:
    """Returns three hidden layers, 2p - 1, 2q and 4K units, and a read-out with exactly one-hot outputs.

    The outputs are exact because the trapezoids of the third layer have flat tops.
    inputs: [N, D].  labels: [N] in [0, K).  Raises TiesError where points coincide.
    """
    scale = classes / 2  # scale (f + 1) - 1/2 is the label; four units make a trapezoid around each
    *hidden, (weight, bias) = memorizer(inputs, (labels.astype(np.float64) + 0.5) / scale - 1, generator)
    owners = np.arange(classes)
    corners = scale * (bias + 1) - np.add.outer(owners, [-0.25, 0.25, 0.75, 1.25]).ravel()
    trapezoids = _trapezoids(owners, np.full(classes, 2.0), classes)
    return [*hidden, (np.repeat(scale * weight, 4 * classes, axis=0), corners), trapezoids]


def in_general_position(
    inputs: Array, labels: NDArray[np.int64], classes: int, generator: np.random.Generator
) -> list[Layer]:
    """Returns one hidden layer of 4 sum_c ceil(N_c / D) units, at most 4 N / D + 4K, and a one-hot read-out.

    D points of a class lie on a hyperplane; four units form a slab around it that contains no other point.
    inputs: [N, D].  labels: [N] in [0, K).  Raises TiesError where D + 1 points share a hyperplane.
    """
    owners, weights, biases, scales, dim = [], [], [], [], inputs.shape[1]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        for chunk in np.split(members, range(dim, len(members), dim)):
            anchors = np.vstack([inputs[chunk], generator.standard_normal((dim - len(chunk), dim))])
            if np.linalg.cond(anchors) > MOST_CONDITION:
                raise TiesError("training examples are not in general position: D of them span no hyperplane.")
            normal = np.linalg.solve(anchors, np.ones(dim))
            offset = 1 / np.linalg.norm(normal)
            distance = np.abs(inputs @ (normal * offset) - offset)
            half = min(1.0, 0.9 * np.delete(distance, chunk).min(initial=np.inf))
            if half <= 4 * distance[chunk].max():
                raise TiesError("training examples are not in general position: D + 1 of them share a hyperplane.")
            owners.append(label)
            weights.append(np.tile(normal * offset, (4, 1)))
            biases.append(np.array([1.0, 0.5, -0.5, -1.0]) * half - offset)
            scales.append(2 / half)
    return [(np.vstack(weights), np.concatenate(biases)), _trapezoids(np.array(owners), np.array(scales), classes)]


def answers(layers: Sequence[Layer], inputs: Array) -> Array:
    """Returns the outputs [N, outputs] of these layers, ReLU between them."""
    *hidden, (weight, bias) = layers
    for w, b in hidden:
        inputs = np.maximum(inputs @ w.T + b, 0.0)
    return inputs @ weight.T + bias


def _group_size(examples: int) -> int:
    """The smallest even q with q^2 >= N."""
    root = math.isqrt(examples - 1) + 1
    return root + root % 2


def _projected(inputs: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """A direction [D] and the points' places along it [N], all distinct."""

    def smallest_gap(direction: Array) -> float:
        line = np.sort(inputs @ direction)
        return float(np.diff(line).min(initial=np.inf) / max(np.ptp(line), np.finfo(float).tiny))

    directions = generator.standard_normal((DIRECTIONS if inputs.shape[1] > 1 else 1, inputs.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    best = max(directions, key=smallest_gap)
    if smallest_gap(best) < 8 * np.finfo(float).eps:
        raise TiesError("two training examples coincide, or are too close to be distinguished in float64.")
    return best, inputs @ best


def _trapezoids(owners: NDArray[np.int64], scales: Array, classes: int) -> Layer:
    """The read-out of units in groups of four; each group adds a flat-topped hill to the output that owns it."""
    belongs = np.arange(classes)[:, None] == owners
    return np.kron(belongs * scales, np.array([1.0, -1.0, -1.0, 1.0])), np.zeros(classes)
