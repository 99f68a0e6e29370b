"""Corruption of training examples: label noise and input noise. Validation and test data are never corrupted."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from memsweep.spec.config import TrialConfig
from memsweep.spec.options import LABEL_NOISE
from memsweep.spec.seeds import generator

Array = np.ndarray[Any, Any]


class Corrupted(NamedTuple):
    """Training examples after corruption; an unchanged array is the same object as before."""

    inputs: Array  # [N, D] float32
    labels: Array  # [N] int64
    changed: Array  # [N] bool, the label or the inputs differ from before


def corrupt(inputs: Array, labels: Array, classes: int, config: TrialConfig) -> Corrupted:
    """Corrupts example i if u_i < noise_fraction, with u_i uniform on [0, 1).

    u and all values come from sub-streams of the stream `noise`, drawn for all N examples in order. Therefore the
    corrupted sets are nested as the fraction grows, and the corruption of an example depends neither on the fraction
    nor on N (only the mean and the variance of `gaussian_inputs` are computed from all N inputs).
    inputs: [N, D] float32, all uncorrupted.  labels: [N] int64 in [0, K).  classes: K.
    Raises ValueError if the noise is impossible with K classes.
    """
    kind, seed = config.data.noise_kind, config.stream_seed("noise")
    if sentence := problem(classes, config):
        raise ValueError(sentence)
    if kind == "none" or config.data.noise_fraction == 0:
        return Corrupted(inputs, labels, np.zeros(len(labels), dtype=bool))
    chosen = generator(seed, "noise/which").random(len(labels)) < config.data.noise_fraction
    if kind in LABEL_NOISE:
        noisy = np.where(chosen, _labels(kind, labels, classes, seed), labels)
        return Corrupted(inputs, noisy, noisy != labels)
    noisy, changed = inputs.copy(), chosen.copy()
    noisy[chosen] = _inputs(kind, inputs, chosen, seed)
    changed[chosen] = (noisy[chosen] != inputs[chosen]).any(axis=1)
    return Corrupted(noisy, labels, changed)


def problem(classes: int, config: TrialConfig) -> str | None:
    """Returns the error message if this noise is impossible with K classes, or None."""
    if config.data.noise_kind == "wrong_labels" and config.data.noise_fraction > 0 and classes < 2:
        return (
            f"data.noise_kind = 'wrong_labels': needs 2 classes or more, and the data has {classes}; use another noise."
        )
    return None


def _labels(kind: str, labels: Array, classes: int, seed: int) -> Array:
    """Returns [N] new labels: `labels` uniform over all K classes, `wrong_labels` over the K - 1 other classes."""
    if kind == "labels":
        return generator(seed, "noise/labels").integers(classes, size=len(labels))
    others = generator(seed, "noise/wrong_labels").integers(classes - 1, size=len(labels))
    return np.asarray(others + (others >= labels))


def _inputs(kind: str, inputs: Array, chosen: Array, seed: int) -> Array:
    """Returns [chosen, D] new inputs of the chosen examples; random numbers are drawn for all N examples.

    gaussian_inputs: independent normal numbers with the mean and the variance of all training inputs.
    shuffled_pixels: one permutation of the pixels for all images.  random_pixels: a permutation per image.
    """
    rng = generator(seed, f"noise/{kind}")
    if kind == "shuffled_pixels":
        return inputs[chosen][:, rng.permutation(inputs.shape[1])]
    if kind == "random_pixels":
        return rng.permuted(inputs, axis=1)[chosen]
    # Rounded to float32 to hide the order of summation, which differs between processors.
    mean, deviation = (np.float32(value) for value in (inputs.mean(dtype=np.float64), inputs.std(dtype=np.float64)))
    deviates = np.asarray(rng.standard_normal(inputs.shape, dtype=np.float32))
    return np.asarray(mean + deviation * deviates[chosen])
