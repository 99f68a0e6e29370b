"""Rows of the probe tables: what members that leave are asked beside their counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from memsweep.engine.probes import positions, readouts
from memsweep.engine.program import Program
from memsweep.engine.state import State, select
from memsweep.launch.ledger import Row


def rows(program: Program, state: State, leaving: Sequence[int]) -> dict[str, list[Row]]:
    """Table -> rows of these members, of the probes that their trials want."""
    found = {}
    for table, probe in _PROBES.items():
        asked = [m for m in leaving if table in state.members[m].trial.probes]
        if asked:
            found[table] = probe(program, select(state, np.array(asked)))
    return found


def _examples(_program: Program, state: State) -> list[Row]:
    found = []
    for m, member in enumerate(state.members):
        data, count = member.data, len(member.data.labels)
        learned, forgotten, loss = (
            getattr(state.history, name)[m, :count].tolist() for name in ("learned", "forgotten", "loss")
        )
        found += [
            {
                "trial_id": member.trial.trial_id,
                "example": i,
                "source_index": int(data.source_index[i]),
                "corrupted": bool(data.corrupted[i]),
                "given_label": int(data.labels[i]),
                "true_label": int(data.true_labels[i]),
                "first_learned_step": learned[i] if learned[i] >= 0 else None,
                "forgotten_count": forgotten[i],
                "final_loss_nats": loss[i],
            }
            for i in range(count)
        ]
    return found


def _positions(program: Program, state: State) -> list[Row]:
    measured, first = positions.measure(program, state), program.form.steps - program.form.positions
    return [
        {
            "trial_id": member.trial.trial_id,
            "position": first + i,
            "target_correct_count": int(measured.correct[m, i]),
            "target_count": int(measured.asked[m, i]),
            "loss_sum_nats": float(measured.loss[m, i]),
        }
        for m, member in enumerate(state.members)
        for i in range(program.form.positions)
    ]


def _readouts(program: Program, state: State) -> list[Row]:
    return [
        {
            "trial_id": member.trial.trial_id,
            "item": readout.item,
            "fitted_step": readout.fitted_step,
            "applied_step": readout.applied_step,
            "correct_count": int(readout.correct[m]),
            "example_count": readout.examples,
        }
        for readout in readouts.measure(program, state)
        for m, member in enumerate(state.members)
    ]


_PROBES: dict[str, Callable[[Program, State], list[Row]]] = {
    "examples": _examples,
    "positions": _positions,
    "readouts": _readouts,
}
