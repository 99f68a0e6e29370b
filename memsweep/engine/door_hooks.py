"""Checks functions of the user's before training: what they return for a few examples of their trial.

Functions that raise errors are not reported here: their trials fail, each with its cause.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from memsweep.data import tasks
from memsweep.engine.nn import member_fields, models
from memsweep.engine.probes import own
from memsweep.engine.train import checkpoint, own_optimizers
from memsweep.engine.train.own_metrics import bound_metric
from memsweep.engine.train.program import Loss, own_loss
from memsweep.spec.config import ConfigError, TrialConfig, imported, is_pair
from memsweep.spec.schema import own_probes

EXAMPLES = 256
"""Most examples that a function is tried with."""
MOST_NAMES = 5
"""Most attributes listed in a sentence."""
MOST_VALUES = 50
"""Most values of a metric: MLflow takes 1,000 values of a trial at a time."""
_NAME = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)


def problems(trial: TrialConfig, module: nn.Module) -> Iterator[str]:
    """Yields a sentence for each function that returns something else than it must."""
    yield from _schedule_problems(trial)
    if is_pair(trial.optimizer.name):
        yield from _pair_problems(trial, module)
    elif own_optimizers.is_own(trial.optimizer.name):
        yield from _optimizer_problems(trial, module)
    if (loss := own_loss(trial, member_fields.of_trial(trial))) is not None:
        yield from _loss_problems(trial, module, loss)
    for path in trial.metrics:
        yield from _metric_problems(trial, path, answered(trial, module))
    for path in own_probes.paths(trial.probes):
        yield from _probe_problems(trial, path, module)


def answered(trial: TrialConfig, module: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the outputs in evaluation mode, labels and inputs of the trial's first training examples."""
    data, form = tasks.load(trial), tasks.form(trial)
    inputs = torch.tensor(data.inputs[:EXAMPLES]).to(models.dtype(trial))
    labels = torch.tensor((data.labels if form.kind == "label" else data.targets)[:EXAMPLES])
    with torch.no_grad():
        outputs: Tensor = copy.deepcopy(module).eval()(inputs)
    return outputs, labels.to(models.dtype(trial)) if form.kind == "values" else labels, inputs


