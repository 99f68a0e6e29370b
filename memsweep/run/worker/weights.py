"""Rows of the table `weights`, and the files that hold the weights themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memsweep.engine.train import comparison
from memsweep.engine.train.evaluation import numbers_of
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State
from memsweep.results import networks
from memsweep.results.storage.store import Store
from memsweep.run.worker.writer import Row

NUMBERS = "numbers"
"""Key of a row under which the weights are until they are written."""


def rows(_program: Program, state: State) -> list[Row]:
    """Returns a row for each member, with the weights that are measured, and buffers: name -> [*shape]."""
    numbers = {name: values.detach().cpu().numpy() for name, values in numbers_of(state).items()}
    return [
        {
            "trial_id": member.trial.trial_id,
            "step": int(state.step[m]),
            "byte_count": sum(values[m].nbytes for values in numbers.values()),
            "weights_fingerprint": comparison.weights_fingerprint(state, m),
            NUMBERS: {name: values[m] for name, values in numbers.items()},
        }
        for m, member in enumerate(state.members)
    ]


def stored(members: Sequence[Row], store: Store) -> list[Row]:
    """Writes the weights of these rows to one file, and returns the rows that name it.  Raises StoreError."""
    numbers = {name: np.stack([row[NUMBERS][name] for row in members]) for name in members[0][NUMBERS]}
    file = networks.write(store, [row["trial_id"] for row in members], numbers)
    return [
        {name: value for name, value in row.items() if name != NUMBERS} | {"file": file, "position": position}
        for position, row in enumerate(members)
    ]
