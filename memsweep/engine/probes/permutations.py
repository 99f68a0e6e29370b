"""Whether a network has learned, memorized, or both, by linear classifiers of its features with permuted labels.

After Chaibub Neto (2018), of whom only the abstract could be read: a shallow classifier is trained on the features that
a network learned, with the real labels and with permuted labels, and validated on sets that share structure with the
training set. The details follow the same author's method for repeated measurements of a subject (2019): a training
example is the subject, a noisy copy its second record, and both have the same permuted label. The classifier, the
copies, the floor and all sizes are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from memsweep.engine.train import streams
from memsweep.engine.train.evaluation import layers_of, numbers_of, of_members
from memsweep.engine.train.optim import Tensors
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, rows_of
from memsweep.spec.seeds import key

EXAMPLES = 256
"""Most examples, the first of the training and of the validation set."""
FEATURES = 256
"""Most features of a layer, drawn at random where it has more."""
PERMUTATIONS = 200
RIDGE = 0.1
"""Penalty of the squared weights, times the number of examples; features have variance 1."""
RHOS = (0.0, 0.5, 0.8, 0.95)
"""A copy is rho x + sqrt(1 - rho^2) eps of standardised inputs; with 0 it shares only the moments."""


class Permutations(NamedTuple):
    """Results for one member's features and validation set. AUCs are macro averages of one class against all others."""

    features: str  # hidden: the last hidden layer; inputs: not learned, measured before training
    validation: str  # copies, or held_out: other examples, with labels permuted on their own
    rho: float | None  # of copies
    observed_auc: float  # of copies with the training labels; of held-out examples with the true labels
    null_median: float  # over permutations
    null_low: float  # their 5 % quantile
    null_high: float  # 95 %
    independent_median: float  # over permutations, validated with another permutation's labels
    floor_auc: float  # null_median of features that encode only the class; of held-out examples 0.5
    variance: float  # of one area if scores are uninformative
    median_variance: float  # of a median over permutations whose labels on both sides are independent
    p_learn: float  # share of permutations that reach observed_auc
    p_beyond_class: float | None  # of copies exchanged among examples alike in given and true label; held out: none
    p_chance: float  # p_learn with a permutation in place of the labels


def measure(program: Program, state: State) -> list[list[Permutations]]:
    """Returns the results of each member; members have equally many examples.

    Features that are not finite, and hidden layers that the network does not expose, have no results.
    """
    examples, held_out = (
        min(EXAMPLES, int(count[0])) for count in (state.examples.train_count, state.examples.validation_count)
    )
    e, device = state.examples, program.device
    seeds = [member.trial.seed for member in state.members]
    inputs, validation = (
        rows_of(e.bank, offset[:, None] + torch.arange(count, device=device))
        for offset, count in ((e.offset, examples), (e.held_out_offset, held_out))
    )
    sets = [inputs, *(_copies(inputs, rho, _keys(seeds, "copies", i)) for i, rho in enumerate(RHOS)), validation]
    sources = {"hidden": [_hidden(program, state, part) for part in sets]} if program.hidden_shapes else {}
    if not state.step.all():
        sources["inputs"] = sets
    results = []
    for m, member in enumerate(state.members):
        given, true, other = (
            labels[m].cpu() for labels in (e.given[:, :examples], e.true[:, :examples], e.held_out[:, :held_out])
        )
        drawn = int(member.trial.trial_id, 16)  # differs by trial, so that chance results are independent over trials
        permuted = _Labels(_permuted(given, drawn, "train"), _permuted(other, drawn, "held_out"))
        rows = []
        for features, parts in sources.items():
            chosen = _chosen(parts[0].shape[-1])
            train, *others = (part[m][:, chosen].double().cpu() for part in parts)
            is_asked = features == "hidden" or not state.step[m]
            if is_asked and len(given.unique()) > 1 and all(part.isfinite().all() for part in (train, *others)):
                rows += _results(features, train, others, permuted, true)
        results.append(rows)
    return results


