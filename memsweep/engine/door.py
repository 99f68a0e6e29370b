"""Checks a user's network or penalty before training: what forward returns, and which numbers are drawn where.

`door_hooks.py` checks other functions of the user's.

Networks that raise errors are not reported here: their trials fail, each with its cause.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memsweep.data import tasks
from memsweep.engine import door_hooks
from memsweep.engine.door_hooks import MOST_NAMES, unequal
from memsweep.engine.nn import member_fields, models
from memsweep.engine.train.evaluation import rows_at_a_time
from memsweep.spec import member_names
from memsweep.spec.config import TrialConfig, imported
from memsweep.spec.fields.own import bound
from memsweep.spec.options import FAMILIES


def problems(trial: TrialConfig) -> list[str]:
    """Returns a sentence for each problem of a trial's own network, penalty or other functions."""
    shape = tasks.shape(trial)
    with torch.random.fork_rng(devices=[]):
        try:
            module = models.build(trial, *shape)
            inputs = _inputs(trial, trial.optimizer.batch_size)
            answers = _run(module, inputs, training=True)
        except Exception:  # stored as the trial's cause, with its traceback
            return []
        if trial.model.family not in FAMILIES:
            sentences = [*_answer_problems(trial, answers, len(inputs)), *_parameter_problems(trial, module, answers)]
            sentences = sentences or [*_evaluation_problems(trial, module), *_drawing_problems(trial, module, inputs)]
            sentences = sentences or list(_member_problems(trial, module, inputs))
            if sentences:
                return sentences
        sentences, r = list(door_hooks.problems(trial, module)), trial.regularization
        if r.penalty != "none" and r.penalty_strength:
            sentences += _penalty_problems(trial, module, inputs)
        return sentences


def _answer_problems(trial: TrialConfig, answers: Any, rows: int, how: str = "") -> Iterator[str]:
    """Yields a sentence if forward's result does not fit the loss and the measurements."""
    form, classes = tasks.form(trial), tasks.shape(trial)[1]
    shapes: list[tuple[int, ...]] = [(rows, classes)]
    wanted = f"[B, classes] = {[rows, classes]}, a number for each class"
    if form.kind != "label":
        shapes = [(rows, form.positions, form.outputs)]
        wanted = f"[B, positions, outputs] = {list(shapes[0])}"
    if form.kind == "values":
        shapes.append((rows, form.positions * form.outputs))
    if not isinstance(answers, Tensor):
        what = type(answers).__name__
    elif tuple(answers.shape) not in shapes or not answers.is_floating_point():
        what = f"{str(answers.dtype).removeprefix('torch.')} {list(answers.shape)}"
    else:
        return
    where = f"model.family = {trial.model.family!r}"
    yield f"{where}: forward returns {what} for {rows} examples{how}; must return {wanted}."


def _parameter_problems(trial: TrialConfig, module: nn.Module, answers: Any) -> Iterator[str]:
    where = f"model.family = {trial.model.family!r}"
    if not models.trained(module):
        yield f"{where}: has no parameter to train; give it an nn.Parameter, not frozen by requires_grad_(False)."
    elif isinstance(answers, Tensor) and answers.is_floating_point() and not answers.requires_grad:
        yield (
            f"{where}: the output of forward has no gradient, so nothing would be trained; "
            "compute it without detach(), item(), numpy() and torch.no_grad()."
        )


def _evaluation_problems(trial: TrialConfig, module: nn.Module) -> Iterator[str]:
    """Yields problems that occur only in evaluation mode, or with its number of examples."""
    inputs = _inputs(trial, rows_at_a_time(tasks.form(trial)))
    how = " in evaluation mode"
    try:
        answers = _run(module, inputs, training=False)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        yield (
            f"model.family = {trial.model.family!r}: forward fails for {len(inputs)} examples{how}, although not for "
            f"{trial.optimizer.batch_size} in training ({text}); it must accept any number of examples in both modes."
        )
        return
    yield from _answer_problems(trial, answers, len(inputs), how)


