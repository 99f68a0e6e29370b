"""The state of a pack as plain tensors, member axis first: created, reduced and refilled here, trained elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from memsweep.data import tasks
from memsweep.engine.nn import member_fields, models
from memsweep.engine.train import optim, own_optimizers
from memsweep.engine.train.optim import Coefficients, Tensors
from memsweep.engine.train.own_optimizers import OwnOptimizer
from memsweep.engine.train.program import Program
from memsweep.spec.config import TrialConfig
from memsweep.spec.fields.strengths import strengths
from memsweep.spec.seeds import key


class Member(NamedTuple):
    """The host's data of one slot's trial."""

    trial: TrialConfig
    data: tasks.TrialData
    parameter_count: int  # trained
    frozen_count: int
    optimizer: OwnOptimizer | None = None  # a user's; it changes with the member's training


class Examples(NamedTuple):
    """Training and held-out examples of all members; equal inputs are stored once."""

    bank: Tensor  # [R, D] rows of all inputs
    offset: Tensor  # [M] int64, first row of the member's training inputs
    held_out_offset: Tensor  # [M] int64
    given: Tensor  # [M, N] int64 labels trained on
    true: Tensor  # [M, N] int64
    corrupted: Tensor  # [M, N] bool, really changed
    held_out: Tensor  # [M, V + S] int64 labels, validation first
    train_count: Tensor  # [M] int64, examples of the member; N is the largest
    validation_count: Tensor  # [M] int64
    held_out_count: Tensor  # [M] int64
    input_range: Tensor  # [M], largest minus smallest input of the task
    targets: Tensor  # [R, L * ...] of the bank's rows, of a task with more targets than a label; else [R, 0]
    weights: Tensor  # [M, N] of the losses of training examples; without weights [M, 0]


class History(NamedTuple):
    """The history of each training example over all measurements."""

    correct: Tensor  # [M, N] bool, at the last measurement
    learned: Tensor  # [M, N] int64, first measured step at which it was right; -1: never
    forgotten: Tensor  # [M, N] int64, times wrong after right
    loss: Tensor  # [M, N] nats at the last measurement


class State(NamedTuple):
    """A pack during training."""

    members: tuple[Member, ...]  # [M]
    step: np.ndarray  # [M] int64, steps trained
    parameters: Tensors  # name -> [M, *shape], trained
    buffers: (
        Tensors  # name -> [M, *shape], values that a module changes itself, such as statistics, and frozen parameters
    )
    moments: dict[str, Any]  # the optimizer's own, dicts of tensors [M, *shape]
    averages: Tensors  # name -> [M, *shape], of parameters over the steps; empty without averaging
    examples: Examples
    history: History
    coefficients: Coefficients  # each [M]
    strengths: Tensors  # regularizer -> [M]
    own: Tensors  # own hyperparameter of `members` -> [M]
    origins: Tensors  # name -> [M, *shape], first weights before their perturbation; empty without perturbations
    order_keys: Tensor  # [M] int64, on the host
    noise_keys: Tensor  # [M] int64, on the host


_SHARED = ("bank", "targets")
"""Fields of Examples that all members share."""
_PER_MEMBER = tuple(name for name in State._fields if name not in ("members", "step", "examples"))


def init(program: Program, trials: Sequence[TrialConfig]) -> State:
    """Returns the state of these trials before their first step, one slot per trial."""
    members: list[Member] = []
    parameters: list[Tensors] = []
    buffers: list[Tensors] = []
    origins: list[Tensors] = []
    for trial in trials:
        module = models.build(trial, program.input_dim, program.classes)
        if program.constants:
            member_fields.check_shared(module, program.constants, trial)
        parameters_of, frozen = models.trained(module), models.frozen(module)
        parameters.append(dict(parameters_of))
        buffers.append({**dict(module.named_buffers()), **frozen})
        if "perturbation" in program.uses:
            unmoved = trial.with_fields({"model.perturbation": 0.0})
            origins.append(dict(models.trained(models.build(unmoved, program.input_dim, program.classes))))
        members.append(Member(trial, tasks.load(trial), _size(parameters_of), _size(frozen)))
    stacked = _stacked(program, parameters)
    examples = _examples(program, members)
    vectors = {name: member_fields.stacked(list(trials), name).to(program.device) for name in program.members}
    if program.has_objects:
        for m, member in enumerate(members):
            members[m] = member._replace(optimizer=own_optimizers.of_member(member.trial, stacked, m))
    return State(
        members=tuple(members),
        step=np.zeros(len(members), dtype=np.int64),
        parameters=stacked,
        buffers=_stacked(program, buffers),
        moments=_moments(program, stacked, vectors),
        averages={name: value.clone() for name, value in stacked.items()} if "averaging" in program.uses else {},
        examples=examples,
        history=_no_history(examples, program.dtype),
        coefficients=_coefficients(program, members),
        strengths={
            name: _vector(program, [strengths(m.trial)[name] for m in members]) for name in sorted(program.uses)
        },
        own=vectors,
        origins=_stacked(program, origins) if origins else {},
        order_keys=_keys(members, "order"),
        noise_keys=_keys(members, "order/noise"),
    )


def member_view(state: State, m: int) -> State:
    """Returns a pack of one that shares its memory with member m: in-place changes apply to the member.

    Fields that exist only on the host are empty.
    """

    def row(value: Any) -> Any:
        return map_tensors(lambda tensor: tensor[m : m + 1], value)

    examples = {n: v if n in _SHARED else row(v) for n, v in state.examples._asdict().items()}
    views = {name: row(getattr(state, name)) for name in _PER_MEMBER}
    return State(members=(), step=np.empty(0), examples=Examples(**examples), **views)


def select(state: State, keep: np.ndarray) -> State:
    """Returns the state of only these members, their bits unchanged. keep: [M] bool, or positions."""
    positions = np.flatnonzero(keep) if keep.dtype == bool else keep
    at = torch.from_numpy(positions)

    def picked(value: Any) -> Any:
        return map_tensors(lambda tensor: tensor[at.to(tensor.device)], value)

    return State(
        members=tuple(state.members[i] for i in positions),
        step=state.step[positions],
        examples=state.examples._replace(
            **{n: picked(v) for n, v in state.examples._asdict().items() if n not in _SHARED}
        ),
        **{n: picked(getattr(state, n)) for n in _PER_MEMBER},
    )


def rows_of(bank: Tensor, index: Tensor) -> Tensor:
    """Returns rows of the bank, [*index, D]; several times faster on a CPU than bank[index]."""
    return bank.index_select(0, index.flatten()).view(*index.shape, -1)


def state_bytes(state: State) -> int:
    """Returns the number of bytes of the state's tensors."""

    sizes: list[int] = []
    map_tensors(lambda tensor: sizes.append(tensor.nbytes), state)
    return sum(sizes)


