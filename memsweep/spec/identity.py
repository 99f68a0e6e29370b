"""The fields that name a trial, those of what it records, and hashes; of many replicates of one setting at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from memsweep.spec.options import LIMIT

T = TypeVar("T")

LATER_FIELDS = (
    *("regularization.penalty", "regularization.penalty_strength", "compute.matmul"),
    *("data.vocabulary", "data.items", "model.gate_bias", "optimizer.truncation", "stop.solve", "probe_steps"),
    *("model.perturbation", "optimizer.objective", "optimizer.alpha", "optimizer.radius"),
    *("data.label", "data.split", "data.content"),
    *("data.noise_matrix", "data.noise_covariance", "data.noise_label", "data.noise_examples"),
    *("data.repeats", "data.subset", "data.subset_fraction"),
    *("model.heads", "model.norm", "model.frozen_layers", "model.parametrization", "model.base_width"),
    *("optimizer.averaging", "compute.autocast", "members"),
    *("data.operation", "data.modulus"),
)
"""Fields that older tables lack: at their defaults they are left out of the hash, so that trial ids stay the same."""
RECORDED = ("probes", "probe_steps", "metrics")
"""Fields, and columns of `trials`, of what a trial records beside its measurements; no part of its identity."""
_NO_CONTENT = ("seed", *RECORDED)
_SEEDS = range(3 * LIMIT, 4 * LIMIT)
"""Numbers that stand for a seed in a text; no number of a trial is as large."""


class Named:
    """What names a trial, as attributes that are made at their first use; see `cached`."""

    __slots__ = ("_imports", "_setting_id", "_trial_id")


def cached(trial: Named, name: str, make: Callable[[], T]) -> T:
    """Returns an attribute of a trial, made at its first use."""
    try:
        return getattr(trial, name)  # type: ignore[no-any-return]
    except AttributeError:
        object.__setattr__(trial, name, value := make())
        return value


def content(fields: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that name a trial: all but its seed and RECORDED, and LATER_FIELDS at their defaults.

    fields: from `TrialConfig.flat`; seeds.* hold the numbers of the seed.  later: LATER_FIELDS -> defaults.
    """
    return {
        name: value
        for name, value in fields.items()
        if name not in _NO_CONTENT and (name not in later or value not in (later[name], []))
    }


def recorded(*columns: str | None) -> frozenset[str]:
    """Returns the items of a trial's columns RECORDED: probes, steps before the end, and import paths, as text."""
    return frozenset(filter(None, ",".join(column or "" for column in columns).split(",")))


def without_seeds(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that name a setting."""
    return {name: value for name, value in fields.items() if not name.startswith("seed")}


def digest(values: Mapping[str, Any]) -> str:
    """Returns 16 hexadecimal digits over these values, in any order.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return str(_hash(_text(values)).hexdigest())


def digests(values: Mapping[str, Any], names: Iterable[str], seeds: Iterable[int]) -> Iterator[str]:
    """Yields the digest of these values for each seed, which the values of `names` are.

    The text is written once, and hashed once up to the first seed.

    >>> next(digests({"a": 1, "b": 2}, ["b"], [3])) == digest({"a": 1, "b": 3})
    True
    """
    text = _text(values)
    stand_in = next(number for number in _SEEDS if str(number) not in text)
    first, *rest = _text({**values, **dict.fromkeys(names, stand_in)}).split(str(stand_in))
    start = _hash(first)
    for seed in seeds:
        state = start.copy()
        state.update(str(seed).join(("", *rest)).encode() if rest else b"")
        yield state.hexdigest()


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(text: str) -> Any:
    return hashlib.blake2b(text.encode(), digest_size=8)
