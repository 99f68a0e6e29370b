"""Losses of canaries beside those of candidates: strings that were trained on, and strings that might have been.

Carlini et al. (2019): a canary drawn from R equally probable candidates has the exposure log2 R - log2 rank, where the
rank counts from the candidate that the network finds likeliest. Canaries are the training strings that data.repeats
counts; candidates are the validation strings, which are drawn alike and never trained on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from memsweep.engine.train.evaluation import evaluate, numbers_of
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State


class Exposed(NamedTuple):
    """Each member's canaries and number of candidates; entries beyond a member's canaries are padding."""

    loss: Tensor  # [M, C] nats, of all tokens of a canary
    likelier: Tensor  # [M, C] int64, candidates with at most this loss
    candidates: Tensor  # [M] int64


def measure(program: Program, state: State) -> Exposed:
    """Returns losses and ranks of every member's canaries; each member has at least one candidate."""
    e, numbers = state.examples, numbers_of(state)
    counts = torch.tensor([len(member.trial.data.repeats) for member in state.members], device=program.device)
    size, total = int(counts.max()), int(e.validation_count.max())
    canaries = evaluate(program, numbers, e, e.offset, e.given[:, :size], counts).loss
    others = evaluate(program, numbers, e, e.held_out_offset, e.held_out[:, :total], e.validation_count).loss
    is_candidate = torch.arange(total, device=program.device) < e.validation_count[:, None]
    ordered = others[:, :total].where(is_candidate, torch.inf).sort(dim=1).values
    likelier = torch.searchsorted(ordered, canaries.contiguous(), right=True)
    return Exposed(canaries.cpu(), likelier.minimum(e.validation_count[:, None]).cpu(), e.validation_count.cpu())
