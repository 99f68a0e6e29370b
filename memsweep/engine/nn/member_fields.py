"""Own hyperparameters that a trial declares per member (`members`): tensors instead of Python numbers.

A Python number is a constant of a program, so a pack has one value of it. A declared field is a tensor: functions are
given scalar tensors, stacked to [M] where they are lifted, and a network registers its values as buffers.

The declaration is part of a trial's identity, though it changes no value: torch may round `x / 0.1` or `x ** 2` with a
Python number differently from the same operation with a tensor. Trials of one identity have the same bits, so a
declared trial is another trial, whose bits are the same packed and alone. A protocol number would not do, since it
belongs to a version, not to a sweep.

Code that runs on the host for one trial (task, noise, schedule, an optimizer's class) reads Python numbers, declared or
not. Whole numbers become real numbers in the trial's precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from memsweep.spec.config import ConfigError, TrialConfig
from memsweep.spec.fields.own import OwnFields, WithOwn
from memsweep.spec.member_names import names

DEEPEST = 4
"""Levels of containers and closures that `described` enters."""


def of_trial(trial: TrialConfig, device: str | torch.device = "cpu") -> OwnFields:
    """Returns all fields as functions of one member read them: declared fields are scalar tensors."""
    if not trial.members:
        return trial.own
    vectors = {name: stacked([trial], name).to(device)[0].clone() for name in names(trial)}
    return OwnFields({**vars(trial.own), **vectors})


def stacked(trials: list[TrialConfig], name: str) -> Tensor:
    """Returns the values of a declared field, [M], in the trials' precision."""
    dtype = torch.float64 if trials[0].compute.dtype == "float64" else torch.float32
    return torch.tensor([float(trial.own[name]) for trial in trials], dtype=torch.float64).to(dtype)


def completed(hook: Callable[..., Any], values: Mapping[str, Tensor]) -> Callable[..., Any]:
    """Returns a hook of a program with the declared fields of one member added to its `own`."""
    if not values or not isinstance(hook, WithOwn):
        return hook
    return WithOwn(hook.function, OwnFields({**vars(hook.own), **values}))


def lifted(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a hook of a program as a function of (declared fields of one member, *its arguments), for vmap."""

    def of_member(values: Mapping[str, Tensor], *arguments: Any) -> Any:
        return completed(hook, values)(*arguments)

    return of_member


def constants(module: nn.Module) -> tuple[tuple[str, str], ...]:
    """Returns (name, text) of what all members of a pack share: attributes, classes, shapes of numbers."""
    return tuple(_constants(module))


def check_shared(module: nn.Module, ours: tuple[tuple[str, str], ...], trial: TrialConfig) -> None:
    """Raises ConfigError where a member's module has other constants than its program."""
    if differing := unshared(ours, constants(module)):
        raise ConfigError([problem(trial, differing)])


def unshared(ours: tuple[tuple[str, str], ...], theirs: tuple[tuple[str, str], ...]) -> list[str]:
    """Returns the names of constants that differ."""
    return sorted({name for name, _ in {*ours} ^ {*theirs}})


def problem(trial: TrialConfig, differing: list[str]) -> str:
    """Returns the error message for a network whose constants depend on declared fields."""
    return (
        f"model.family = {trial.model.family!r}: {', '.join(trial.members)} (members) sets "
        f"{', '.join(differing[:5]) or 'something'}, neither parameter nor buffer, so that all members of a pack would "
        "share the value of the first member; use register_buffer, or take the field out of members."
    )


def _constants(module: nn.Module) -> Iterator[tuple[str, str]]:
    ordinary = vars(nn.Module())
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        yield path or "the network", type(part).__qualname__
        for name, value in vars(part).items():
            if name not in ordinary:
                yield prefix + name, described(value)
        for name, number in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            yield prefix + name, f"{list(number.shape)} {number.requires_grad}"


def described(value: Any, depth: int = 0) -> str:
    """Returns a text that differs between values that differ, also where a closure holds them."""
    if depth > DEEPEST:
        return "..."
    if isinstance(value, Tensor):
        return f"{list(value.shape)} {value.detach().flatten().tolist()}"
    if isinstance(value, OwnFields):
        value = vars(value)
    if isinstance(value, Mapping):
        return str({str(name): described(item, depth + 1) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return str([described(item, depth + 1) for item in value])
    if value is None or isinstance(value, bool | int | float | complex | str):
        return repr(value)
    if hasattr(value, "__qualname__"):
        cells = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
        return f"{value.__qualname__} {[described(item, depth + 1) for item in cells]}"
    if hasattr(value, "func") and hasattr(value, "args"):  # functools.partial
        return described((value.func, value.args, value.keywords), depth + 1)
    return type(value).__qualname__