def _drawing_problems(trial: TrialConfig, module: nn.Module, inputs: Tensor) -> Iterator[str]:
    """Yields a sentence on numbers that members would share, or that differ in each run.

    Numbers are shared if they are neither parameters nor buffers, and differ if they are not drawn by torch.
    """
    where, shape = f"model.family = {trial.model.family!r}", tasks.shape(trial)
    state = random.getstate(), np.random.get_state()
    again = models.build(trial, *shape)
    if names := unequal(_numbers(module), _numbers(again)):
        yield (
            f"{where}: {_listed(names)} differ each time the network is built with the same seed; "
            "draw them by torch's functions, which the trial's seed governs."
        )
        return
    try:
        other = models.build(trial.with_fields({"seeds.init": trial.stream_seed("init") + 1}), *shape)
    except Exception:
        return
    _give(_numbers(module), other)
    for training in (False, True):
        runs = [_run(network, inputs, training) for network in (module, module, other)]
        if not _are_same(runs[0], runs[1]):
            yield (
                f"{where}: forward returns different numbers for the same inputs in two calls; "
                "draw random numbers by torch's functions, which the trial's seed governs."
            )
        elif not _are_same(runs[0], runs[2]):
            names = unequal(_attributes(module), _attributes(other)) or ["something"]
            yield (
                f"{where}: the seed sets {_listed(names)}, neither parameter nor buffer, so that all members of a pack "
                "would share the values of the first member; use register_buffer or nn.Parameter."
            )
        else:
            continue
        break
    random.setstate(state[0])
    np.random.set_state(state[1])


def _member_problems(trial: TrialConfig, module: nn.Module, inputs: Tensor) -> Iterator[str]:
    """Yields a sentence if a field of `members` sets what members share, by building the network with other values."""
    names = member_names.names(trial)
    others = {f"own.{name}": trial.own[name] / 2 or 1.0 for name in names}
    try:
        other = models.build(trial.with_fields(others), *tasks.shape(trial))
    except Exception:  # the other values may be none that the network takes; `state.init` compares those of the sweep
        return
    differing = member_fields.unshared(member_fields.constants(module), member_fields.constants(other))
    if names and not differing:
        _give(_numbers(module), other)
        if all(_are_same(_run(module, inputs, training), _run(other, inputs, training)) for training in (False, True)):
            return
    if names:
        yield member_fields.problem(trial, differing)


def _penalty_problems(trial: TrialConfig, module: nn.Module, inputs: Tensor) -> Iterator[str]:
    """Yields a sentence if a penalty returns no scalar, or a value without gradient."""
    where, module = f"regularization.penalty = {trial.regularization.penalty!r}", copy.deepcopy(module).train()
    try:
        fields = member_fields.of_trial(trial)
        value = bound(imported(trial.regularization.penalty), fields)(
            dict(module.named_parameters()), inputs, module(inputs)
        )
    except Exception:  # stored as the trial's cause
        return
    if not isinstance(value, Tensor):
        yield (
            f"{where}: returns {type(value).__name__}, which has no gradient, so it would change nothing; "
            "must return a scalar tensor, computed without item(), float() and numpy()."
        )
    elif value.dim() or not value.is_floating_point():
        what = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        yield f"{where}: returns {what}; must return a floating scalar; reduce it by .sum() or .mean()."
    elif not value.requires_grad:
        yield (
            f"{where}: its value has no gradient, so it would change nothing; "
            "compute it from the parameters or logits, without item(), detach() and torch.no_grad()."
        )


def _inputs(trial: TrialConfig, rows: int) -> Tensor:
    """This many of the trial's own examples, [rows, D], repeated if it has fewer."""
    inputs = tasks.load(trial).inputs
    return torch.from_numpy(inputs[np.arange(rows) % len(inputs)]).to(models.dtype(trial))


def _run(module: nn.Module, inputs: Tensor, training: bool) -> Any:
    """The output of a copy of the module; torch's random numbers are the same at each call."""
    torch.default_generator.manual_seed(0)
    return copy.deepcopy(module).train(training)(inputs)


def _are_same(output: Tensor, other: Tensor) -> bool:
    return bool(((output == other) | (output.isnan() & other.isnan())).all())


def _numbers(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _give(numbers: Mapping[str, Tensor], module: nn.Module) -> None:
    """Makes the module's parameters and buffers equal to these."""
    with torch.no_grad():
        for name, number in _numbers(module).items():
            number.copy_(numbers[name])


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Dotted name -> attribute of a module or its sub-modules that is no parameter, buffer or module."""
    return {
        f"{path}.{name}" if path else name: value
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if name not in _OF_MODULES
    }


_OF_MODULES = frozenset(vars(nn.Module()))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMES]) + ", ..." * (len(names) > MOST_NAMES)
