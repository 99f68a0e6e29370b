"""The critical sample ratio of Arpit et al. (2017, section 4.1): how densely decision boundaries surround the data.

An example is critical if LASS finds an input within a small box around it that is predicted differently. The number of
iterations is that of the published code, without its stop at fewer than 20 new critical samples, which would end a
search among few examples too early. The choice and number of examples and the wider boxes are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from memsweep.engine import adversarial
from memsweep.engine.train import streams
from memsweep.engine.train.evaluation import numbers_of
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, member_view, rows_of
from memsweep.engine.train.step import hold, places
from memsweep.spec.seeds import key

EXAMPLES = 100
"""Most examples, the first of the training and of the validation set."""
ITERATIONS = 100
MULTIPLES = (1, 10, 30)
"""Factors of the paper's step, noise and box; the paper's box may find nothing on easy data."""
PARTS = ("train", "validation")


class Critical(NamedTuple):
    """One search over every member's examples, of which all members have the same number."""

    part: str
    multiple: int
    critical: Tensor  # [M] int64
    examples: int


def measure(program: Program, state: State) -> list[Critical]:
    """Returns the searches of each non-empty part at every multiple; members have equally many examples.

    All members and trials use the same noise.
    """
    e, searches = state.examples, []
    keys = torch.tensor([key(0, "probes/critical_samples")], dtype=torch.int64, device=program.device)
    for part in PARTS:
        offset, total = (e.offset, e.train_count) if part == "train" else (e.held_out_offset, e.validation_count)
        examples = min(EXAMPLES, int(total[0]))
        if not examples:
            continue
        inputs = rows_of(e.bank, offset[:, None] + torch.arange(examples, device=program.device))
        for multiple in MULTIPLES:
            is_critical = _searched(program, state, inputs, multiple, streams.subkeys(keys, multiple))
            searches.append(Critical(part, multiple, is_critical.sum(1).cpu(), examples))
    return searches


def _searched(program: Program, state: State, inputs: Tensor, multiple: int, keys: Tensor) -> Tensor:
    """Whether inputs [M, E, D] are critical, [M, E]; in the mode `serial` a member at a time."""
    span = multiple * state.examples.input_range
    if program.mode != "serial":
        climb = adversarial.climber(program, numbers_of(state))
        return adversarial.search(climb, inputs, span, keys, ITERATIONS).is_critical
    alone, evaluated = [], places(program.evaluated, state.buffers)
    for m in range(len(inputs)):
        hold(evaluated, member_view(state, m))
        climb = adversarial.climber(program, {})
        member = slice(m, m + 1)
        alone.append(adversarial.search(climb, inputs[member], span[member], keys, ITERATIONS).is_critical)
    return torch.cat(alone)
