"""The part of training that all trials of a pack share: the code that runs, without numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from memsweep.data import tasks
from memsweep.data.form import Form
from memsweep.engine.nn import member_fields, models, parametrization
from memsweep.engine.train import draws, optim, own_optimizers
from memsweep.engine.train.draws import Draws
from memsweep.engine.train.own_optimizers import Pair
from memsweep.spec import member_names
from memsweep.spec.config import TrialConfig, imported
from memsweep.spec.fields.groups import Model
from memsweep.spec.fields.own import NO_FIELDS, OwnFields, bound
from memsweep.spec.fields.strengths import uses
from memsweep.spec.options import FAMILIES

Penalty = Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]
"""A user's regularizer of one member: (parameters by name, inputs [B, D], logits [B, K]) -> a scalar."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A user's loss of one member: (logits [B, K], labels [B], inputs [B, D]) -> losses [B], or a scalar."""

MODES = ("fused", "serial")
"""fused: all members as one lifted program.  serial: members in turn, each by the library's own kernels."""


class Program(NamedTuple):
    """The code that all members of a pack share, without numbers."""

    module: nn.Module  # of one member, in training mode; its own numbers are not used
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
    autocast: torch.dtype | None = None  # of a network's products
    objective: str = "cross_entropy"  # of labels
    loss: Loss | None = None  # in place of a built-in objective
    pair: Pair | None = None  # in place of a built-in optimizer
    has_objects: bool = False  # each member has an optimizer object, of a class that the user names
    penalty: Penalty | None = None
    own: OwnFields = NO_FIELDS  # which the module and the functions may read; without `members`
    members: tuple[str, ...] = ()  # own hyperparameters that are tensors [M] of the state
    constants: tuple[tuple[str, str], ...] = ()  # of a module that reads `members`; must be the same for each member
    draws: Draws = Draws()  # of a user's module that is lifted
    rate_factors: tuple[tuple[str, float], ...] = ()  # of trained parameters, by name; empty where all are 1
    mode: str = "fused"
    compiled: bool = False  # the step is one compiled program instead of torch's operations one by one

    @property
    def key(self) -> tuple[object, ...]:
        """Returns what distinguishes programs of a process, without modules, since each pack builds new modules."""
        return self[2:]

    @property
    def is_elementwise(self) -> bool:
        """Returns whether a member's update moves each number by itself, all at the same rate."""
        return self.optimizer in optim.ELEMENTWISE and not self.rate_factors

    @property
    def is_own(self) -> bool:
        """Returns whether the module is a user's."""
        return self.model.family not in FAMILIES


def compose(
    trials: Sequence[TrialConfig], device: str = "cpu", *, mode: str = "fused", compiled: bool = False
) -> Program:
    """Returns the program of these trials, which agree in all fields of `packing.program_key`.

    mode: one of MODES; members with a user's optimizer always follow in turn.
    compiled: ignored in the mode serial, for a pair of functions, where compiling would unroll the steps of sequences,
    where the module draws random numbers itself, for fields in `members`, and under autocast, whose compiled rounding
    is not examined.
    """
    first = trials[0]
    mode = "serial" if own_optimizers.is_own(first.optimizer.name) else mode
    input_dim, classes = tasks.shape(first)
    module = models.build(first, input_dim, classes).train()
    fields, members = member_names.shared(first), member_names.names(first)
    constants = member_fields.constants(module) if members and first.model.family not in FAMILIES else ()
    pair = own_optimizers.pair_of(first, fields)
    dtype = models.dtype(first)
    example = torch.zeros(first.optimizer.batch_size, input_dim, dtype=dtype)
    own_draws = _own_draws(module, example) if first.model.family not in FAMILIES and mode == "fused" else Draws()
    compiled = compiled and mode == "fused" and pair is None and not members and _is_compilable(first, own_draws)
    if mode == "serial":
        models.use_kernels(module)
    models.even_out(module, first)
    # evaluation does not affect training, and a compiled program rounds differently anyway
    evaluated = models.speed_up_narrow_layers(copy.deepcopy(module)).eval()
    # recurrent: also because the rounding of the library's product depends on M
    if compiled or first.model.family == "recurrent":
        models.speed_up_narrow_layers(module)
    hidden_shapes = _hidden_shapes(evaluated, example)
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
        uses=uses(trials),
        names=tuple(name for name, _ in module.named_parameters()),
        places=models.places(module) if models.has_aliases(module) else (),
        model=first.model,
        matmul=first.compute.matmul,
        autocast=models.autocast(first),
        objective=first.optimizer.objective,
        loss=own_loss(first, fields),
        pair=pair,
        has_objects=own_optimizers.is_own(first.optimizer.name),
        penalty=_own_penalty(first, fields),
        own=fields,
        members=members,
        constants=constants,
        draws=own_draws,
        rate_factors=_rate_factors(module, first),
        mode=mode,
        compiled=compiled,
    )


def _is_compilable(trial: TrialConfig, own_draws: Draws) -> bool:
    return trial.model.family != "recurrent" and not own_draws.is_replaced and not models.autocast(trial)


def own_loss(trial: TrialConfig, own: OwnFields) -> Loss | None:
    """Returns the user's function that optimizer.objective names, given `own`; None: the objective is built in."""
    objective = trial.optimizer.objective
    return bound(imported(objective), own) if ":" in objective else None


def _own_penalty(trial: TrialConfig, own: OwnFields) -> Penalty | None:
    penalty = trial.regularization.penalty
    return None if penalty == "none" else bound(imported(penalty), own)


def _rate_factors(module: nn.Module, trial: TrialConfig) -> tuple[tuple[str, float], ...]:
    factors = parametrization.rate_factors(module, trial.model, trial.optimizer.name)
    return tuple((name, factors[name]) for name in models.trained(module) if factors)


def _own_draws(module: nn.Module, example: Tensor) -> Draws:
    """The draws of a user's module, from running it once."""
    changes = {"hidden": lambda h, _layer: h} if models.takes_hidden(module) else {}
    return draws.recorded(module, example, **changes)


def _hidden_shapes(module: nn.Module, example: Tensor) -> tuple[tuple[int, ...], ...]:
    """Shapes of the activations that one member passes to `hidden`, from running it once."""
    if not models.takes_hidden(module):
        return ()
    shapes: list[tuple[int, ...]] = []

    def record(h: Tensor, _layer: int) -> Tensor:
        shapes.append(tuple(h.shape))
        return h

    with torch.no_grad():
        module(example, hidden=record)
    return tuple(shapes)


def replaced_names(trial: TrialConfig) -> list[list[str]]:
    """Returns names of buffers and frozen parameters, from running a user's module twice on zeros.

    First all that the module replaces instead of changing in place, then those that get the tensor of another. What the
    module does only later in training, or with other inputs, is not seen.
    """
    input_dim, classes = tasks.shape(trial)
    module = models.build(trial, input_dim, classes).train()
    replaced, handed = dict[str, None](), dict[str, None]()
    for _ in range(2):
        before = _untrained(module)
        with torch.no_grad():
            module(torch.zeros(trial.optimizer.batch_size, input_dim, dtype=models.dtype(trial)))
        owners = {id(value): name for name, value in before.items()}
        for name, value in _untrained(module).items():
            if value is not before.get(name):
                replaced[name] = None
                if owners.get(id(value), name) != name:
                    handed[name] = None
    return [list(replaced), list(handed)]


def _untrained(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_buffers(remove_duplicate=False)), **models.frozen(module)}
