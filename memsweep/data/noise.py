"""Corruption of training examples: label noise and input noise. Validation and test data are never corrupted."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any, NamedTuple

import numpy as np

from memsweep.spec.config import TrialConfig
from memsweep.spec.fields.groups import Data
from memsweep.spec.options import LABEL_NOISE
from memsweep.spec.seeds import generator

Array = np.ndarray[Any, Any]


class Corrupted(NamedTuple):
    """Training examples after corruption; an unchanged array is the same object as before."""

    inputs: Array  # [N, D] float32
    labels: Array  # [N] int64
    changed: Array  # [N] bool, the label or the inputs differ from before


NO_LABELS: Array = np.empty(0, np.int64)


def corrupt(
    inputs: Array, labels: Array, classes: int, config: TrialConfig, second_labels: Array = NO_LABELS
) -> Corrupted:
    """Corrupts example i if u_i < noise_fraction, with u_i uniform on [0, 1), and it is one of noise_examples.

    u and all values come from sub-streams of the stream `noise`, drawn for all N examples in order. Therefore the
    corrupted sets are nested as the fraction grows, and the corruption of an example depends neither on the fraction
    nor on N (only the mean and the variance of `gaussian_inputs` are computed from all N inputs).
    inputs: [N, D] float32, all uncorrupted.  labels: [N] int64 in [0, K).  classes: K.  second_labels: [N], as labels.
    Raises ValueError if the noise is impossible with K classes and D inputs.
    """
    kind, data, seed = config.data.noise_kind, config.data, config.stream_seed("noise")
    if sentence := problem(classes, inputs.shape[1], config):
        raise ValueError(sentence)
    if kind == "none" or data.noise_fraction == 0:
        return Corrupted(inputs, labels, np.zeros(len(labels), dtype=bool))
    chosen = generator(seed, "noise/which").random(len(labels)) < data.noise_fraction
    if data.noise_examples:
        chosen &= np.isin(np.arange(len(labels)), data.noise_examples)
    if kind in LABEL_NOISE:
        others = second_labels if kind == "second_labels" else _labels(data, labels, classes, seed)
        noisy = np.where(chosen, others, labels)
        return Corrupted(inputs, noisy, noisy != labels)
    noisy, changed = inputs.copy(), chosen.copy()
    noisy[chosen] = _inputs(data, inputs, chosen, seed)
    changed[chosen] = (noisy[chosen] != inputs[chosen]).any(axis=1)
    return Corrupted(noisy, labels, changed)


def repeated(data: Data) -> Array | None:
    """Returns the training example at each place [N]: copies of the first take the last places; None: no copies.

    Example i keeps its place wherever no copy takes it, so that more copies leave out more of the last examples.

    >>> repeated(Data(examples=6, repeats=(3, 1, 2))).tolist()
    [0, 1, 2, 0, 0, 2]
    """
    if max(data.repeats, default=1) == 1:
        return None
    copies = np.repeat(np.arange(len(data.repeats)), np.array(data.repeats) - 1)
    return np.concatenate([np.arange(data.examples - len(copies)), copies])


def problem(classes: int, inputs: int, config: TrialConfig) -> str | None:
    """Returns the error message if this noise is impossible with K classes and D inputs, or None."""
    data, kind = config.data, f"data.noise_kind = {config.data.noise_kind!r}"
    if sum(data.repeats) > data.examples:
        return (
            f"data.repeats: {sum(data.repeats)} examples in all, and data.examples is {data.examples}; repeat fewer, "
            f"or set data.examples to {sum(data.repeats)} or more."
        )
    if max(data.noise_examples, default=0) >= data.examples:
        return (
            f"data.noise_examples: lists {max(data.noise_examples)}, and there are {data.examples} training examples, "
            "from 0; list smaller numbers."
        )
    if data.noise_fraction == 0:
        return None
    if data.noise_kind in ("wrong_labels", "next_class", "swapped_pairs") and classes < 2:
        return f"{kind}: needs 2 classes or more, and the data has {classes}; use another noise."
    if data.noise_kind == "swapped_pairs" and classes % 2:
        return f"{kind}: needs an even number of classes, and the data has {classes}; use next_class or confusion."
    if data.noise_kind == "confusion" and len(data.noise_matrix) != classes**2:
        size = isqrt(len(data.noise_matrix))
        return f"data.noise_matrix: has {size} classes, and the data has {classes}; give {classes} rows of {classes}."
    if data.noise_kind == "added_noise" and (sentence := _covariance_problem(data.noise_covariance, inputs)):
        return f"data.noise_covariance: {sentence}"
    return None


def _covariance_problem(covariance: Sequence[float], inputs: int) -> str | None:
    if len(covariance) not in (1, inputs, inputs**2):
        return f"has {len(covariance)} numbers; give 1, {inputs} or {inputs} x {inputs} for {inputs} inputs."
    if len(covariance) in (1, inputs):
        return "holds a variance below 0; variances are 0 or more." if min(covariance) < 0 else None
    matrix = np.reshape(covariance, (inputs, inputs))
    try:
        np.linalg.cholesky(matrix)
        is_positive = bool((matrix == matrix.T).all())
    except np.linalg.LinAlgError:
        is_positive = False
    return None if is_positive else "is not symmetric and positive definite; give a covariance."


def _labels(data: Data, labels: Array, classes: int, seed: int) -> Array:
    """Returns [N] new labels.

    labels: uniform over all K classes.  wrong_labels: uniform over the K - 1 other classes.  confusion: of the true
    class's row of the matrix.  next_class: the class after it, the first after the last.  swapped_pairs: the other
    class of the pairs 0 and 1, 2 and 3, and so on.
    """
    kind = data.noise_kind
    if kind == "labels":
        return generator(seed, "noise/labels").integers(classes, size=len(labels))
    if kind == "next_class":
        return np.asarray((labels + 1) % classes)
    if kind == "swapped_pairs":
        return np.asarray(labels ^ 1)
    if kind == "confusion":
        below = np.cumsum(np.reshape(data.noise_matrix, (classes, classes)), axis=1)
        below /= below[:, -1:]  # exactly 1 at the end, also after rounding
        u = generator(seed, "noise/confusion").random(len(labels))
        return np.asarray((u[:, None] >= below[labels]).sum(axis=1))
    others = generator(seed, "noise/wrong_labels").integers(classes - 1, size=len(labels))
    return np.asarray(others + (others >= labels))


def _inputs(data: Data, inputs: Array, chosen: Array, seed: int) -> Array:
    """Returns [chosen, D] new inputs of the chosen examples; random numbers are drawn for all N examples.

    gaussian_inputs: independent normal numbers with the mean and the variance of all training inputs.
    shuffled_pixels: one permutation of the pixels for all images.  random_pixels: a permutation per image.
    added_noise: the inputs plus normal numbers of this covariance, with mean 0.
    """
    kind = data.noise_kind
    rng = generator(seed, f"noise/{kind}")
    if kind == "shuffled_pixels":
        return inputs[chosen][:, rng.permutation(inputs.shape[1])]
    if kind == "random_pixels":
        return rng.permuted(inputs, axis=1)[chosen]
    deviates = np.asarray(rng.standard_normal(inputs.shape, dtype=np.float32))[chosen]
    if kind == "added_noise":
        return inputs[chosen] + _with_covariance(deviates, data.noise_covariance)
    # Rounded to float32 to hide the order of summation, which differs between processors.
    mean, deviation = (np.float32(value) for value in (inputs.mean(dtype=np.float64), inputs.std(dtype=np.float64)))
    return np.asarray(mean + deviation * deviates)


def _with_covariance(deviates: Array, covariance: Sequence[float]) -> Array:
    """Returns normal numbers [R, D] float32 of this covariance.  deviates: [R, D] independent, of variance 1."""
    inputs = deviates.shape[1]
    if len(covariance) in (1, inputs):
        return np.asarray(deviates * np.sqrt(covariance).astype(np.float32))
    root = np.linalg.cholesky(np.reshape(covariance, (inputs, inputs))).astype(np.float32)
    total = np.zeros_like(deviates)
    for d in range(inputs):  # in this order, since the rounding of a product of matrices depends on R
        total += deviates[:, d : d + 1] * root[:, d]
    return total
