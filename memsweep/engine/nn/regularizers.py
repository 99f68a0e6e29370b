"""Noise and dropout on inputs and hidden units; each strength is a vector [M].

A strength of zero changes no bit, so members without a regularizer may share a program with members that have it.
Weight decay is part of the optimizer (`optim.py`), label smoothing of the loss (`losses.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from memsweep.engine.train import streams

Perturbation = dict[str, Tensor]
"""Random numbers of one step at one place, x -> (x + shift) * scale, each [M, B, *units]; keys are optional.
shift: Gaussian noise.  scale: 0 where dropped, 1 / (1 - rate) where kept.
"""


def applied(place: Perturbation, x: Tensor) -> Tensor:
    """Returns x with noise and dropout, for all members or, under vmap, for one."""
    if "shift" in place:
        x = x + place["shift"]
    return x * place["scale"] if "scale" in place else x


def perturbation(
    keys: Tensor, deviation: Tensor | None, rate: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype
) -> Perturbation:
    """Returns noise of standard deviation `deviation` [M] and dropout at `rate` [M].

    Random numbers are drawn from keys [M]; shape is without M.
    """
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
