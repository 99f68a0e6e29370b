"""The counts of a measurement: correct, clean, corrupted, memorized and recovered examples, per member."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from memsweep.data.form import Form
from memsweep.data.sequences import TOLERANCE
from memsweep.engine.nn.losses import one_hot


class Evaluation(NamedTuple):
    """Each member's answers to its own examples; entries beyond a member's count are padding."""

    predicted: Tensor  # [M, N] int64; the number of classes where the outputs are nan
    loss: Tensor  # [M, N] nats, of the given label
    right: Tensor  # [M, N] int64, targets that are right


class MetricValue(NamedTuple):
    """One value of a metric of the user's, of one member."""

    metric: str
    part: str
    name: str
    value: float | None  # None: not finite

    @property
    def column(self) -> str:
        """Returns the name of the value where it is compared with other measurements."""
        return f"{self.metric} {self.part} {self.name}"


OF_RIGHT_ANSWERS = frozenset(
    f"{name}_count"
    for name in (
        *("correct", "train_correct", "validation_correct", "clean_correct", "corrupted_correct"),
        *("memorized", "recovered"),
    )
)
"""Counts of right answers, which numbers of the user's lack."""


class TrainCounts(NamedTuple):
    """Sums over each member's training set. Recovered and memorized count only wrong labels."""

    train_correct_count: Tensor  # [M] predicts the given label
    train_count: Tensor  # [M]
    train_loss_sum_nats: Tensor  # [M] float64
    clean_correct_count: Tensor  # [M] of the uncorrupted
    clean_count: Tensor  # [M]
    corrupted_correct_count: Tensor  # [M] of examples whose label or inputs really changed
    corrupted_count: Tensor  # [M]
    memorized_count: Tensor  # [M] predicts the wrong label it was given
    recovered_count: Tensor  # [M] predicts the true label it was not given
    label_changed_count: Tensor  # [M]


def answers(form: Form, outputs: Tensor, wanted: Tensor, objective: str = "cross_entropy") -> Evaluation:
    """Returns the evaluation of these outputs.

    outputs: [M, E, K], or [M, E, L, O].  wanted: [M, E] labels, [M, E, L] tokens or [M, E, L O] numbers.
    objective: of labels, as in optimizer.objective; the loss of a user's objective is measured as cross-entropy.

    In tasks without labels, an example has the label 0, which is predicted where all its targets are right; its loss is
    the sum over its targets. A number has the loss of a normal density of deviation 1, without its constant: half its
    squared error. The squared error of a label is that of K numbers.
    """
    if form.kind == "label":
        return _labels_answered(objective, outputs, wanted)
    if form.kind == "tokens":
        log_p = functional.log_softmax(outputs, dim=-1)
        tokens = torch.arange(form.outputs, device=outputs.device)
        losses = -torch.where(tokens == wanted[..., None], log_p, 0.0).sum(dim=(-1, -2))
        right = (outputs.argmax(-1) == wanted).sum(-1)
    else:
        error = outputs.reshape(wanted.shape) - wanted
        losses = error.square().sum(-1) / 2
        right = (error.abs() < TOLERANCE).sum(-1)
    return Evaluation((right < form.targets).long(), losses, right)


def _labels_answered(objective: str, logits: Tensor, labels: Tensor) -> Evaluation:
    by_class = logits.transpose(1, 2).contiguous()  # [M, K, E]: over a short last axis softmax and maximum are slow
    # class numbers as floats, and comparisons: compiled argmax and gather of integers do not vectorise
    classes = torch.arange(logits.shape[2], dtype=logits.dtype, device=logits.device)[:, None]
    best = by_class.amax(dim=1, keepdim=True)
    predicted = torch.where(by_class == best, classes, float(logits.shape[2])).amin(dim=1).long()
    if objective == "squared":
        losses = (by_class - one_hot(by_class, labels, 1)).square().sum(dim=1) / 2
    else:
        log_p = functional.log_softmax(by_class, dim=1)
        losses = -torch.where(classes == labels[:, None], log_p, 0.0).sum(dim=1)
    return Evaluation(predicted, losses, (predicted == labels).long())


def train_counts(answer: Evaluation, given: Tensor, true: Tensor, corrupted: Tensor, exists: Tensor) -> TrainCounts:
    """Returns the sums over each member's training set.

    given, true: [M, N] labels.  corrupted: [M, N] bool.  exists: [M, N] bool, an example of that member.
    """
    correct = (answer.predicted == given) & exists
    recovered = (answer.predicted == true) & exists
    relabelled = (given != true) & exists
    clean = ~corrupted & exists

    def count(mask: Tensor) -> Tensor:
        return mask.sum(dim=1)

    return TrainCounts(
        train_correct_count=count(correct),
        train_count=count(exists),
        train_loss_sum_nats=loss_sum(answer, exists),
        clean_correct_count=count(correct & clean),
        clean_count=count(clean),
        corrupted_correct_count=count(correct & corrupted),
        corrupted_count=count(corrupted & exists),
        memorized_count=count(correct & relabelled),
        recovered_count=count(recovered & relabelled),
        label_changed_count=count(relabelled),
    )


def target_counts(form: Form, answer: Evaluation, exists: Tensor) -> dict[str, Tensor]:
    """Returns column of `steps`, without the prefix of its set -> [M]: sums over targets of the examples that exist.

    Empty for tasks with labels.
    """
    if form.kind == "label":
        return {}
    counts = {"target_count": exists.sum(dim=1) * form.targets}
    if form.is_graded:
        counts["target_correct_count"] = torch.where(exists, answer.right, 0).sum(dim=1)
    if form.kind == "values":
        counts["squared_error_sum"] = 2 * loss_sum(answer, exists)
    return counts


def loss_sum(answer: Evaluation, exists: Tensor) -> Tensor:
    """Returns the sum over the examples that exist, [M] float64 nats, independent of a pack's padding."""
    loss = torch.where(exists, answer.loss, 0).double()
    # cumulative over examples: padding only adds zeros after a member's examples, in the same order for all M and N
    return loss.cumsum(dim=1)[:, -1] if loss.shape[1] else loss.sum(dim=1)
