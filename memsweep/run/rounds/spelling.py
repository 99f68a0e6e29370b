"""Replaces numbers by stored numbers that differ only by rounding, so that no trial is trained twice."""

from __future__ import annotations

from memsweep.results.storage.store import Store
from memsweep.spec.config import FIELDS, TrialConfig
from memsweep.spec.sweep import Sweep


def as_stored(sweep: Sweep, store: Store) -> tuple[Sweep, list[str]]:
    """Returns the sweep with the numbers of its stored trials, and a sentence on each replaced number."""
    given = {*sweep.axis_names, *(sweep.base.flat() if isinstance(sweep.base, TrialConfig) else sweep.base)}
    columns = {name: FIELDS[name].column for name in given if FIELDS[name].kind in (float, object)}
    rows = store.read("wanted", ["sweep", "trial_id"]).to_pydict() if columns else {"sweep": [], "trial_id": []}
    ids = {trial for name, trial in zip(rows["sweep"], rows["trial_id"], strict=True) if name == sweep.name}
    if not ids:
        return sweep, []
    trials = store.trials(["trial_id", *columns.values()]).to_pydict()
    is_wanted = [trial_id in ids for trial_id in trials["trial_id"]]
    values = {
        name: {v for v, keep in zip(trials[column], is_wanted, strict=True) if keep and isinstance(v, float)}
        for name, column in columns.items()
    }
    sweep, replaced = sweep.respelled(values)
    return sweep, [
        f"{sweep.name}: {name} = {value!r} is replaced by {stored!r}, the value of its stored trials."
        for name, value, stored in replaced
    ]