def map_tensors(function: Callable[..., Any], *values: Any) -> Any:
    """Returns these dicts and tuples with `function` applied to each tensor; other values come from the first.

    With several values of the same structure, the function takes the tensors at the same place.
    """
    first = values[0]
    if isinstance(first, Tensor):
        return function(*values)
    if isinstance(first, dict):
        return {name: map_tensors(function, *(value[name] for value in values)) for name in first}
    if hasattr(first, "_fields"):
        return type(first)(*(map_tensors(function, *parts) for parts in zip(*values, strict=True)))
    if isinstance(first, tuple):
        return tuple(map_tensors(function, *parts) for parts in zip(*values, strict=True))
    return first


def tensors_of(value: Any) -> list[Tensor]:
    """Returns the tensors of dicts and tuples, in the order of `map_tensors`."""
    tensors: list[Tensor] = []
    _collect(value, tensors)
    return tensors


def _collect(value: Any, tensors: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        tensors.append(value)
    elif isinstance(value, dict):
        for part in value.values():
            _collect(part, tensors)
    elif isinstance(value, tuple):
        for part in value:
            _collect(part, tensors)


def equal_bits(one: Any, other: Any) -> bool:
    """Returns whether tensors of these dicts and tuples are equal to the bit, nan included."""
    pairs = zip(tensors_of(one), tensors_of(other), strict=True)
    return all(torch.equal(_bits(mine), _bits(theirs)) for mine, theirs in pairs)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def admit(program: Program, state: State, slots: np.ndarray, trials: Sequence[TrialConfig]) -> State:
    """Returns the state with new trials in these slots, before their first step; other members are unchanged."""
    new = init(program, trials)
    members = list(state.members)
    for slot, member in zip(slots, new.members, strict=True):
        members[slot] = member
    step = state.step.copy()
    step[slots] = 0
    at = torch.from_numpy(np.asarray(slots))
    examples = _examples(program, members)
    width = examples.given.shape[1]

    def placed(old: Any, fresh: Any) -> Any:
        return map_tensors(lambda tensor, rows: tensor.index_copy(0, at.to(tensor.device), rows), old, fresh)

    return State(
        members=tuple(members),
        step=step,
        examples=examples,
        history=placed(fitted_to(state.history, width), fitted_to(new.history, width)),
        **{n: placed(getattr(state, n), getattr(new, n)) for n in _PER_MEMBER if n != "history"},
    )


def _moments(program: Program, parameters: Tensors, own: Tensors) -> dict[str, Any]:
    """The optimizer's own tensors before the first step."""
    if program.pair is None:
        return optim.moments(program.optimizer, parameters)
    begin = member_fields.lifted(program.pair.begin)
    if program.mode == "serial":
        members = range(len(next(iter(parameters.values()))))
        in_turn = [begin(*map_tensors(lambda tensor, m=m: tensor[m], (own, parameters))) for m in members]
        begun = map_tensors(lambda *tensors: torch.stack(tensors), *in_turn)
    else:
        begun = vmap(begin)(own, parameters)
    return dict(map_tensors(lambda tensor: tensor.detach().clone(memory_format=torch.contiguous_format), begun))


def _size(parameters: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for value in parameters.values())


def _stacked(program: Program, by_member: Sequence[Tensors]) -> Tensors:
    return {
        name: torch.stack([tensors[name].detach() for tensors in by_member]).to(program.device) for name in by_member[0]
    }


def _examples(program: Program, members: Sequence[Member]) -> Examples:
    """The members' data on the device; inputs that members share are stored once."""
    arrays: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    data = [member.data for member in members]
    for member_data in data:
        arrays.setdefault(id(member_data.inputs), (member_data.inputs, member_data.targets))
        arrays.setdefault(id(member_data.held_out_inputs), (member_data.held_out_inputs, member_data.held_out_targets))
    ends = np.cumsum([0, *(len(inputs) for inputs, _ in arrays.values())])
    begins = dict(zip(arrays, ends[:-1].tolist(), strict=True))
    bank, targets = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*arrays.values(), strict=True))
    numbers = {
        "offset": [begins[id(d.inputs)] for d in data],
        "held_out_offset": [begins[id(d.held_out_inputs)] for d in data],
        "train_count": [len(d.labels) for d in data],
        "validation_count": [d.validation_count for d in data],
        "held_out_count": [len(d.held_out_labels) for d in data],
    }
    padded = {
        "given": [d.labels for d in data],
        "true": [d.true_labels for d in data],
        "corrupted": [d.corrupted for d in data],
        "held_out": [d.held_out_labels for d in data],
    }
    return Examples(
        bank=bank.to(program.device, program.dtype),
        targets=targets.to(program.device, program.dtype if program.form.kind == "values" else None),
        input_range=_vector(program, [d.input_range for d in data]),
        weights=_padded([d.weights for d in data]).to(program.device, program.dtype),
        **{name: torch.tensor(values, dtype=torch.int64, device=program.device) for name, values in numbers.items()},
        **{name: _padded(rows).to(program.device) for name, rows in padded.items()},
    )


