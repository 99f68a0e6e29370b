"""Mends: fixes that changed the numbers of some configurations, and the protocol that distinguishes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from memsweep.spec.options import MODULUS, TASK_SIZES

FEW_ROWS, FEW_COLUMNS = 3, 12
"""Matrices up to this size take the library's small-matrix kernels in single precision."""


class Mend(NamedTuple):
    """A fix that changed the numbers of some configurations, which are identified by their fields."""

    protocol: int  # the first that has the fix
    reason: str  # what was fixed, for people
    fields: tuple[str, ...]  # dotted names that `concerns` reads; no list fields, which tables store as text
    concerns: Callable[..., bool]  # takes the values of `fields`, in their order


def _is_uneven_mlp(
    family: str,
    task: str,
    modulus: int | None,
    input_dim: int,
    scheme: str,
    classes: int,
    examples: int,
    width: int,
    depth: int,
    rows: int,
    dtype: str,
) -> bool:
    """Returns whether the model is an MLP on a built-in task and has an uneven layer; see `is_uneven`."""
    if family != "mlp" or ":" in task:
        return False
    p = modulus or MODULUS
    inputs, of_task = (2 * p, p) if task == "modular" else TASK_SIZES.get(task, (input_dim, 0))
    outputs = {"task": of_task, "random": classes or of_task, "unique": examples}[scheme]
    return has_uneven_layer(inputs, outputs, width, depth, rows, dtype)


def has_uneven_layer(inputs: int, outputs: int, width: int, depth: int, rows: int, dtype: str) -> bool:
    """Returns whether an MLP has an uneven layer; see `is_uneven`.

    inputs, outputs: of the network.  rows: batch size.  dtype: float32 or float64.
    """
    return any(is_uneven(i, o, rows, dtype) for i, o in pairwise([inputs, *[width] * depth, outputs]))


UNEVEN = "products of layers whose rounding depended on a trial's company"
MENDS: tuple[Mend, ...] = (
    Mend(
        2,
        UNEVEN,
        (
            *("model.family", "data.task", "data.modulus", "data.input_dim", "data.label_scheme", "data.classes"),
            "data.examples",
            *("model.width", "model.depth", "optimizer.batch_size", "compute.dtype"),
        ),
        _is_uneven_mlp,
    ),
)
"""Fixes that concern built-in trials. Checks that need a user's code or data are in `run/policy/protocols.py`."""


def is_uneven(inputs: int, outputs: int, rows: int, dtype: str) -> bool:
    """Returns whether the rounding of a linear layer's products on a CPU may depend on the other members of its pack.

    For products with one column the library uses one kernel for a single member and another for several members. For
    small products (in double precision: for all) rounding depends on whether a member's matrix begins at a multiple of
    16 bytes. The affected sizes were measured; the library does not document them.
    inputs, outputs: of the layer.  rows: batch size.  dtype: float32 or float64.
    """
    if outputs == 1:
        return True
    if dtype == "float64":
        return inputs * outputs % 2 == 1 or rows * inputs % 2 == 1
    is_weight_small = 5 <= inputs <= FEW_COLUMNS or outputs <= FEW_ROWS
    is_batch_small = min(inputs, outputs) <= FEW_COLUMNS or rows <= FEW_ROWS
    return bool(inputs * outputs % 4 and is_weight_small) or bool(rows * inputs % 4 and is_batch_small)


def protocol_of(values: Mapping[str, Any]) -> int:
    """Returns the highest protocol of the mends that concern these dotted fields, or 1."""
    return max((m.protocol for m in MENDS if m.concerns(*(values[name] for name in m.fields))), default=1)
