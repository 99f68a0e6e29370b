"""A user's noise: a function `(inputs, labels, fraction, rng) -> (inputs, labels)` of the training examples.

A function with a parameter `own` is given the trial's own hyperparameters.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from memsweep.data.noise import Array, Corrupted
from memsweep.data.texts import DataError
from memsweep.spec.config import ConfigError, TrialConfig, imported
from memsweep.spec.fields.own import NO_FIELDS, OwnFields, bound, takes_own
from memsweep.spec.seeds import generator


def is_own(config: TrialConfig) -> bool:
    """Returns whether a trial's noise is a user's function, named by an import path, and has a fraction above 0."""
    return ":" in config.data.noise_kind and config.data.noise_fraction > 0


def own_of(config: TrialConfig) -> OwnFields:
    """Returns the own hyperparameters that a trial's noise is given: none unless its signature has `own`."""
    if config.own and is_own(config):
        with suppress(ConfigError):  # reported where the function is called
            if takes_own(imported(config.data.noise_kind)):
                return config.own
    return NO_FIELDS


def corrupt(inputs: Array, labels: Array, classes: int, config: TrialConfig) -> Corrupted:
    """Returns what the function makes of copies of the training examples; `rng` is of the stream `noise`.

    inputs: [N, D] float32.  labels: [N] int64 in [0, K).  classes: K.
    Raises DataError where the function fails, or returns something else than inputs and labels of these shapes.
    """
    where, rng = f"data.noise_kind = {config.data.noise_kind!r}", generator(config.stream_seed("noise"), "noise/own")
    try:
        function = bound(imported(config.data.noise_kind), config.own)
        result = function(inputs.copy(), labels.copy(), config.data.noise_fraction, rng)
        noisy, given = (np.asarray(array) for array in result)
    except Exception as error:  # a user's module may raise anything
        raise DataError(" ".join(f"{where}: {type(error).__name__}: {error}".split())) from error
    if noisy.shape != inputs.shape or noisy.dtype.kind not in "fiub" or not np.isfinite(noisy.astype(np.float32)).all():
        raise DataError(
            f"{where}: returns inputs {noisy.dtype} {noisy.shape}; must return finite numbers of shape {inputs.shape}."
        )
    if given.shape != labels.shape or given.dtype.kind not in "iub" or not ((given >= 0) & (given < classes)).all():
        raise DataError(
            f"{where}: returns labels {given.dtype} {given.shape}; must return whole numbers from 0 to {classes - 1} "
            f"of shape {labels.shape}."
        )
    noisy, given = noisy.astype(inputs.dtype), given.astype(labels.dtype)
    has_other_inputs = (noisy != inputs).any(axis=1)
    kept = noisy if has_other_inputs.any() else inputs  # trials whose inputs are unchanged share them
    return Corrupted(kept, given, has_other_inputs | (given != labels))


def repeat_problem(inputs: Array, labels: Array, classes: int, config: TrialConfig) -> str | None:
    """Returns the error message for a user's noise that fails, or whose second call returns other data, or None."""
    try:
        first, second = (corrupt(inputs, labels, classes, config) for _ in range(2))
    except DataError as error:
        return str(error)
    if np.array_equal(first.inputs, second.inputs) and np.array_equal(first.labels, second.labels):
        return None
    return (
        f"data.noise_kind = {config.data.noise_kind!r}: two calls with the same rng return different data; a trial's "
        "data must be the same at each call. Draw all random numbers from the argument rng."
    )