class _Labels(NamedTuple):
    """True or given labels, then permutations: [1 + PERMUTATIONS, E] int64."""

    train: Tensor
    held_out: Tensor


def _results(
    features: str, train: Tensor, others: Sequence[Tensor], labels: _Labels, true: Tensor
) -> list[Permutations]:
    """Results of all validation sets for one member's features. train, others: [E, F] float64, the last held out."""
    *copies, held_out = others
    groups = labels.train[0] * (int(true.max()) + 1) + true
    classes = one_hot(labels.train[0]).double()
    floor = float(np.median(areas(scores(classes, classes, labels.train[1:]), labels.train[1:]).numpy()))
    results = []
    for rho, copy in zip(RHOS, copies, strict=True):
        fitted = scores(train, copy, labels.train)
        aucs, crossed = areas(fitted, labels.train), areas(fitted[1:], labels.train[1:].roll(1, 0))
        p = p_beyond(fitted[1:], labels.train[1:], groups)
        results.append(_tested((features, "copies", rho), aucs, crossed, floor, labels.train[0], p))
    if len(labels.held_out[0].unique()) > 1:
        fitted = scores(train, held_out, torch.cat([true[None], labels.train[1:]]))
        aucs = areas(fitted, labels.held_out)
        results.append(_tested((features, "held_out", None), aucs, aucs[1:], 0.5, labels.held_out[0], None))
    return results


def _tested(
    what: tuple[str, str, float | None],
    aucs: Tensor,
    crossed: Tensor,
    floor: float,
    labels: Tensor,
    p_beyond_class: float | None,
) -> Permutations:
    observed, null = float(aucs[0]), aucs[1:]
    low, median, high = (float(np.quantile(null.numpy(), q)) for q in (0.05, 0.5, 0.95))
    variance = chance_variance(labels)
    return Permutations(
        *what,
        observed,
        median,
        low,
        high,
        float(np.median(crossed.numpy())),
        floor,
        variance,
        median_variance(variance, len(null)),
        p_learn=(1 + int((null >= observed).sum())) / (1 + len(null)),
        p_beyond_class=p_beyond_class,
        p_chance=(1 + int((null[1:] >= null[0]).sum())) / len(null),
    )


def p_beyond(scores: Tensor, labels: Tensor, groups: Tensor) -> float:
    """Returns the p-value that copies are recognized as those of their own examples, beyond what their groups allow.

    The statistic is the sum over copies of the score of the label that a copy shares with its example, mean over
    permutations of the labels. Its null exchanges copies within groups, whose mean and variance are exact (Hoeffding
    1951); p is of the normal distribution with these, 1 where no exchange changes anything.
    scores: [L, V, K], of copies.  labels: [L, V], permuted, of the copied examples.  groups: [V], examples alike in all
    that may be learned of their class.
    """
    wanted = one_hot(labels, scores.shape[-1]).double()  # [L, V, K]
    shared = torch.einsum("lvk,luk->vu", scores.double(), wanted) / len(labels)  # of copy v for the label of example u
    excess, variance = 0.0, 0.0
    for group in groups.unique():
        of_group = shared[groups == group][:, groups == group]
        centred = of_group - of_group.mean(0) - of_group.mean(1, keepdim=True) + of_group.mean()
        excess += float(centred.trace())
        variance += float(centred.square().sum()) / max(len(of_group) - 1, 1)
    is_constant = variance <= (1e-9 * float(shared.abs().max())) ** 2
    return 1.0 if is_constant else NormalDist().cdf(-excess / variance**0.5)