def _no_history(examples: Examples, dtype: torch.dtype) -> History:
    blank = torch.zeros_like(examples.given)
    return History(torch.zeros_like(examples.corrupted), blank - 1, blank.clone(), blank.to(dtype))


def fitted_to(history: History, width: int) -> History:
    """Returns the history as [M, width]: cut or padded after the current members' examples."""
    return History(*(functional.pad(value[:, :width], (0, max(0, width - value.shape[1]))) for value in history))


def _coefficients(program: Program, members: Sequence[Member]) -> Coefficients:
    settings = [(member.trial.optimizer, member.trial.regularization.weight_decay) for member in members]
    return Coefficients(
        rate=_vector(program, [o.learning_rate for o, _ in settings]),
        momentum=_vector(program, [o.momentum for o, _ in settings]),
        beta1=_vector(program, [o.betas[0] for o, _ in settings]),
        beta2=_vector(program, [o.betas[1] for o, _ in settings]),
        alpha=_vector(program, [o.alpha for o, _ in settings]),
        radius=_vector(program, [o.radius for o, _ in settings]),
        decay=_vector(program, [decay for _, decay in settings]),
        clip=_vector(program, [o.clip or np.inf for o, _ in settings]),
    )


def _keys(members: Sequence[Member], purpose: str) -> Tensor:
    return torch.tensor([key(m.trial.stream_seed("order"), purpose) for m in members], dtype=torch.int64)


def _vector(program: Program, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).to(program.device, program.dtype)


def _padded(rows: Sequence[np.ndarray]) -> Tensor:
    """[M, longest], zeros behind the end of shorter rows."""
    out = np.zeros((len(rows), max(map(len, rows))), dtype=rows[0].dtype)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(out)
