"""What a member minimizes, by what its task asks for: a label, tokens or numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from memsweep.data.sequences import Form


def answer_loss(form: Form, objective: str, answers: Tensor, wanted: Tensor, smoothing: Tensor | None) -> Tensor:
    """Mean loss of one member's minibatch, over all answers that are asked for.

    answers: [B, K], or [B, L, O] for tokens and values.  wanted: labels [B], tokens [B, L] or values [B, L O].
    objective: of labels, as optimizer.objective names it.  smoothing: as in `cross_entropy`; of no use to squares.
    """
    if form.kind == "label" and objective == "squared":
        return (answers - one_hot(answers, wanted, -1)).square().mean()
    if form.kind == "label":
        return cross_entropy(answers, wanted, smoothing)
    if form.kind == "tokens":
        return cross_entropy(answers.reshape(-1, form.outputs), wanted.reshape(-1), smoothing, form)
    return (answers.reshape(wanted.shape) - wanted).square().mean()


def one_hot(answers: Tensor, labels: Tensor, dim: int) -> Tensor:
    """1 where the class is the label's, else 0, as the answers are laid out: classes along `dim`, which labels lack."""
    shape = [1] * answers.dim()
    shape[dim] = -1
    classes = torch.arange(answers.shape[dim], device=answers.device).view(shape)
    return (classes == labels.unsqueeze(dim)).to(answers.dtype)


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: Tensor | None, form: Form | None = None) -> Tensor:
    """Mean cross-entropy in nats of one member, as torch.nn.functional.cross_entropy defines it.

    logits: [B, K].  labels: [B] int64.  smoothing: share of the target spread over all K classes, in [0, 1), or None.
    form: of a sequence task, of whose steps some may ask for nothing (a label below 0).
    """
    log_p = functional.log_softmax(logits, dim=-1)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    if form is None:
        # not nll_loss or gather: lifted, they tie a compiled program to one number of members
        hit = -torch.where(classes == labels[:, None], log_p, 0.0).sum(dim=-1).mean()
        spread = -log_p.sum(dim=-1).mean() if smoothing is not None else hit
    else:
        asked = labels >= 0
        hit = -torch.where(classes == labels[:, None], log_p, 0.0).sum() / asked.sum()
        spread = -torch.where(asked[:, None], log_p, 0.0).sum() / asked.sum() if smoothing is not None else hit
    return hit if smoothing is None else (1 - smoothing) * hit + smoothing * (spread / logits.shape[-1])