def scores(train: Tensor, validation: Tensor, labels: Tensor) -> Tensor:
    """Returns scores [L, V, K] of ridge regressions of one-hot labels, with one factorisation for all labels.

    train: [E, F] float64, standardised here with its own mean and deviation, as is validation [V, F].  labels: [L, E].
    An intercept would shift all scores of a class equally. In float32: examples that features don't distinguish tie.
    """
    mean, deviation = train.mean(0), train.std(0, correction=0)
    scale = torch.where(deviation > 0, deviation, 1.0)
    train, validation = (train - mean) / scale, (validation - mean) / scale
    penalty = RIDGE * len(train) * torch.eye(train.shape[1], dtype=train.dtype)
    hat = validation @ torch.linalg.solve(train.mT @ train + penalty, train.mT)
    wanted = one_hot(labels.T).double().flatten(1)  # [E, L * K]
    scored: Tensor = (hat @ wanted).float().unflatten(1, (len(labels), -1))
    return scored.movedim(0, 1)


def areas(scores: Tensor, labels: Tensor) -> Tensor:
    """Returns the macro average of the area under the curve of each class against all others, [L]; ties count half.

    scores: [L, V, K].  labels: [L, V], each a permutation of the others. Classes without an example, or without scores,
    are left out.
    """
    sizes, averages = labels[0].bincount().tolist(), []
    by_class = torch.argsort(labels, dim=1, stable=True).split(sizes, 1)
    for members, size, column in zip(by_class, sizes, scores.unbind(-1), strict=False):
        if 0 < size < labels.shape[1]:
            ordered, positives = torch.from_numpy(np.sort(column.contiguous().numpy(), 1)), column.gather(1, members)
            left, right = (torch.searchsorted(ordered, positives, side=side) for side in ("left", "right"))
            above = (left + right).sum(
                1
            ).double() / 2 - size**2 / 2  # pairs of an example of the class and another example
            averages.append(above / (size * (labels.shape[1] - size)))
    averaged: Tensor = torch.stack(averages).mean(0)
    return averaged


def chance_variance(labels: Tensor) -> float:
    """Returns the variance of `areas` of uninformative scores: Mann and Whitney's of each class, as if independent.

    Without the correction for ties, which would make it smaller.
    """
    n = len(labels)
    sizes: list[int] = [size for size in labels.bincount().tolist() if 0 < size < n]
    return sum((n + 1) / (12 * size * (n - size)) for size in sizes) / len(sizes) ** 2


def median_variance(variance: float, count: int) -> float:
    """Returns the variance of the median of as many independent areas, each of this variance and about normal."""
    return float(np.pi / 2 * variance / count)


def _copies(inputs: Tensor, rho: float, keys: Tensor) -> Tensor:
    """Copies of inputs [M, E, D]: noise has the deviation of each input over the member's examples."""
    mean, deviation = inputs.mean(1, keepdim=True), inputs.std(1, keepdim=True, correction=0)
    noise = streams.normal(keys.to(inputs.device), inputs[0].numel()).view_as(inputs)
    copies: Tensor = mean + rho * (inputs - mean) + (1 - rho**2) ** 0.5 * deviation * noise
    return copies


@torch.no_grad()
def _hidden(program: Program, state: State, inputs: Tensor) -> Tensor:
    """The last hidden layer, [M, E, H]."""

    def last(numbers: Tensors, batch: Tensor) -> Tensor:
        return layers_of(program, numbers, batch)[0][-1].flatten(1)

    return of_members(program, last, numbers_of(state), inputs)


def _permuted(labels: Tensor, seed: int, name: str) -> Tensor:
    keys = streams.subkeys(_keys([seed], name), torch.arange(PERMUTATIONS))
    return torch.cat([labels[None], labels[streams.permutations(keys, len(labels))]])


def _chosen(count: int) -> Tensor:
    """Indices of the chosen features, the same for all members."""
    return streams.permutations(_keys([0], "features"), count)[0, :FEATURES].sort().values


def _keys(seeds: Sequence[int], *purpose: object) -> Tensor:
    stream = "/".join(map(str, ("probes/permutations", *purpose)))
    return torch.tensor([key(seed, stream) for seed in seeds], dtype=torch.int64)
