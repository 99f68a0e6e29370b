"""Where the numbers of a sweep come from, in words."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd

from memsweep.analysis.core import frames
from memsweep.results import query
from memsweep.results.storage.store import Store


def provenance(sweep: str, trials: pd.DataFrame, store: Store) -> dict[str, str]:
    """Returns the origin of the numbers, as name -> text."""
    stored = trials[trials["status"] != frames.MISSING]
    packs = query.table("packs", store)
    packs = packs[packs["attempt_id"].isin(set(stored["attempt_id"].dropna()))]
    digest = hashlib.blake2b("".join(sorted(trials["trial_id"])).encode(), digest_size=8).hexdigest()
    times = stored["finished_at"].dropna()
    return {
        "trials": f"{len(trials):,} wanted, {len(stored):,} stored; hash of their ids {digest}",
        "settings and seeds": f"{trials['setting_id'].nunique():,} settings; seeds {spans(trials['seed'])}",
        "varied": ", ".join(map(frames.field_of, frames.varying(trials))) or "nothing but seeds",
        "trained": f"{times.min():%Y-%m-%d %H:%M} to {times.max():%Y-%m-%d %H:%M} UTC" if len(times) else "nothing yet",
        "packs": f"{len(packs):,}, {packs['member_step_count'].sum():,.0f} member steps in "
        f"{packs['wall_seconds'].sum():,.0f} s of workers",
        "machine": _distinct(packs["host"] + ": " + packs["device_name"] + " (" + packs["device"] + ")"),
        "versions": f"memsweep {_distinct(stored['memsweep_version'])}, torch {_distinct(stored['torch_version'])}",
        "commit": _distinct(packs["memsweep_commit"]),
        "your code": _distinct(stored["code_fingerprint"] + stored["code_commit"].radd(" of commit ").fillna(""))
        if stored["code_fingerprint"].notna().any()
        else "none",
        "protocol": _distinct(trials["protocol"].map("{:g}".format)),
    }


def _distinct(values: pd.Series[Any]) -> str:
    return ", ".join(sorted(set(values.dropna().astype(str)))) or "not recorded"


def spans(values: pd.Series[Any]) -> str:
    """Returns whole numbers as a text such as 0-4, 7."""
    numbers = sorted({int(value) for value in values})
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)
