"""Random subsets of a pool: which of its examples a trial trains on, where data.subset_fraction is below 1.

Trials of equal data and of equal seeds of `inputs`, `labels` and `noise` share a pool, noise included; each draws its
own subset from its stream `order`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from memsweep.data.noise import Array
from memsweep.spec.config import TrialConfig
from memsweep.spec.fields.groups import Data
from memsweep.spec.seeds import generator

if TYPE_CHECKING:
    from memsweep.data.tasks import TrialData


def pool_size(data: Data) -> int:
    """Returns the number of examples in the pool, R = N / subset_fraction, rounded.

    >>> pool_size(Data(examples=700, subset_fraction=0.7))
    1000
    """
    return round(data.examples / data.subset_fraction)


def whole(config: TrialConfig) -> TrialConfig:
    """Returns the configuration of a trial that trains on the whole pool, without probes."""
    size = pool_size(config.data)
    return config.with_fields({"data.examples": size, "data.subset_fraction": 1.0, "probes": (), "probe_steps": ()})


def drawn(config: TrialConfig) -> Array:
    """Returns the places in the pool [N] int64 of a trial's training examples, in ascending order."""
    rng = generator(config.stream_seed("order"), "order/subset")
    return np.sort(rng.permutation(pool_size(config.data))[: config.data.examples])


def taken(pool: TrialData, config: TrialConfig) -> TrialData:
    """Returns the data of a trial that trains on its subset of the pool.  pool: data of `whole(config)`."""
    places = drawn(config)
    names = ("inputs", "labels", "true_labels", "corrupted", "source_index", "targets")
    arrays = {name: getattr(pool, name)[places] for name in names}
    if pool.weights.size:
        arrays["weights"] = pool.weights[places]
    for array in (places, *arrays.values()):
        array.flags.writeable = False
    text = hashlib.blake2b(pool.fingerprint.encode() + places.tobytes(), digest_size=8)
    return replace(pool, **arrays, fingerprint=text.hexdigest(), pool=pool, places=places)


def remarks(config: TrialConfig) -> list[str]:
    """Returns a sentence on the size of the pool, for problems of a split that give this size as data.examples."""
    share = config.data.subset_fraction
    if share == 1:
        return []
    return [
        f"data.subset_fraction = {share}: {config.data.examples} examples are drawn from a pool of "
        f"{pool_size(config.data)}; use a larger fraction or fewer examples."
    ]
