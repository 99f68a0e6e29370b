"""Forgotten launches: readers skip their rows of `wanted`, a compaction deletes the trials that they alone wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from memsweep.results.storage.store import Store

LAUNCH = ["sweep", "launch_id"]
"""Columns of `wanted` and of `forgotten` that name a launch; launch_id is null in rows of an older version."""


def remembered(wanted: pa.Table, forgotten: pa.Table) -> pa.Array:
    """Returns which rows belong to no forgotten launch: [rows] bool.  Both tables have the columns LAUNCH."""
    return pc.invert(pc.is_in(_launches(wanted), value_set=_launches(forgotten)))


def are_there(store: Store) -> bool:
    """Returns whether rows of forgotten launches are stored."""
    if not store.parts("forgotten"):
        return False
    return not pc.all(remembered(store.read_ever("wanted", LAUNCH), store.read_ever("forgotten", LAUNCH))).as_py()


def trials(store: Store) -> pa.Array:
    """Returns the trials that forgotten launches wanted, and that no other launch of any sweep ever wanted."""
    ever = store.read_ever("wanted", ["trial_id", *LAUNCH])
    is_kept = remembered(ever, store.read_ever("forgotten", LAUNCH))
    gone = pc.unique(ever.filter(pc.invert(is_kept))["trial_id"])
    return gone.filter(pc.invert(pc.is_in(gone, value_set=pc.unique(ever.filter(is_kept)["trial_id"]))))


def _launches(rows: pa.Table) -> pa.Array:
    texts = pc.binary_join_element_wise(rows["sweep"], pc.fill_null(rows["launch_id"], ""), "\n")
    return texts.combine_chunks()
