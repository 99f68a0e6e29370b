"""How far each sweep is: wanted trials against what the tables say of them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow.compute as pc

from memsweep.results import trial_state, wanted
from memsweep.results.storage.store import Store
from memsweep.spec import rules
from memsweep.spec.config import FIELDS, trial_id_of
from memsweep.spec.options import PROTOCOL
from memsweep.spec.schema import RETRIED, SETTLED, Status, error_line

COLUMNS = ("sweep", "wanted", "finished", "pruned", "diverged", "running", "failed", "missing")
"""Of the overview."""


def overview(store: Store) -> list[dict[str, Any]]:
    """One row a sweep: wanted, finished, other ends, running, failed, missing and former trials.

    Former are stored trials of its earlier launches, which its last one does not want.
    """
    former = wanted.former(store)
    rows = []
    for sweep, states in trial_state.states(store).items():
        counts = Counter(states.values())
        names = (Status.FINISHED.value, Status.PRUNED.value, Status.DIVERGED.value, *trial_state.UNSETTLED)
        number = len(former.get(sweep, ()))
        rows.append({"sweep": sweep, "wanted": len(states), **{name: counts[name] for name in names}, "former": number})
    return rows


def older(store: Store) -> str:
    """A sentence on settled trials whose numbers this version gives otherwise; empty where there are none.

    What only a user's code or data can say is known once a launch has stored what it wants.
    """
    names = list(dict.fromkeys(name for mend in rules.MENDS for name in mend.fields))
    columns = ["trial_id", "status", "protocol", *(FIELDS[name].column for name in names)]
    settled, old = set(), set()
    for trial_id, status, number, *values in zip(*store.trials(columns).to_pydict().values(), strict=True):
        if status in SETTLED:
            settled.add(trial_id)
            if (number or 1) < rules.protocol_of(dict(zip(names, values, strict=True))):
                old.add(trial_id)
    texts = store.current("wanted", ["configuration"])["configuration"]
    for number in range(2, PROTOCOL + 1):
        for text in texts.filter(pc.match_substring(texts, f'"protocol":{number}')).to_pylist():
            fields = json.loads(text)
            old |= {trial_id_of({**fields, "protocol": lower}) for lower in range(1, number)} & settled
    return older_protocol(len(old))


def older_protocol(count: int) -> str:
    """A sentence on so many stored trials of an older protocol; empty for none."""
    trials, they = ("trial is", "it stays") if count == 1 else ("trials are", "they stay")
    return f"{count} stored {trials} of an older protocol: {they} readable, trained anew when wanted" if count else ""


def tracking(store: Store) -> str:
    """A sentence on what MLflow holds of the trials that have ended; empty where it was never filled."""
    note = store.tracking()
    held = note.get("held", {})
    if not isinstance(held, dict) or not note:
        return ""
    ends, wanted = store.ends(), store.current("wanted", ["trial_id"])["trial_id"].to_pylist()
    count = sum(trial_id in ends for trial_id in wanted)
    lacking = max(0, count - sum(number for number in held.values() if isinstance(number, int)))
    where, remedy = f"MLflow at {note.get('where')}", f"memsweep track --results {store.results} fills it"
    if error := note.get("error"):
        state = f"{where} can't be filled since {note.get('since')}, and lacks {lacking} of {count} trials"
        return f"{state}: {str(error).rstrip('.')}; {remedy}"
    if not lacking:
        return f"{where} holds all {count} trials that have ended"
    if store.is_locked("track"):
        return f"{where} is being filled: it lacks {lacking} of {count} trials"
    return f"{where} lacks {lacking} of {count} trials: {remedy}"


def failures(store: Store) -> list[tuple[str, str, str]]:
    """(trial, status, the error's own line and advice) of each trial that an error ended and that is still wanted."""
    unwanted = wanted.unwanted(store)
    table = store.trials(["trial_id", "status", "cause"])
    rows = zip(*(table[name].to_pylist() for name in ("trial_id", "status", "cause")), strict=True)
    return [
        (trial, status, f"{error_line(cause)}. {Status(status).advice}")
        for trial, status, cause in rows
        if status in RETRIED and trial not in unwanted
    ]
