"""Takes numbers for those of stored trials that they are but for rounding, so that no trial is trained twice."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.config import FIELDS, TrialConfig
from memsweep.results.store import Store
from memsweep.sweep import Sweep


def as_stored(sweep: Sweep, store: Store) -> tuple[Sweep, list[str]]:
    """The sweep with such numbers as its stored trials have them, and a sentence about each that was replaced."""
    given = {*sweep.axis_names, *(FIELDS if isinstance(sweep.base, TrialConfig) else sweep.base)}
    columns = {name: spec.column for name, spec in FIELDS.items() if name in given and spec.kind is float}
    wanted = store.read("wanted", ["sweep", "trial_id"])
    ids = wanted.filter(pc.equal(wanted["sweep"], sweep.name))["trial_id"]
    if not columns or not len(ids):
        return sweep, []
    trials = store.trials(["trial_id", *columns.values()])
    trials = trials.filter(pc.is_in(trials["trial_id"], value_set=pa.array(set(ids.to_pylist()), pa.string())))
    known = {name: trials[column].drop_null().unique().to_pylist() for name, column in columns.items()}
    sweep, replaced = sweep.respelled(known)
    return sweep, [
        f"{sweep.name}: {name} = {value!r} is taken for the {stored!r} of its stored trials."
        for name, value, stored in replaced
    ]
