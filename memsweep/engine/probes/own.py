"""A user's probe: a function of one trained member and examples, whose result is rows of a table of its own.

It is `(model, inputs, labels[, own]) -> {column: values}`, called for each member in turn, so that its rows do not
depend on the pack; columns are declared as `spec/schema/own_probes.py` describes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memsweep.data import tasks
from memsweep.engine.nn import member_fields, models
from memsweep.engine.train.evaluation import numbers_of
from memsweep.engine.train.own_metrics import PARTS, examples_of, seed_of
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State
from memsweep.spec.config import ConfigError, TrialConfig
from memsweep.spec.fields.own import bound
from memsweep.spec.schema.own_probes import Probe, probe_of

_ALLOWED = {"int64": int, "float64": int | float, "string": str, "bool": bool}


def rows(program: Program, state: State, path: str) -> list[dict[str, Any]]:
    """Returns the rows of one probe for all members, which have equally many examples; without attempt_id.

    Raises ConfigError where the function returns other columns than it declares, or whatever it raises.
    """
    result, probe = [], probe_of(path)
    for m, member in enumerate(state.members):
        trial = member.trial
        model = _network(trial, {name: value[m] for name, value in numbers_of(state).items()}).to(program.device)
        for part in PARTS:
            count = trial.data.examples if part == "train" else trial.data.validation_examples
            if not count:
                continue
            labels, inputs = (tensor[0] for tensor in examples_of(program, state, [m], part, count))
            torch.manual_seed(seed_of(state, m))  # for random numbers that it draws itself
            key = {"trial_id": trial.trial_id, "step": int(state.step[m]), "part": part}
            columns = called(path, probe, trial, (model, inputs, labels))
            values = zip(*columns.values(), strict=True)
            result += [{**key, "row": i, **dict(zip(columns, row, strict=True))} for i, row in enumerate(values)]
    return result


def called(
    path: str, probe: Probe, trial: TrialConfig, arguments: tuple[nn.Module, Tensor, Tensor]
) -> dict[str, list[Any]]:
    """Returns column -> values, one a row, of a probe's function.  arguments: model, inputs, labels, on one device.

    Raises ConfigError where it returns other columns than it declares.
    """
    device, autocast = arguments[1].device.type, models.autocast(trial)
    with torch.enable_grad(), torch.autocast(device, autocast, enabled=autocast is not None, cache_enabled=False):
        answer = bound(probe.function, member_fields.of_trial(trial, arguments[1].device))(*arguments)
    if not isinstance(answer, Mapping) or answer.keys() != probe.columns.keys():
        what = f"the columns {', '.join(map(str, answer))}" if isinstance(answer, Mapping) else type(answer).__name__
        raise ConfigError(
            [f"probes = {path!r}: returns {what}; must return a dict of the columns {', '.join(probe.columns)}."]
        )
    columns = {name: _plain(answer[name]) for name in probe.columns}
    lengths = {len(values) for values in columns.values() if isinstance(values, list)} or {1}
    if len(lengths) > 1 or not min(lengths):
        counts = ", ".join(f"{name} {len(v) if isinstance(v, list) else 'one'}" for name, v in columns.items())
        raise ConfigError(
            [f"probes = {path!r}: returns columns of {counts} values; must return as many for each, 1 or more."]
        )
    return {
        name: [_checked(path, name, kind, v) for v in (values if isinstance(values, list) else [values] * min(lengths))]
        for (name, values), kind in zip(columns.items(), probe.columns.values(), strict=True)
    }


def _network(trial: TrialConfig, numbers: Mapping[str, Tensor]) -> nn.Module:
    """Returns a member's network as plain torch runs it, in evaluation mode."""
    module = models.build(trial, *tasks.shape(trial)).eval()
    module.load_state_dict(dict(numbers), strict=False)  # a sub-module may have several names
    return module


def _plain(values: Any) -> Any:
    """Returns a list of Python values, or one Python value for a scalar."""
    if isinstance(values, Tensor | np.ndarray | np.generic):
        return (values.detach() if isinstance(values, Tensor) else values).tolist()
    return [_plain(value) for value in values] if isinstance(values, list | tuple) else values


def _checked(path: str, name: str, declared: str, value: Any) -> Any:
    """Returns a value in its column's type; null for a number that is not finite."""
    kind = declared.partition(":")[0].strip()
    if value is None or (kind == "float64" and isinstance(value, float) and not math.isfinite(value)):
        return None
    is_wrong_bool = isinstance(value, bool) and kind != "bool"
    is_too_large = isinstance(value, int) and abs(value) >= 1 << 63
    if is_wrong_bool or is_too_large or not isinstance(value, _ALLOWED[kind]):
        raise ConfigError(
            [f"probes = {path!r}: column {name} has the value {value!r}; must be {kind}, as it declares."]
        )
    return float(value) if kind == "float64" else value
