"""What do 10,000 parts cost a reader, and what does it cost to make a few of them?

Parts as workers write them, two rows of `steps` for each row of `trials`, into a folder of this machine. A query that
reads both tables is timed before and after `compact`, and `compact` again, which has nothing to do.

    python -m tests.bench.compaction
    python -m tests.bench.compaction --parts 1000
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from memsweep.results.compaction import compact
from memsweep.results.query import run
from memsweep.results.storage.store import Store
from tests.bench import machine

T = TypeVar("T")
TRIALS_A_PART = 8
QUERY = """
select count(*) as trials, sum(points) as points
from trials join (select trial_id, count(*) as points from steps group by 1) using (trial_id)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=10_000)
    parts = parser.parse_args().parts
    print(machine.header(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "results"), create=True)
        fill(store, parts // 2)
        count = len(store.parts("trials")) + len(store.parts("steps"))
        reading = {table: timed(partial(store.read, table))[0] for table in ("trials", "steps")}
        before, answer = timed(lambda: run(QUERY, store.results).to_pylist())
        first, merged = timed(lambda: compact(store))
        after, same = timed(lambda: run(QUERY, store.results).to_pylist())
        again, nothing = timed(lambda: compact(store))
        assert same == answer and not any(one.rows_dropped for one in merged)
        assert all(one.parts == one.parts_before for one in nothing)
        left = len(store.parts("trials")) + len(store.parts("steps"))
    for table, seconds in reading.items():
        print(f"a part of {table}: {seconds / (count / 2) * 1e3:.2f} ms to read, all its columns")
    print(f"{count} parts: query {before:.2f} s, compact {first:.1f} s")
    print(f"{left} parts: query {after:.2f} s, compact again {again:.2f} s")
    found = {"parts": count, "left": left, "reading": reading, "query": [before, after], "compact": [first, again]}
    print(json.dumps({"benchmark": "compaction", "machine": machine.describe(), **found}))


def fill(store: Store, pairs: int) -> None:
    """So many parts of `trials`, and as many of `steps`."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for pair in range(pairs):
        names = [f"{pair:08x}{member:08x}" for member in range(TRIALS_A_PART)]
        own = {"attempt_id": f"{pair:016x}"}
        store.write("steps", [{**own, "trial_id": name, "step": step} for name in names for step in (10, 20)])
        ends = {**own, "setting_id": "s", "status": "finished", "finished_at": noon + timedelta(seconds=pair)}
        store.write("trials", [{**ends, "trial_id": name, "step_count": 20} for name in names])


def timed(act: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    found = act()
    return time.perf_counter() - began, found


if __name__ == "__main__":
    main()
