"""A user's optimizers: subclasses of torch.optim.Optimizer, or pairs of pure functions.

A subclass has one object a member, so that members train in turn. Its state is what torch's optimizers keep: `state`
and `param_groups`; checkpoints hold it. A pair is lifted over members, and its state is part of the pack's.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from memsweep.engine.train.optim import Tensors
from memsweep.spec.config import TrialConfig, imported, is_pair
from memsweep.spec.fields.own import GROUP, OwnFields, bound


class OwnOptimizer(NamedTuple):
    """One member's optimizer."""

    optimizer: Optimizer
    weights: dict[str, nn.Parameter]  # that it moves, by name


class Pair(NamedTuple):
    """An optimizer as pure functions of one member.

    Parameters and gradients are dicts, name -> tensor; the state is a dict of tensors, or of dicts; the rate a scalar.
    """

    begin: Callable[[Tensors], dict[str, Any]]  # parameters -> state
    update: Callable[[Tensors, dict[str, Any], Tensors, Tensor], tuple[Tensors, dict[str, Any]]]
    """(gradients, state, parameters, rate) -> (parameters, state)"""


def pair_of(trial: TrialConfig, own: OwnFields) -> Pair | None:
    """Returns the functions that optimizer.name names, given `own` if they take it."""
    if not is_pair(trial.optimizer.name):
        return None
    begin, update = imported(trial.optimizer.name)
    return Pair(bound(begin, own), bound(update, own))


def is_own(name: str) -> bool:
    """Returns whether optimizer.name is the import path of a class."""
    return ":" in name and not is_pair(name)


def keywords(trial: TrialConfig) -> dict[str, Any]:
    """Returns the keywords of the constructor: fields of the trial, and `own.*`, that are named as its parameters."""
    names = list(inspect.signature(imported(trial.optimizer.name)).parameters)[1:]
    values: dict[str, Any] = {name: trial.own[name] for name in trial.own} | {GROUP: trial.own} | fields(trial)
    return {name: value for name, value in values.items() if name in names}


def fields(trial: TrialConfig) -> dict[str, Any]:
    """Returns parameter of a constructor -> the trial's field for it."""
    o = trial.optimizer
    decay = trial.regularization.weight_decay
    return {"lr": o.learning_rate, "weight_decay": decay, "momentum": o.momentum, "betas": o.betas, "alpha": o.alpha}


def build(trial: TrialConfig, weights: Sequence[nn.Parameter]) -> Optimizer:
    """Returns the optimizer of a trial for these weights."""
    optimizer: Optimizer = imported(trial.optimizer.name)(list(weights), **keywords(trial))
    return optimizer


def of_member(trial: TrialConfig, parameters: Tensors, m: int) -> OwnOptimizer:
    """Returns the optimizer of member m.  parameters: name -> [M, *shape]."""
    weights = {name: nn.Parameter(value[m]) for name, value in parameters.items()}
    return OwnOptimizer(build(trial, list(weights.values())), weights)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Sets the learning rate of all groups that have one."""
    for group in optimizer.param_groups:
        if "lr" in group:
            group["lr"] = rate


def update_(own: OwnOptimizer, parameters: Tensors, gradients: Tensors, rate: float) -> None:
    """Applies one step to one member in place.  parameters, gradients: name -> [1, *shape]."""
    set_rate(own.optimizer, rate)
    for name, weight in own.weights.items():
        weight.data, weight.grad = parameters[name][0], gradients[name][0]
    own.optimizer.step()
    for name, weight in own.weights.items():
        if weight.data_ptr() != parameters[name].data_ptr():  # replaced instead of changed in place
            parameters[name][0].copy_(weight.detach())


def saved(own: OwnOptimizer) -> dict[str, Any]:
    """Returns the optimizer's state, with the places of weights instead of the weights."""
    places = {weight: place for place, weight in enumerate(own.weights.values())}
    state = {place: own.optimizer.state[weight] for weight, place in places.items() if weight in own.optimizer.state}
    others = {key: value for key, value in own.optimizer.state.items() if not isinstance(key, Tensor)}
    groups = [{key: value for key, value in group.items() if key != "params"} for group in own.optimizer.param_groups]
    return {"state": state, "others": others, "groups": groups}


def restore_(own: OwnOptimizer, state: Mapping[str, Any]) -> None:
    """Gives the optimizer a state from `saved`; unlike load_state_dict, without changing any type.

    Raises KeyError, IndexError or ValueError for a state of another class, before anything has changed.
    """
    weights = list(own.weights.values())
    values = {weights[place]: value for place, value in state["state"].items()} | state["others"]
    groups = list(zip(own.optimizer.param_groups, state["groups"], strict=True))
    own.optimizer.state.clear()
    own.optimizer.state.update(values)
    for group, settings in groups:
        group.update(settings)


def copied(own: OwnOptimizer, trial: TrialConfig) -> OwnOptimizer:
    """Returns a copy with weights and state of its own."""
    weights = {name: nn.Parameter(weight.detach().clone()) for name, weight in own.weights.items()}
    copy_ = OwnOptimizer(build(trial, list(weights.values())), weights)
    restore_(copy_, copy.deepcopy(saved(own)))
    return copy_
