"""The losses of members, for tasks with labels, tokens or numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from memsweep.data.form import Form
from memsweep.data.sequences import NOT_ASKED


def answer_loss(
    form: Form,
    objective: str,
    answers: Tensor,
    wanted: Tensor,
    smoothing: Tensor | None,
    weights: Tensor | None = None,
    *,
    is_lifted: bool = True,
) -> Tensor:
    """Returns the mean loss of one member's minibatch, over all targets that are not masked.

    answers: [B, K], or [B, L, O] for tokens and values.  wanted: labels [B], tokens [B, L] or values [B, L O].
    objective: of labels, built in, as in optimizer.objective.  smoothing: as in `cross_entropy`; ignored by squared
    losses.  weights: [B] of the examples' losses, as in `mean_loss`; None for tokens.
    is_lifted: as in `cross_entropy`.
    """
    if form.kind == "label" and objective == "squared":
        return _mean_square(answers - one_hot(answers, wanted, -1), weights)
    if form.kind == "label":
        return cross_entropy(answers, wanted, smoothing, weights=weights, is_lifted=is_lifted)
    if form.kind == "tokens":
        rows, tokens = answers.reshape(-1, form.outputs), wanted.reshape(-1)
        return cross_entropy(rows, tokens, smoothing, form, is_lifted=is_lifted)
    return _mean_square(answers.reshape(wanted.shape) - wanted, weights)


def mean_loss(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Returns sum_b w_b l_b / B, as the mean of a loss of torch with reduction="none", times weights.

    The divisor is B, not sum_b w_b: the gradient of a minibatch then estimates that of the weighted mean over all
    examples without bias, and a minibatch whose weights are all 0 has a gradient of 0, not of 0 / 0.
    losses: [B], or a scalar without weights.  weights: [B] of 0 or more; None: all are 1.  Raises ValueError.
    """
    if weights is None:
        return losses.mean()
    if losses.dim() != 1:
        raise ValueError(f"the loss has the shape {list(losses.shape)}; weights need losses [B] of the examples.")
    return (weights * losses).mean()


def _mean_square(errors: Tensor, weights: Tensor | None) -> Tensor:
    """Returns the mean of squared errors [B, O]; with weights, of the examples' means."""
    squares = errors.square()
    return squares.mean() if weights is None else mean_loss(squares.mean(dim=-1), weights)


def one_hot(answers: Tensor, labels: Tensor, dim: int) -> Tensor:
    """Returns 1 at the label's class, else 0, in the layout of the answers: classes along `dim`, which labels lack."""
    shape = [1] * answers.dim()
    shape[dim] = -1
    classes = torch.arange(answers.shape[dim], device=answers.device).view(shape)
    return (classes == labels.unsqueeze(dim)).to(answers.dtype)


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    smoothing: Tensor | None,
    form: Form | None = None,
    weights: Tensor | None = None,
    *,
    is_lifted: bool = True,
) -> Tensor:
    """Returns the mean cross-entropy in nats of one member, as defined by torch.nn.functional.cross_entropy.

    logits: [B, K].  labels: [B] int64.  smoothing: share of the target spread over all K classes, in [0, 1), or None.
    form: of a sequence task, where steps without a target have a label below 0.  weights: [B], of examples with labels.
    is_lifted: over members; for a single member torch's own function is faster, and has the same gradient to the bit.
    """
    if not is_lifted and smoothing is None and weights is None:
        return functional.cross_entropy(logits, labels, ignore_index=NOT_ASKED)
    log_p = functional.log_softmax(logits, dim=-1)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    if form is None:
        # not nll_loss or gather: lifted, they tie a compiled program to one number of members
        hit = -mean_loss(torch.where(classes == labels[:, None], log_p, 0.0).sum(dim=-1), weights)
        spread = -mean_loss(log_p.sum(dim=-1), weights) if smoothing is not None else hit
    else:
        present = labels >= 0
        hit = -torch.where(classes == labels[:, None], log_p, 0.0).sum() / present.sum()
        spread = -torch.where(present[:, None], log_p, 0.0).sum() / present.sum() if smoothing is not None else hit
    return hit if smoothing is None else (1 - smoothing) * hit + smoothing * (spread / logits.shape[-1])
