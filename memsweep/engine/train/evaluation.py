"""Measurements: every member's answers to its training, validation and test examples, and which members leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from memsweep.data import sequences
from memsweep.data.form import Form
from memsweep.engine.train import compilation, draws, graphs, metrics, optim
from memsweep.engine.train.lifting import call
from memsweep.engine.train.metrics import MetricValue
from memsweep.engine.train.optim import Tensors
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import Examples, History, State, rows_of, select
from memsweep.spec.schema import Status

EVALUATED_ROWS, EVALUATED_STEPS = 256, 8192
"""Examples of a member evaluated at a time, and steps of sequences: the bits of a matrix product may depend on this
number, so it depends only on the program."""


class Measured(NamedTuple):
    """The result of `advance`; rows of members that were not due are meaningless."""

    due: np.ndarray  # [M] bool, measured now
    active: np.ndarray  # [M] bool, continues
    status: tuple[Status | None, ...]  # [M], None for members that stay
    fitted: np.ndarray  # [M] bool, met stop.fit
    step: np.ndarray  # [M] int64
    counts: dict[str, np.ndarray]  # column of the table `steps` -> [M]
    test: dict[str, np.ndarray]  # column of the table `trials` -> [M], for members that leave
    own: Mapping[int, tuple[MetricValue, ...]] = MappingProxyType({})  # member -> values of its own metrics

    @property
    def finite(self) -> list[int]:
        """Returns the members that were due and have not diverged."""
        return [int(m) for m in np.flatnonzero(self.due) if self.status[m] != Status.DIVERGED]


def measure(program: Program, state: State, norms: Tensor) -> tuple[State, Measured]:
    """Evaluates members that are due on training and validation examples, and on test examples if they leave.

    norms: [M], of the last gradients.  Returns the state with its updated history, and the measurements.
    """
    members = len(state.members)
    pairs = list(zip(state.members, state.step.tolist(), strict=True))
    due = np.array([step == member.trial.next_measurement(step - 1) for member, step in pairs])
    if not due.any():
        return state, Measured(
            due, np.ones(members, bool), (None,) * members, np.zeros(members, bool), state.step, {}, {}
        )
    at, part = np.flatnonzero(due), state if due.all() else select(state, due)
    at_due = torch.from_numpy(at).to(program.device)
    answer, exists = _train_answers(program, part)
    counts = _counts(program, part, answer, exists, norms.to(program.device)[at_due])
    fitted, leaves, status = _ends(part, counts)
    counts = _graded(program.form, counts)
    test: dict[str, np.ndarray] = {}
    if leaves.any():
        held_out = _held_out_counts(program, part if leaves.all() else select(part, leaves), test=True)
        held_out = _graded(program.form, held_out)
        test = {f"test_{name}": _spread(value, at[leaves], members) for name, value in held_out.items()}
    status_of = dict(zip(at.tolist(), status, strict=True))
    measured = Measured(
        due,
        active=~_spread(leaves, at, members),
        status=tuple(status_of.get(m) for m in range(members)),
        fitted=_spread(fitted, at, members),
        step=state.step,
        counts={name: _spread(value, at, members) for name, value in counts.items()},
        test=test,
    )
    return state._replace(history=_updated_history(state, answer, exists, at_due)), measured


def _graded(form: Form, counts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the counts without those of right answers if answers are neither right nor wrong."""
    return {name: value for name, value in counts.items() if form.is_graded or name not in metrics.OF_RIGHT_ANSWERS}


def _train_answers(program: Program, state: State) -> tuple[metrics.Evaluation, Tensor]:
    """Returns the answers to all members' training examples, and which examples exist, [M, N] bool."""
    e = state.examples
    exists = torch.arange(e.given.shape[1], device=program.device) < e.train_count[:, None]
    return evaluate(program, numbers_of(state), e, e.offset, e.given, e.train_count), exists


