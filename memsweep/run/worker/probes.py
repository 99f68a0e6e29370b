"""Rows of the probe tables, measured of members at their end or at their probe_steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from memsweep.engine.probes import (
    critical_samples,
    exposure,
    jacobians,
    loss_sensitivity,
    memorization,
    own,
    permutations,
    positions,
    readouts,
    representations,
)
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, select
from memsweep.run.worker import weights
from memsweep.run.worker.writer import Row
from memsweep.spec.options import LIMIT, REPEATED_PROBES
from memsweep.spec.schema import own_probes


def rows(program: Program, state: State, members: Sequence[int], *, repeated: bool = False) -> dict[str, list[Row]]:
    """Returns table -> rows of these members, for the probes that their trials want.

    repeated: only of the probes that also run before the end.
    """
    tables = {}
    for table, probe in _PROBES.items():
        wanted = not repeated or table in REPEATED_PROBES
        probed = [m for m in members if wanted and table in state.members[m].trial.probes]
        if probed:
            parts = _alike(select(state, np.array(probed)))
            tables[table] = [row for part in parts for row in probe(program, part)]
    return tables


def own_rows(program: Program, state: State, members: Sequence[int]) -> dict[str, list[Row]]:
    """Returns table -> rows of these members, for the users' probes that their trials want."""
    tables = {}
    for path in dict.fromkeys(path for m in members for path in own_probes.paths(state.members[m].trial.probes)):
        probed = np.array([m for m in members if path in state.members[m].trial.probes])
        parts = _alike(select(state, probed))
        tables[own_probes.table_of(path)] = [row for part in parts for row in own.rows(program, part, path)]
    return tables


def due(state: State, m: int) -> bool:
    """Returns whether a member is at one of its probe_steps."""
    return int(state.step[m]) in state.members[m].trial.probe_steps


def steps_to_probe(state: State) -> int:
    """Returns the steps until the next member reaches a probe step; LIMIT if no member does."""
    ahead = [
        step - int(done)
        for member, done in zip(state.members, state.step, strict=True)
        for step in member.trial.probe_steps
        if step > done
    ]
    return min(ahead, default=LIMIT)


def _examples(program: Program, state: State) -> list[Row]:
    rows, is_graded = [], program.form.is_graded
    for m, member in enumerate(state.members):
        data, count = member.data, len(member.data.labels)
        learned, forgotten, loss = (
            getattr(state.history, name)[m, :count].tolist() for name in ("learned", "forgotten", "loss")
        )
        rows += [
            {
                "trial_id": member.trial.trial_id,
                "example": i,
                "source_index": int(data.source_index[i]),
                "corrupted": bool(data.corrupted[i]),
                "given_label": int(data.labels[i]) if is_graded else None,
                "true_label": int(data.true_labels[i]) if is_graded else None,
                "first_learned_step": learned[i] if is_graded and learned[i] >= 0 else None,
                "forgotten_count": forgotten[i] if is_graded else None,
                "final_loss_nats": loss[i],
            }
            for i in range(count)
        ]
    return rows


def _alike(state: State) -> Iterator[State]:
    """Yields groups of members with equal steps, training examples and validation examples.

    The result of a probe then does not depend on the pack, and probes need not handle padding.
    """
    places = [
        (int(step), data.examples, data.validation_examples)
        for step, data in zip(state.step, (member.trial.data for member in state.members), strict=True)
    ]
    for place in sorted(set(places)):
        yield select(state, np.array([other == place for other in places]))


def _loss_sensitivity(program: Program, state: State) -> list[Row]:
    measured = loss_sensitivity.measure(program, state)
    ginis = {f"gini_{name}": loss_sensitivity.gini(value).tolist() for name, value in measured.mean.items()}
    means = measured.mean["l1"].mean(-1).tolist()
    return [
        {
            "trial_id": member.trial.trial_id,
            "step": step,
            "example_count": len(member.data.labels),
            "mean_l1": means[m][i],
            **{name: _finite(values[m][i]) for name, values in ginis.items()},
        }
        for m, member in enumerate(state.members)
        for i, step in enumerate(measured.steps)
    ]


