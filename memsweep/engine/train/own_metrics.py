"""A user's metrics: functions of one member's outputs, labels and inputs, computed at every measurement.

A metric is `(outputs, labels, inputs) -> {name: scalar tensor}`. In fused programs it is lifted over members, also of
a lone member, so that its rounding does not depend on the pack; where torch can't lift it, members follow in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from memsweep.engine.nn import member_fields
from memsweep.engine.train import streams
from memsweep.engine.train.evaluation import Block, numbers_of, outputs_of, rows_at_a_time
from memsweep.engine.train.metrics import MetricValue
from memsweep.engine.train.optim import Tensors
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, rows_of
from memsweep.spec.config import imported
from memsweep.spec.fields.own import OwnFields, bound

PARTS = ("train", "validation")
CHUNK_BYTES = 1 << 26
"""Memory for the inputs of the members that are computed together; at least one member."""

Metric = Callable[[Tensor, Tensor, Tensor], Mapping[str, Tensor]]
"""Of one member: (outputs [N, K], labels [N], inputs [N, D]) -> name -> scalar; outputs and labels are [N, L, ...] for
tasks with targets."""


def values(program: Program, state: State, members: Sequence[int]) -> dict[int, tuple[MetricValue, ...]]:
    """Returns member -> the values of its metrics on its training and validation data, in evaluation mode."""
    results: dict[int, list[MetricValue]] = {m: [] for m in members if state.members[m].trial.metrics}
    for part in PARTS:
        for alike, count in _groups(program, state, list(results), part):
            tensors = _tensors(program, state, alike, part, count)
            for path in state.members[alike[0]].trial.metrics:
                metric = bound_metric(path, program.own)
                vectors = {name: value[alike] for name, value in state.own.items()}
                seeds = [seed_of(state, m) for m in alike]
                rows = _computed(path, metric, vectors, tensors, seeds, program.mode == "fused")
                for m, row in zip(alike, rows, strict=True):
                    results[m] += [MetricValue(path, part, name, value) for name, value in row.items()]
    return {m: tuple(rows) for m, rows in results.items()}


def with_metrics(curve: dict[int, dict[str, Any]], rows: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Returns a curve, step -> column -> number, with rows of the table `metrics` of the same trial added."""
    for row in rows:
        value = MetricValue(row["metric"], row["part"], row["name"], row["value"])
        curve.setdefault(row["step"], {})[value.column] = value.value
    return curve


@lru_cache(maxsize=1024)
def bound_metric(path: str, own: OwnFields) -> Metric:
    """Returns the function at an import path, given `own` if it takes it."""
    return bound(imported(path), own)


def _groups(program: Program, state: State, members: Sequence[int], part: str) -> Iterator[tuple[list[int], int]]:
    """Yields members with equal metrics and numbers of examples, few enough for the memory, and that number."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for m in members:
        data = state.members[m].trial.data
        count = data.examples if part == "train" else data.validation_examples
        groups.setdefault((count, state.members[m].trial.metrics), []).append(m)
    for (count, _), alike in groups.items():
        size = max(1, count * state.examples.bank[:1].nbytes)
        step = max(1, CHUNK_BYTES // size)
        if count:
            yield from ((alike[begin : begin + step], count) for begin in range(0, len(alike), step))


@torch.no_grad()
def _tensors(
    program: Program, state: State, members: Sequence[int], part: str, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns outputs, labels (as trained on) and inputs of these members' examples, [M, N, ...]."""
    e, at = state.examples, torch.tensor(members, device=program.device)
    begin = _first_rows(state, part)
    numbers: Tensors = {name: value[at] for name, value in numbers_of(state).items()}
    blocks = []
    for first in range(0, count, size := rows_at_a_time(program.form)):
        rows = (first + torch.arange(size, device=program.device)).clamp(max=count - 1)  # as many as in `evaluate`
        rows = begin[at, None] + rows
        blocks.append(outputs_of(program, numbers, Block(e.bank, rows, rows)))
    return torch.cat(blocks, 1)[:, :count], *examples_of(program, state, members, part, count)


def examples_of(program: Program, state: State, members: Sequence[int], part: str, count: int) -> tuple[Tensor, Tensor]:
    """Returns labels (as trained on) or targets, and inputs, of these members' first `count` examples, [M, N, ...].

    part: one of PARTS.
    """
    e, at = state.examples, torch.tensor(members, device=program.device)
    rows = _first_rows(state, part)[at, None] + torch.arange(count, device=program.device)
    labels = e.given if part == "train" else e.held_out
    wanted = labels[at, :count] if program.form.kind == "label" else rows_of(e.targets, rows)
    return wanted, rows_of(e.bank, rows)


def _first_rows(state: State, part: str) -> Tensor:
    return state.examples.offset if part == "train" else state.examples.held_out_offset


@torch.no_grad()
def _computed(
    path: str, metric: Metric, vectors: Tensors, tensors: tuple[Tensor, ...], seeds: Sequence[int], lift: bool
) -> list[dict[str, float | None]]:
    """Returns name -> value for each member."""
    if lift:
        try:
            lifted = vmap(member_fields.lifted(metric))(vectors, *tensors)
            columns = {name: value.double().tolist() for name, value in lifted.items()}
            return [{name: _finite(column[m]) for name, column in columns.items()} for m in range(len(seeds))]
        except Exception:  # it can't be lifted, or it fails: then it fails in turn too, with its own error
            pass
    rows = []
    for m, seed in enumerate(seeds):
        torch.manual_seed(seed)  # for random numbers that it draws itself
        given = member_fields.completed(metric, {name: value[m] for name, value in vectors.items()})
        row = given(*(tensor[m] for tensor in tensors))
        if not isinstance(row, Mapping):
            raise TypeError(f"metrics: {path} returns {type(row).__name__}; must return a dict of scalar tensors.")
        rows.append({name: _finite(float(value)) for name, value in row.items()})
    return rows


def seed_of(state: State, m: int) -> int:
    """Returns the seed of the random numbers that a user's function draws for a member at its step."""
    return int(streams.subkeys(state.noise_keys[m], int(state.step[m])))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