def _counts(
    program: Program, state: State, answer: metrics.Evaluation, exists: Tensor, norms: Tensor
) -> dict[str, np.ndarray]:
    """Returns column of the table `steps` -> [M].  answer, exists: as from `_train_answers`.  norms: [M]."""
    e = state.examples
    train = metrics.train_counts(answer, e.given, e.true, e.corrupted, exists)._asdict()
    train |= {f"train_{name}": value for name, value in metrics.target_counts(program.form, answer, exists).items()}
    counts = {name: value.cpu().numpy() for name, value in train.items()}
    validation = _held_out_counts(program, state, test=False)
    counts |= {f"validation_{name}": value for name, value in validation.items()}
    counts["gradient_norm"] = norms.double().cpu().numpy()
    if state.origins:
        moved = {name: value - state.origins[name] for name, value in state.parameters.items()}
        counts["distance"] = optim.gradient_norms(moved).double().cpu().numpy()
    return counts


def _ends(state: State, counts: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, list[Status | None]]:
    """Returns which members have fitted [M] bool, which leave [M] bool, and the statuses [M], None for those that stay.

    counts: as from `_counts`.
    """
    finite = np.isfinite(counts["train_loss_sum_nats"]) & np.isfinite(counts["validation_loss_sum_nats"])
    goal = np.array([member.trial.stop.fit for member in state.members])
    fitted = finite & (goal > 0) & (counts["train_correct_count"] >= goal * counts["train_count"])
    spent = np.array([member.trial.budget for member in state.members]) <= state.step
    prefix = "validation_"
    validation = {name.removeprefix(prefix): value for name, value in counts.items() if name.startswith(prefix)}
    solved = np.array(
        [
            member.trial.stop.solve != "never"
            and sequences.is_solved(member.trial.data, {name: value[m] for name, value in validation.items()})
            for m, member in enumerate(state.members)
        ]
    )
    leaves = fitted | spent | (solved & finite) | ~finite
    status = [
        None if not leave else Status.FINISHED if ok else Status.DIVERGED
        for leave, ok in zip(leaves, finite, strict=True)
    ]
    return fitted, leaves, status


def numbers_of(state: State) -> Tensors:
    """Returns parameters, averaged where they are averaged, and buffers by name, [M, *shape]."""
    return {**state.parameters, **state.averages, **state.buffers}


@torch.no_grad()
def evaluate(
    program: Program, numbers: Tensors, examples: Examples, offset: Tensor, labels: Tensor, count: Tensor
) -> metrics.Evaluation:
    """Returns every member's answers to rows offset..offset+count of the bank, without regularizers.

    labels: [M, N], whose losses are computed.  count: [M].  Each member is evaluated in blocks of the same size,
    independent of the other members.
    """
    members, size = labels.shape
    predicted = torch.zeros(members, size, dtype=torch.int64, device=program.device)
    right = torch.zeros_like(predicted)
    loss = torch.zeros(members, size, dtype=program.dtype, device=program.device)
    for begin in range(0, int(count.max()), at_a_time := rows_at_a_time(program.form)):
        present = count > begin
        everyone = bool(present.all())
        at = slice(None) if everyone else present.nonzero()[:, 0]
        rows = begin + torch.arange(at_a_time, device=program.device).expand(int(present.sum()), -1)
        rows = rows.minimum(count[at, None] - 1)  # rows after the last example repeat it
        present_numbers = numbers if everyone else {name: value[at] for name, value in numbers.items()}
        in_bank, is_label = offset[at, None] + rows, program.form.kind == "label"
        wanted = labels[at].gather(1, rows) if is_label else rows_of(examples.targets, in_bank)
        block = Block(examples.bank, in_bank, wanted)
        answer = graphs.call(_answers_together, program, present_numbers, block, constant=block.bank)
        width = min(at_a_time, size - begin)
        for all_of, part in zip((predicted, loss, right), answer, strict=True):
            all_of[at, begin : begin + width] = part[:, :width]
    return metrics.Evaluation(predicted, loss, right)


def first_answers(program: Program, state: State) -> metrics.Evaluation:
    """Returns answers to each member's first training examples, as many as are evaluated at a time."""
    e, count = state.examples, rows_at_a_time(program.form)
    return evaluate(program, numbers_of(state), e, e.offset, e.given[:, :count], e.train_count.clamp(max=count))


class Block(NamedTuple):
    """Examples that are evaluated at a time."""

    bank: Tensor  # [R, D]
    rows: Tensor  # [M, E] int64, of the bank
    wanted: Tensor  # of each: a label [M, E], or targets


