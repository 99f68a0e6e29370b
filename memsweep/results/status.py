"""Progress of each sweep: the states of its wanted trials, counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from memsweep.results import trial_state, wanted
from memsweep.results.storage.accepted import has_code
from memsweep.results.storage.store import Store
from memsweep.spec import mends
from memsweep.spec.config import FIELDS, trial_id_of
from memsweep.spec.options import PROTOCOL
from memsweep.spec.schema import Status, error_line

COLUMNS = ("sweep", "wanted", "finished", "pruned", "diverged", "running", "failed", "missing")
"""Columns of the overview."""


def states(store: Store) -> dict[str, dict[str, str]]:
    """Returns sweep -> trial_id -> state, for all wanted trials; sweeps are sorted by name."""
    running = store.running()
    names = ["sweep", "trial_id", "probes", "metrics"]
    rows = store.current("wanted", names)
    if pc.any(pc.not_equal(rows["probes"], "")).as_py():
        rows = store.current("wanted", [*names, "configuration"])  # configurations are long texts
    by_sweep: dict[str, dict[str, str]] = {}
    all_ends = None if has_code(store.read("trials", ["code_fingerprint"])) else store.ends()
    ends_of: dict[str, Mapping[str, trial_state.End]] = {}
    for row in rows.to_pylist():
        trial_id, sweep = row["trial_id"], row["sweep"]
        if sweep not in ends_of:
            ends_of[sweep] = store.of_sweep(sweep).ends() if all_ends is None else all_ends
        end = ends_of[sweep].get(trial_id, trial_state.NOT_STORED)
        state = trial_state.state(end, wanted.records(row), is_running=trial_id in running)
        by_sweep.setdefault(sweep, {})[trial_id] = state
    return dict(sorted(by_sweep.items()))


def overview(store: Store, by_sweep: Mapping[str, Mapping[str, str]] | None = None) -> list[dict[str, Any]]:
    """Returns one row per sweep: counts of wanted, finished, otherwise ended, running, failed, missing, former trials.

    by_sweep: what `states` returned for this store; None: it is read.
    Former trials are stored trials of earlier launches that the last launch does not want.
    """
    former = wanted.former(store)
    rows = []
    for sweep, by_trial in (states(store) if by_sweep is None else by_sweep).items():
        counts = Counter(by_trial.values())
        names = (Status.FINISHED.value, Status.PRUNED.value, Status.DIVERGED.value, *trial_state.UNSETTLED)
        number = len(former.get(sweep, ()))
        rows.append(
            {"sweep": sweep, "wanted": len(by_trial), **{name: counts[name] for name in names}, "former": number}
        )
    return rows


def older(store: Store) -> str:
    """Returns a sentence on settled trials whose numbers differ in this version; "" without such trials.

    Differences that depend on a user's code or data are counted once a launch has stored the newer trials.
    """
    names = list(dict.fromkeys(name for mend in mends.MENDS for name in mend.fields))
    columns = ["trial_id", "status", "protocol", *(FIELDS[name].column for name in names)]
    settled, old = set(), set()
    for trial_id, status, number, *values in zip(*store.trials(columns).to_pydict().values(), strict=True):
        if trial_state.is_settled(status):
            settled.add(trial_id)
            if (number or 1) < mends.protocol_of(dict(zip(names, values, strict=True))):
                old.add(trial_id)
    texts = store.current("wanted", ["configuration"])["configuration"]
    for number in range(2, PROTOCOL + 1):
        for text in texts.filter(pc.match_substring(texts, f'"protocol":{number}')).to_pylist():
            fields = json.loads(text)
            old |= {trial_id_of({**fields, "protocol": lower}) for lower in range(1, number)} & settled
    return older_protocol(len(old))


def older_protocol(count: int) -> str:
    """Returns a sentence on `count` stored trials of an older protocol; "" for 0."""
    if not count:
        return ""
    trials, they, them = ("trial is", "it stays", "it") if count == 1 else ("trials are", "they stay", "them")
    return (
        f"{count} stored {trials} of an older protocol: {they} readable, and a launch that wants {them} "
        f"trains {them} again"
    )


def tracking(store: Store) -> str:
    """Returns a sentence on the ended trials that MLflow holds; "" if it was never filled."""
    note = store.tracking()
    counts = note.get("held", {})
    if not isinstance(counts, dict) or not note:
        return ""
    ends, wanted = store.ends(), store.current("wanted", ["trial_id"])["trial_id"].to_pylist()
    count = sum(trial_id in ends for trial_id in wanted)
    lacking = max(0, count - sum(number for number in counts.values() if isinstance(number, int)))
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
    """Returns (trial_id, status, error line and advice) of each wanted trial that an error ended."""
    unwanted = wanted.unwanted(store)
    table = store.trials(["trial_id", "status", "cause"])
    rows = zip(*(table[name].to_pylist() for name in ("trial_id", "status", "cause")), strict=True)
    return [
        (trial, status, f"{error_line(cause)}. {Status(status).advice}")
        for trial, status, cause in rows
        if trial_state.is_failed(status) and trial not in unwanted
    ]
