"""Compiled programs: the whole step of a pack as one piece of machine code, made once a program and cached on disk.

The number of members, of examples and of stored rows may change between calls; everything else belongs to the program.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memsweep.engine import step
from memsweep.engine.program import Program
from memsweep.engine.state import State, map_tensors
from memsweep.engine.step import Batch

_steps: dict[tuple[Any, ...], Callable[[State, Batch], Tensor]] = {}


def train_step(program: Program, state: State, batch: Batch) -> Tensor:
    """As `step.train_step`, compiled: the first call for a program takes seconds."""
    state = state._replace(members=(), step=np.empty(0))  # the host's own, no part of a program
    if len(batch.rate) > 1:
        return _compiled(program, state, batch)(state, batch)
    # torch would make a program of its own for a size of one: a member without company trains beside itself
    bank = state.examples.bank
    two, batches = (map_tensors(lambda t: t if t is bank else torch.cat([t, t]), value) for value in (state, batch))
    norms = _compiled(program, two, batches)(two, batches)
    for own, twins in ((state.parameters, two.parameters), (state.moments, two.moments)):
        map_tensors(lambda one, both: one.copy_(both[:1]), own, twins)
    return norms[:1]


def _compiled(program: Program, state: State, batch: Batch) -> Callable[[State, Batch], Tensor]:
    """The program's step; compiled at its first call, which these tensors are meant for."""
    key = program[1:]  # all but the module
    if key not in _steps:
        torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10_000
        for value in (state, batch):
            map_tensors(lambda tensor: torch._dynamo.maybe_mark_dynamic(tensor, 0), value)
        torch._dynamo.maybe_mark_dynamic(state.examples.given, 1)
        _steps[key] = torch.compile(partial(step.train_step, program), fullgraph=True)
    return _steps[key]