def rows_at_a_time(form: Form) -> int:
    """Returns the number of a member's examples that are evaluated at a time."""
    return max(16, min(EVALUATED_ROWS, EVALUATED_STEPS // max(form.steps, 1)))


def outputs_of(program: Program, numbers: Tensors, block: Block) -> Tensor:
    """Returns the outputs of members with these numbers, [M, E, ...], by the network in evaluation mode."""

    def answer(weights: Tensors, inputs: Tensor) -> Tensor:
        return call(program, program.evaluated, weights, inputs)

    return of_members(program, answer, numbers, rows_of(block.bank, block.rows))


def of_members(
    program: Program, function: Callable[[Tensors, Tensor], Tensor], numbers: Tensors, inputs: Tensor
) -> Tensor:
    """Returns a function's result for each member's numbers and inputs, in the program's mode.  inputs: [M, ...]."""
    if program.mode == "serial":
        results = []
        for m, x in enumerate(inputs):
            if program.is_own:  # which may draw in evaluation too; then numbers must not depend on what ran before
                draws.seed(0, program.device)
            results.append(function({name: value[m] for name, value in numbers.items()}, x))
        return torch.stack(results)
    lifted: Tensor = vmap(function)(numbers, inputs)
    return lifted


def layers_of(program: Program, numbers: Tensors, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    """Returns one member's activations passed to `hidden`, by layer, and its outputs, in evaluation mode."""
    layers: list[Tensor] = []

    def keep(h: Tensor, _layer: int) -> Tensor:
        layers.append(h)
        return h

    outputs = call(program, program.evaluated, numbers, inputs, hidden=keep)
    return layers, outputs


def _answers_together(program: Program, numbers: Tensors, block: Block) -> metrics.Evaluation:
    answer: metrics.Evaluation = compilation.call(_answers, program, len(block.rows), numbers, block)
    return answer


def _answers(program: Program, numbers: Tensors, block: Block) -> metrics.Evaluation:
    return metrics.answers(program.form, outputs_of(program, numbers, block), block.wanted, program.objective)


def _held_out_counts(program: Program, state: State, *, test: bool) -> dict[str, np.ndarray]:
    """Correct answers, examples and summed loss on the validation or the test set, [M] each."""
    e = state.examples
    count = e.held_out_count - e.validation_count if test else e.validation_count
    skipped = e.validation_count if test else torch.zeros_like(count)
    width = int(count.max()) if len(count) else 0
    position = torch.arange(width, device=program.device).expand(len(count), -1)
    exists = position < count[:, None]
    labels = (
        e.held_out.gather(1, (skipped[:, None] + position).clamp(max=max(e.held_out.shape[1] - 1, 0)))
        if width
        else position
    )
    answer = evaluate(program, numbers_of(state), e, e.held_out_offset + skipped, labels, count)
    targets = metrics.target_counts(program.form, answer, exists)
    return {
        **{name: value.cpu().numpy() for name, value in targets.items()},
        "correct_count": ((answer.predicted == labels) & exists).sum(1).cpu().numpy(),
        "count": count.cpu().numpy(),
        "loss_sum_nats": metrics.loss_sum(answer, exists).cpu().numpy(),
    }


def _updated_history(state: State, answer: metrics.Evaluation, exists: Tensor, at: Tensor) -> History:
    """Returns the history after a measurement.

    at: [m] int64, the members that were measured.  answer, exists: theirs, [m, N].
    """
    is_everyone = len(at) == len(state.members)
    old = state.history if is_everyone else History(*(value[at] for value in state.history))
    given = state.examples.given if is_everyone else state.examples.given[at]
    correct = (answer.predicted == given) & exists
    step = torch.from_numpy(state.step).to(at.device)[at][:, None]
    learned = torch.where(correct & (old.learned < 0), step, old.learned)
    new = History(correct, learned, old.forgotten + (old.correct & ~correct), answer.loss)
    if is_everyone:
        return new
    return History(*(value.index_copy(0, at, fresh) for value, fresh in zip(state.history, new, strict=True)))


def _spread(values: np.ndarray, positions: np.ndarray, size: int) -> np.ndarray:
    """[size] with values at positions and zeros elsewhere."""
    out = np.zeros(size, dtype=values.dtype)
    out[positions] = values
    return out
