"""What hinders memorization: noise and dropout on inputs and hidden units, smoothed labels; each strength a vector [M].

A strength of zero changes no bit, so members without a regularizer may share a program with members that have it.
Weight decay is the optimizer's (`optim.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from memsweep.engine import streams

Perturbation = dict[str, Tensor]
"""Random numbers of one step at one place, x -> (x + shift) * scale, each [M, B, *units]; absent: not in the program.
shift: Gaussian noise.  scale: 0 where dropped, 1 / (1 - rate) where kept.
"""


def applied(place: Perturbation, x: Tensor) -> Tensor:
    """For all members, or, under vmap, for one."""
    if "shift" in place:
        x = x + place["shift"]
    return x * place["scale"] if "scale" in place else x


def perturbation(
    keys: Tensor, deviation: Tensor | None, rate: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype
) -> Perturbation:
    """Noise of standard deviation `deviation` [M] and dropout at `rate` [M], drawn from keys [M]; shape without M."""
    members, count = len(keys), torch.Size(shape).numel()
    column = (members, *[1] * len(shape))
    place: Perturbation = {}
    if deviation is not None:
        noise = streams.normal(streams.subkeys(keys, 0), count).view(members, *shape).to(dtype)
        place["shift"] = noise * deviation.view(column)
    if rate is not None:
        kept = streams.uniform(streams.subkeys(keys, 1), count).view(members, *shape) >= rate.view(column)
        place["scale"] = kept / (1 - rate.view(column))
    return place


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: Tensor | None) -> Tensor:
    """Mean cross-entropy in nats of one member, as torch.nn.functional.cross_entropy defines it.

    logits: [B, K].  labels: [B] int64.  smoothing: share of the target spread over all K classes, in [0, 1), or None.
    """
    log_p = functional.log_softmax(logits, dim=-1)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    # not nll_loss or gather: lifted, they tie a compiled program to one number of members
    hit = -torch.where(classes == labels[:, None], log_p, 0.0).sum(dim=-1).mean()
    if smoothing is None:
        return hit
    spread = -log_p.sum(dim=-1).mean() / logits.shape[-1]
    return (1 - smoothing) * hit + smoothing * spread