def _class_sensitivity(program: Program, state: State) -> list[Row]:
    measured = loss_sensitivity.measure_classes(program, state)
    return [
        {
            "trial_id": member.trial.trial_id,
            "output_class": i,
            "input_class": j,
            "gradient_l1": _finite(measured.mean[m, i, j].item()),
            "example_count": int(measured.examples[m, j]),
        }
        for m, member in enumerate(state.members)
        for i in range(program.classes)
        for j in range(program.classes)
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _critical_samples(program: Program, state: State) -> list[Row]:
    return [
        {
            "trial_id": member.trial.trial_id,
            "step": int(state.step[m]),
            "part": search.part,
            "radius_multiple": search.multiple,
            "critical_count": int(search.critical[m]),
            "example_count": search.examples,
        }
        for search in critical_samples.measure(program, state)
        for m, member in enumerate(state.members)
    ]


def _memorization(program: Program, state: State) -> list[Row]:
    return [
        {
            "trial_id": member.trial.trial_id,
            "part": of_part.part,
            "example": i,
            "source_index": int(of_part.source[i]) if of_part.source.size else None,
            "is_trained": trained,
            "is_right": right,
            "corrupted": corrupted,
            "given_label": label,
            "true_label": true_label,
        }
        for member, parts in zip(state.members, memorization.measure(program, state), strict=True)
        for of_part in parts
        for i, (trained, right, corrupted, label, true_label) in enumerate(
            zip(*(values.tolist() for values in of_part[2:]), strict=True)
        )
    ]


def _exposure(program: Program, state: State) -> list[Row]:
    measured = exposure.measure(program, state)
    return [
        {
            "trial_id": member.trial.trial_id,
            "step": int(state.step[m]),
            "example": i,
            "repeat_count": count,
            "loss_nats": _finite(float(measured.loss[m, i])),
            "likelier_count": int(measured.likelier[m, i]),
            "candidate_count": int(measured.candidates[m]),
        }
        for m, member in enumerate(state.members)
        for i, count in enumerate(member.trial.data.repeats)
    ]


def _jacobians(program: Program, state: State) -> list[Row]:
    return [
        {
            "trial_id": member.trial.trial_id,
            "layer": layer.layer,
            "square_sum": _finite(float(layer.square_sum[m])),
            "off_diagonal_square_sum": _finite(float(layer.off_diagonal_square_sum[m])),
            "matrix_count": layer.matrices,
        }
        for layer in jacobians.measure(program, state)
        for m, member in enumerate(state.members)
    ]


def _permutations(program: Program, state: State) -> list[Row]:
    return [
        {"trial_id": member.trial.trial_id, "step": int(step), **row._asdict()}
        for member, step, rows in zip(state.members, state.step, permutations.measure(program, state), strict=True)
        for row in rows
    ]


def _positions(program: Program, state: State) -> list[Row]:
    measured, first = positions.measure(program, state), program.form.steps - program.form.positions
    return [
        {
            "trial_id": member.trial.trial_id,
            "position": first + i,
            "target_correct_count": int(measured.correct[m, i]),
            "target_count": int(measured.total[m, i]),
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


def _representations(program: Program, state: State) -> list[Row]:
    return [
        {
            "trial_id": member.trial.trial_id,
            "step": int(state.step[m]),
            "part": measured.part,
            "quantity": measured.quantity,
            "layer": measured.layer,
            "width": measured.values.shape[2],
            "numbers": measured.values[m].flatten().tolist(),
        }
        for measured in representations.measure(program, state)
        for m, member in enumerate(state.members)
    ]


_PROBES: dict[str, Callable[[Program, State], list[Row]]] = {
    "class_sensitivity": _class_sensitivity,
    "critical_samples": _critical_samples,
    "examples": _examples,
    "exposure": _exposure,
    "jacobians": _jacobians,
    "loss_sensitivity": _loss_sensitivity,
    "memorization": _memorization,
    "permutations": _permutations,
    "positions": _positions,
    "readouts": _readouts,
    "representations": _representations,
    "weights": weights.rows,
}
