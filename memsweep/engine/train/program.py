"""What the trials of a pack share: the code that runs, apart from numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from memsweep.data import tasks
from memsweep.data.sequences import Form
from memsweep.engine.nn import models
from memsweep.spec.config import Model, TrialConfig, imported

Penalty = Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]
"""A user's own regularizer of one member: (parameters by name, inputs [B, D], logits [B, K]) -> a scalar."""

MODES = ("fused", "serial")
"""fused: all members as one lifted program.  serial: members in turn, each by the library's own kernels."""


class Program(NamedTuple):
    """What all members of a pack share: the code that runs, apart from numbers."""

    module: nn.Module  # of one member, in training mode; its own numbers are of no account
    evaluated: nn.Module  # the same in evaluation mode
    input_dim: int
    classes: int
    form: Form  # of an example
    batch_size: int
    optimizer: str
    dtype: torch.dtype
    device: torch.device
    hidden_shapes: tuple[tuple[int, ...], ...]  # of one member's hidden activations, [B, *units] a layer
    uses: frozenset[str]  # regularizers that at least one member has
    names: tuple[str, ...]  # of a member's parameters, trained or frozen, in the module's order
    places: tuple[tuple[str, str], ...]  # as `models.places`; empty unless a sub-module has several names
    model: Model
    matmul: str  # precision of float32 products, as torch.set_float32_matmul_precision names it
    objective: str = "cross_entropy"  # of labels
    penalty: Penalty | None = None
    mode: str = "fused"
    compiled: bool = False  # the step is one compiled program instead of torch's operations one by one

    @property
    def key(self) -> tuple[object, ...]:
        """What tells programs of a process apart; the modules are made anew for each pack."""
        return self[2:]


def compose(
    trials: Sequence[TrialConfig], device: str = "cpu", *, mode: str = "fused", compiled: bool = False
) -> Program:
    """The program of these trials, which agree in all that `packing.program_key` lists.  mode: one of MODES.

    compiled: where the program can be: not in turn, and not where compiling would unroll the steps of sequences.
    """
    first = trials[0]
    input_dim, classes = tasks.shape(first)
    module = models.build(first, input_dim, classes).train()
    compiled = compiled and mode == "fused" and first.model.family != "recurrent"
    if mode == "serial":
        models.use_kernels(module)
    models.even_out(module, first)
    # nothing feeds back from evaluation, and a compiled program rounds otherwise anyway
    evaluated = models.speed_up_narrow_layers(copy.deepcopy(module)).eval()
    if compiled or first.model.family == "recurrent":  # there, also because the other way rounds as M pleases
        models.speed_up_narrow_layers(module)
    penalty = first.regularization.penalty
    dtype = models.dtype(first)
    hidden_shapes = _hidden_shapes(evaluated, (first.optimizer.batch_size, input_dim), dtype)
    return Program(
        module=module.to(device),
        evaluated=evaluated.to(device),
        input_dim=input_dim,
        classes=classes,
        form=tasks.form(first),
        batch_size=first.optimizer.batch_size,
        optimizer=first.optimizer.name,
        dtype=dtype,
        device=torch.device(device),
        hidden_shapes=hidden_shapes,
        uses=frozenset(name for trial in trials for name, strength in strengths(trial).items() if strength),
        names=tuple(name for name, _ in module.named_parameters()),
        places=models.places(module) if models.has_aliases(module) else (),
        model=first.model,
        matmul=first.compute.matmul,
        objective=first.optimizer.objective,
        penalty=None if penalty == "none" else imported(penalty),
        mode=mode,
        compiled=compiled,
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
        "adversarial": r.adversarial,
        "penalty_strength": r.penalty_strength,
        "clip": trial.optimizer.clip,
        "perturbation": trial.model.perturbation,
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
