"""What the trials of a pack share: the code that runs, apart from numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from memsweep.config import Model, TrialConfig
from memsweep.data import tasks
from memsweep.engine import models


class Program(NamedTuple):
    """What all members of a pack share: the code that runs, apart from numbers."""

    module: nn.Module
    input_dim: int
    classes: int
    batch_size: int
    optimizer: str
    dtype: torch.dtype
    device: torch.device
    hidden_shapes: tuple[tuple[int, ...], ...]  # of one member's hidden activations, [B, H] a layer
    uses: frozenset[str]  # regularizers that at least one member has
    model: Model
    compiled: bool = False  # the step is one compiled program instead of torch's operations one by one


def compose(trials: Sequence[TrialConfig], device: str = "cpu", *, compiled: bool = False) -> Program:
    """The program of these trials, which agree in all that `packing.program_key` lists."""
    first = trials[0]
    input_dim, classes = tasks.shape(first)
    module = models.build(first, input_dim, classes)
    uses = frozenset(name for trial in trials for name, strength in strengths(trial).items() if strength)
    dtype = next(module.parameters()).dtype
    shapes = _hidden_shapes(module, (first.optimizer.batch_size, input_dim), dtype)
    return Program(
        module.to(device),
        input_dim,
        classes,
        first.optimizer.batch_size,
        first.optimizer.name,
        dtype,
        torch.device(device),
        shapes,
        uses,
        first.model,
        compiled,
    )


def strengths(trial: TrialConfig) -> dict[str, float]:
    """What adds code to a program when it is not zero."""
    r = trial.regularization
    return {
        "dropout": r.dropout,
        "input_dropout": r.input_dropout,
        "input_noise": r.input_noise,
        "hidden_noise": r.hidden_noise,
        "label_smoothing": r.label_smoothing,
        "clip": trial.optimizer.clip,
    }


def _hidden_shapes(module: nn.Module, shape: tuple[int, int], dtype: torch.dtype) -> tuple[tuple[int, ...], ...]:
    """Shapes of what one member hands to `hidden`, found by running it once."""
    if not models.takes_hidden(module):
        return ()
    shapes: list[tuple[int, ...]] = []

    def record(h: Tensor, _layer: int) -> Tensor:
        shapes.append(tuple(h.shape))
        return h

    with torch.no_grad():
        module(torch.zeros(shape, dtype=dtype), hidden=record)
    return tuple(shapes)