def _schedule_problems(trial: TrialConfig) -> Iterator[str]:
    try:
        for step in sorted({0, trial.budget // 2, trial.budget - 1}):
            trial.rate_factor(step)
    except ConfigError as error:
        yield from error.problems
    except Exception:  # stored as the trial's cause
        return


def _optimizer_problems(trial: TrialConfig, module: nn.Module) -> Iterator[str]:
    where, kind = f"optimizer.name = {trial.optimizer.name!r}", imported(trial.optimizer.name)
    if not isinstance(kind, type) or not issubclass(kind, Optimizer):
        yield f"{where}: is no subclass of torch.optim.Optimizer; name a class of torch.optim, or derive one."
        return
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        yield (
            f"{where}: its step needs a closure, which computes the loss several times in one step; memsweep computes "
            "one gradient a step. Use an optimizer whose step() needs no closure."
        )
        return
    names = inspect.signature(kind).parameters
    for name, field in (("weight_decay", "regularization.weight_decay"), ("momentum", "optimizer.momentum")):
        value = own_optimizers.fields(trial)[name]
        if value and name not in names:
            yield f"{field} = {value!r}: the constructor of {kind.__name__} has no parameter {name}; set {field} to 0."
    if trial.optimizer.schedule != "constant" and "lr" not in names:
        yield (
            f"optimizer.schedule = {trial.optimizer.schedule!r}: the constructor of {kind.__name__} has no parameter "
            "lr; set optimizer.schedule to constant."
        )
    yield from _state_problems(trial, module, where)


def _pair_problems(trial: TrialConfig, module: nn.Module) -> Iterator[str]:
    where = f"optimizer.name = {trial.optimizer.name!r}"
    if len(imported(trial.optimizer.name)) != 2 or not all(map(callable, imported(trial.optimizer.name))):
        yield f"{where}: is a tuple, but not of two functions; must be a pair (begin, update), or a class."
        return
    for field, value in {
        "regularization.weight_decay": trial.regularization.weight_decay,
        "optimizer.momentum": trial.optimizer.momentum,
    }.items():
        if value:
            yield f"{field} = {value!r}: a pair of functions is given only the learning rate; use a field own.<name>."
    pair, weights = (
        own_optimizers.pair_of(trial, member_fields.of_trial(trial)),
        {n: w.detach() for n, w in models.trained(module).items()},
    )
    assert pair is not None
    try:
        state = pair.begin(weights)
        result = pair.update({n: torch.ones_like(w) for n, w in weights.items()}, state, weights, torch.tensor(0.1))
    except Exception:  # stored as the trial's cause
        return
    if not isinstance(result, tuple) or len(result) != 2:
        yield f"{where}: update returns {type(result).__name__}; must return (parameters, state)."
    elif _shapes(result[0]) != _shapes(weights):
        yield f"{where}: update returns other parameters than it is given; must return each name with the same shape."
    elif not isinstance(state, dict) or _shapes(result[1]) != _shapes(state):
        yield f"{where}: the state must be a dict of tensors, or of dicts, with the same names and shapes at each step."


def _shapes(values: Any) -> Any:
    """Returns nested dicts with the shape of each tensor, or the type of another value."""
    if isinstance(values, dict):
        return {name: _shapes(value) for name, value in values.items()}
    return tuple(values.shape) if isinstance(values, Tensor) else type(values)


def _state_problems(trial: TrialConfig, module: nn.Module, where: str) -> Iterator[str]:
    """Yields a sentence if an optimizer keeps something where checkpoints don't find it."""
    weights = {name: copy.deepcopy(weight).detach() for name, weight in models.trained(module).items()}
    try:
        member = own_optimizers.of_member(trial, {name: weight[None] for name, weight in weights.items()}, 0)
        before = _attributes(member.optimizer)
        for _ in range(2):
            gradients = {name: torch.ones_like(weight)[None] for name, weight in weights.items()}
            own_optimizers.update_(member, {n: w[None] for n, w in weights.items()}, gradients, 0.001)
        after, state = _attributes(member.optimizer), own_optimizers.saved(member)
    except Exception:  # stored as the trial's cause
        return
    if names := unequal(after, before):
        yield (
            f"{where}: its step changes {', '.join(names[:MOST_NAMES])}, which a checkpoint does not hold; keep it in "
            "self.state[parameter] or in self.param_groups."
        )
    try:
        checkpoint.from_bytes(checkpoint.to_bytes([state]))
    except Exception:
        yield f"{where}: its state holds objects that a checkpoint can't hold; keep tensors, numbers and texts there."


def _attributes(optimizer: Optimizer) -> dict[str, Any]:
    """Returns a copy of the attributes of an optimizer that torch's optimizers lack."""
    ordinary = vars(torch.optim.SGD([nn.Parameter(torch.zeros(1))])).keys() | {"_opt_called", "_step_count"}
    return copy.deepcopy({name: value for name, value in vars(optimizer).items() if name not in ordinary})


def _loss_problems(trial: TrialConfig, module: nn.Module, loss: Loss) -> Iterator[str]:
    where = f"optimizer.objective = {trial.optimizer.objective!r}"
    try:
        _, labels, inputs = answered(trial, module)
        torch.default_generator.manual_seed(0)
        value = loss(copy.deepcopy(module).train()(inputs), labels, inputs)
    except Exception:  # stored as the trial's cause
        return
    if not isinstance(value, Tensor):
        yield f"{where}: returns {type(value).__name__}; must return a tensor, of losses [B] or a scalar."
    elif (value.dim() and tuple(value.shape) != (len(inputs),)) or not value.is_floating_point():
        wanted = f"losses [B] = [{len(inputs)}] of the examples, whose mean is trained, or a scalar"
        yield f"{where}: returns {_described(value)} for {len(inputs)} examples; must return {wanted}."
    elif not value.dim() and tasks.form(trial).has_weights:
        yield f"{where}: returns a scalar, and {trial.data.task!r} weights examples; must return losses [B] of them."
    elif not value.requires_grad:
        yield (
            f"{where}: its value has no gradient, so nothing would be trained; compute it from the logits, without "
            "item(), detach() and torch.no_grad()."
        )


def _metric_problems(trial: TrialConfig, path: str, tensors: tuple[Tensor, ...]) -> Iterator[str]:
    where, metric = f"metrics = {path!r}", bound_metric(path, member_fields.of_trial(trial))
    try:
        values, again = (_seeded(metric, tensors) for _ in range(2))
    except Exception:  # stored as the trial's cause
        return
    if not isinstance(values, Mapping) or not values:
        what = "an empty dict" if isinstance(values, Mapping) else type(values).__name__
        yield f"{where}: returns {what}; must return a dict of names and scalar tensors."
        return
    if wrong := [name for name in values if not isinstance(name, str) or not _NAME.fullmatch(name)]:
        yield f"{where}: names a value {wrong[0]!r}; a name is a Python identifier of at most 100 ASCII characters."
    if len(values) > MOST_VALUES:
        yield f"{where}: returns {len(values)} values; at most {MOST_VALUES}, since each is a curve."
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.dim() or value.is_complex():
            yield f"{where}: {name!r} is {_described(value)}; must be a scalar tensor; reduce it by .mean() or .sum()."
            return
    if any(not torch.equal(value, again[name]) and not value.isnan() for name, value in values.items()):
        yield (
            f"{where}: returns different numbers for the same inputs in two calls; draw random numbers by torch's "
            "functions, which the trial's seed governs."
        )


def _probe_problems(trial: TrialConfig, path: str, module: nn.Module) -> Iterator[str]:
    try:
        probe = own_probes.probe_of(path)
    except ConfigError as error:
        yield from error.problems
        return
    answers = []
    try:
        _, labels, inputs = answered(trial, module)
        for _ in range(2):
            torch.default_generator.manual_seed(0)
            answers.append(own.called(path, probe, trial, (copy.deepcopy(module).eval(), inputs, labels)))
    except ConfigError as error:
        yield from error.problems
        return
    except Exception:  # stored as the trial's cause
        return
    if answers[0] != answers[1]:
        yield (
            f"probes = {path!r}: returns different rows for the same member in two calls; draw random numbers by "
            "torch's functions, which the trial's seed governs."
        )


def _seeded(function: Any, tensors: tuple[Tensor, ...]) -> Any:
    torch.default_generator.manual_seed(0)
    with torch.no_grad():
        return function(*tensors)


def _described(value: Any) -> str:
    """Returns type and shape of a tensor, as `float32 [20]`, or the type of another value."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def unequal(ones: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Returns the names of values that differ."""
    return [name for name, value in ones.items() if not _are_equal(value, others.get(name))]


def _are_equal(value: Any, other: Any) -> bool:
    """Compares numbers, texts, and tensors, arrays, lists and dicts of them; other types count as equal."""
    if isinstance(value, Tensor):
        return isinstance(other, Tensor) and value.shape == other.shape and torch.equal(value, other)
    if isinstance(value, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(value, other)
    if isinstance(value, dict):
        return isinstance(other, dict) and value.keys() == other.keys() and not unequal(value, other)
    if isinstance(value, list | tuple):
        return isinstance(other, list | tuple) and len(value) == len(other) and all(map(_are_equal, value, other))
    return type(value) not in (bool, int, float, complex, str, np.float64, np.float32) or value == other
