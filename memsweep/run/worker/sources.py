"""Checks that changeable data and code are the same as at the launch's start, and data as that of stored trials.

A user's own task and the text of `characters` can change between launches, during a launch, and between machines.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from memsweep.data import tasks
from memsweep.data.texts import DataError
from memsweep.results import trial_state
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack
from memsweep.run.worker import provenance
from memsweep.spec.config import FIELDS, TrialConfig
from memsweep.spec.schema import cell

MOST_SPLITS, SECONDS = 64, 10.0
"""Most splits of a task compared with stored trials, and the time limit; at least one split is compared."""
NAMED = 3
"""Most trials listed in a message."""

_FIELDS = [
    *(name for name in FIELDS if name.startswith("data.")),
    "seeds.inputs",
    "seeds.labels",
    "seeds.noise",
    "protocol",
]
_Key = tuple[Any, ...]
"""Values of _FIELDS and of own.*, as tables store them: all that a trial's data depends on."""


def of(trials: Iterable[TrialConfig]) -> tuple[tuple[str, str], ...]:
    """Returns each split of these trials whose data can change, with its current fingerprint."""
    splits = {tasks.split_name(trial): trial for trial in trials if tasks.can_change(trial)}
    return tuple((name, tasks.source(trial)) for name, trial in splits.items())


def check(trials: Iterable[TrialConfig], pack: Pack) -> None:
    """Raises DataError where the data or the code of one of these trials has changed since the launch began."""
    for names, fingerprint in pack.code:
        if provenance.user_code(tuple(names.split(","))).fingerprint != fingerprint:
            raise DataError(
                f"{names}: the code differs from the code when the launch began. It has been edited since, or differs "
                "between machines. Make it the same everywhere, then launch again with --retry."
            )
    began = dict(pack.sources)
    for trial in trials if began else ():
        expected = began.get(tasks.split_name(trial), "")
        if expected and tasks.load(trial).source != expected:
            raise DataError(
                f"data.task = {trial.data.task!r}: its data differs from the data when the launch began. Its code or "
                "files have changed, differ between machines, or depend on the process, as the order of a set does. "
                "Make the data the same everywhere, then launch again with --retry."
            )


def changed(trials: Sequence[TrialConfig], store: Store | None) -> list[str]:
    """Returns a sentence for each task whose data differs from that of settled trials.

    Stored trials with the same data fields count, whichever sweep wants them. At most MOST_SPLITS of a task are
    compared, spread evenly over the stored splits.
    """
    wanted: dict[_Key, TrialConfig] = {}
    changeable = [trial for trial in trials if tasks.can_change(trial)]
    names = [*_FIELDS, *sorted({f"own.{name}" for trial in changeable for name in trial.own})]
    for trial in changeable:
        wanted.setdefault(_key(trial, names), trial)
    if store is None or not wanted:
        return []
    splits: dict[str, dict[str, list[_Key]]] = {}
    stored = _stored(store, wanted.keys(), names)
    for key in stored:
        by_name = splits.setdefault(wanted[key].data.task, {})
        by_name.setdefault(tasks.split_name(wanted[key]), []).append(key)
    return [sentence for by_name in splits.values() for sentence in _of_task(list(by_name.values()), wanted, stored)]


def _of_task(
    splits: list[list[_Key]], wanted: dict[_Key, TrialConfig], stored: dict[_Key, dict[str, str]]
) -> Iterator[str]:
    """Yields a sentence if one task's data has changed.  splits: keys of each.  stored: key -> trial -> fingerprint."""
    until, count = time.monotonic() + SECONDS, min(len(splits), MOST_SPLITS)
    others: list[str] = []
    compared_count = 0
    for keys in (splits[i * len(splits) // count] for i in range(count)):
        if compared_count and time.monotonic() > until:
            break
        keys.sort(key=lambda key: -len(set(stored[key].values())))  # splits with several fingerprints first
        try:
            if not _differing(wanted[keys[0]], stored[keys[0]]):
                compared_count += 1
                continue
            others += [trial_id for key in keys for trial_id in _differing(wanted[key], stored[key])]
            compared_count += 1
        except DataError:  # data that cannot be loaded cannot be mixed; it is reported elsewhere
            return
    if others:
        trial = wanted[splits[0][0]]
        least = "" if compared_count == len(splits) else "at least "
        named = ", ".join(others[:NAMED]) + (", ..." if len(others) > NAMED else "")
        yield (
            f"data.task = {trial.data.task!r} ({tasks.origin(trial)}): its data differs from the data of {least}"
            f"{len(others)} stored trials ({named}), and one table would hold both. Restore the data, or launch into "
            "another --results" + (", or under another import path." if tasks.is_custom(trial) else ".")
        )


def _differing(trial: TrialConfig, stored: dict[str, str]) -> list[str]:
    now = tasks.load(trial).fingerprint
    return [trial_id for trial_id, fingerprint in stored.items() if fingerprint != now]


def _stored(store: Store, keys: Collection[_Key], names: Sequence[str]) -> dict[_Key, dict[str, str]]:
    """Returns key -> settled trial -> fingerprint, for these keys.  names: of the fields of a key."""
    fields = [FIELDS[name] for name in names]
    rows = store.trials(["trial_id", "status", "data_fingerprint", *(spec.column for spec in fields)])
    trial_ids, statuses, fingerprints, *columns = (column.to_pylist() for column in rows.columns)
    # columns missing in older tables have their defaults
    columns = [
        [cell(spec.default) if value is None else value for value in column]
        for spec, column in zip(fields, columns, strict=True)
    ]
    stored: dict[_Key, dict[str, str]] = {}
    for key, trial_id, status, fingerprint in zip(
        zip(*columns, strict=True), trial_ids, statuses, fingerprints, strict=True
    ):
        if trial_state.is_settled(status) and fingerprint and key in keys:
            stored.setdefault(key, {})[trial_id] = fingerprint
    return stored


def _key(trial: TrialConfig, names: Sequence[str]) -> _Key:
    flat = trial.flat()
    return tuple(cell(flat.get(name)) for name in names)
