"""Configuration of a trial: every field, its default, its allowed values, and the hash that names the trial.

Shapes and sizes that a task or a model requires are checked where data is loaded.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

from memsweep.spec.fields import FieldSpec, checked, choice, number, specs
from memsweep.spec.hints import fields_meant, hint
from memsweep.spec.options import (
    ACTIVATIONS,
    CELLS,
    DTYPES,
    FAMILIES,
    IMPORT_PATH,
    INITIALIZATIONS,
    LABEL_SCHEMES,
    LIMIT,
    MATMULS,
    NOISE_KINDS,
    OBJECTIVES,
    OPTIMIZERS,
    PROBES,
    SCHEDULE,
    STREAMS,
    TASKS,
)
from memsweep.spec.rules import cross_problems, protocol_of

LATER_FIELDS = (
    *("regularization.penalty", "regularization.penalty_strength", "compute.matmul"),
    *("data.vocabulary", "data.items", "model.gate_bias", "optimizer.truncation", "stop.solve", "probe_steps"),
    *("model.perturbation", "optimizer.objective"),
)
"""Fields that older tables lack: at their defaults they are left out of the hash, so that trial ids stay the same."""


class ConfigError(ValueError):
    """All problems of a configuration or sweep, one sentence each, in `problems`."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Data:
    """Task, sizes, labels and noise of the data."""

    task: str = choice("digits", TASKS, "where inputs and labels come from", or_path=True)
    examples: int = number(1000, "training examples (N)", 1)
    validation_examples: int = number(500, "validation examples, never corrupted")
    test_examples: int = number(0, "test examples, never corrupted, used once at the end")
    input_dim: int = number(0, "inputs of an example (D); 0: the task's own")
    label_scheme: str = choice(
        "task", LABEL_SCHEMES, "task: the task's labels; random: uniform over the classes; unique: a class an example"
    )
    noise_kind: str = choice("none", NOISE_KINDS, "what is done to a fraction of the training examples")
    noise_fraction: float = number(0.0, "probability that a training example is corrupted", 0, 1)
    sequence_length: int = number(0, "time steps of an example (T); 0: no sequence")
    classes: int = number(0, "classes (K); 0: the task's own")
    vocabulary: int = number(0, "tokens (V) of copy, recall, strings; 0: the task's own")
    items: int = number(0, "symbols to copy, pairs to recall, things to permute; 0: the task's own")


@dataclass(frozen=True)
class Model:
    """Architecture and first weights of the network."""

    family: str = choice("mlp", FAMILIES, "kind of network", or_path=True)
    width: int = number(32, "units of a hidden layer (H); cnn: channels of a convolution", 1)
    depth: int = number(2, "hidden layers; 0: a linear classifier; cnn: its two convolutions, so only 2")
    cell: str = choice("none", ("none", *CELLS), "recurrent cell of family recurrent; PRU-style ones are reconstructed")
    gate_bias: float = number(1.0, "first bias of the gate that keeps a recurrent state", -100, 100)
    activation: str = choice("relu", ACTIVATIONS, "nonlinearity of hidden layers")
    initialization: str = choice(
        "default",
        INITIALIZATIONS,
        "first weights; default: the layer's own in torch; memorizer: those that hold the training labels; "
        "interpolating: the layer's own, but a read-out whose answers to the training set are one-hot",
    )
    perturbation: float = number(0.0, "L2 norm of a random step that the first weights are moved by")


@dataclass(frozen=True)
class Regularization:
    """Regularizers of training; 0 or none: unused."""

    dropout: float = number(0.0, "probability of dropping a hidden unit", 0, 1, below=True)
    input_dropout: float = number(0.0, "probability of dropping an input", 0, 1, below=True)
    input_noise: float = number(0.0, "standard deviation of Gaussian noise added to inputs")
    hidden_noise: float = number(0.0, "standard deviation of Gaussian noise added to hidden units")
    weight_decay: float = number(0.0, "weight decay, as torch.optim defines it for the optimizer")
    label_smoothing: float = number(0.0, "share of the target spread over all classes", 0, 1, below=True)
    adversarial: float = number(0.0, "weight of the loss on critical samples of the batch, found by LASS", 0, 1)
    penalty: str = checked(
        "none",
        "a function of your own, added to the loss",
        "must be none or an import path such as my_lab.penalties:l1",
        lambda value: value == "none" or IMPORT_PATH.fullmatch(value) is not None,
    )
    penalty_strength: float = number(0.0, "factor of the penalty")


@dataclass(frozen=True)
class Optimizer:
    """Update rule, its rates, batch size, epochs and objective."""

    name: str = choice("sgd", OPTIMIZERS, "update rule")
    learning_rate: float = number(0.1, "learning rate")
    momentum: float = number(0.0, "momentum of SGD", 0, 1, below=True)
    betas: tuple[float, ...] = checked(
        (0.9, 0.999),
        "decay rates of AdamW's moments",
        "must be two numbers in [0, 1)",
        lambda value: len(value) == 2 and all(0 <= beta < 1 for beta in value),
    )
    clip: float = number(0.0, "largest norm of a member's gradient; 0: no clipping")
    batch_size: int = number(100, "examples of a step (B)", 1)
    epochs: int = number(30, "passes over the training set", 1)
    truncation: int = number(0, "steps of a sequence that gradients flow back through, in blocks; 0: all of them")
    objective: str = choice(
        "cross_entropy",
        OBJECTIVES,
        "loss of labels; squared: mean over classes of the squared distance from one-hot answers",
    )
    schedule: str = checked(
        "constant",
        "learning rate over time",
        "must be constant or step:EPOCHS:FACTOR, such as step:15:0.5",
        lambda value: SCHEDULE.fullmatch(value) is not None,
    )


@dataclass(frozen=True)
class Compute:
    """Precision of the computation."""

    dtype: str = choice("float32", DTYPES, "precision of weights and activations")
    matmul: str = choice(
        "highest", MATMULS, "float32 products: highest: in float32; high: may use tf32; medium: may use bf16"
    )


@dataclass(frozen=True)
class Stop:
    """Stopping rules, budget and measurement interval."""

    fit: float = number(0.0, "share of training examples at which a trial has fitted and ends; 0: never", 0, 1)
    solve: str = choice(
        "never", ("never", "task"), "task: a trial ends when its validation data meets its sequence task's threshold"
    )
    steps: int = number(0, "budget in steps; 0: optimizer.epochs")
    measure_steps: int = number(0, "steps between measurements; 0: an epoch")


@dataclass(frozen=True)
class Seeds:
    """Seeds of the random streams; None: the trial's seed."""

    inputs: int | None = number(None, "which examples are drawn, and synthetic inputs")
    labels: int | None = number(None, "random labels")
    noise: int | None = number(None, "which examples are corrupted, and how")
    init: int | None = number(None, "first weights")
    order: int | None = number(None, "order of examples, and the random numbers of regularizers")


@dataclass(frozen=True)
class TrialConfig:
    """The complete configuration of one trial: its fields determine the trial's numbers.

    Built from groups (`TrialConfig(model=Model(width=64))`) or dotted fields (`TrialConfig.of({"model.width": 64})`).
    Raises ConfigError that lists every wrong field.

    >>> TrialConfig.of({"model.width": 64}).model.width
    64
    >>> TrialConfig.of({"model.witdh": 64})
    Traceback (most recent call last):
    memsweep.spec.config.ConfigError: 'model.witdh' is no field of a trial. Did you mean 'model.width'?
    """

    data: Data = Data()
    model: Model = Model()
    regularization: Regularization = Regularization()
    optimizer: Optimizer = Optimizer()
    compute: Compute = Compute()
    stop: Stop = Stop()
    seed: int = number(0, "replicate; each of seeds.* follows it unless set")
    seeds: Seeds = Seeds()
    probes: tuple[str, ...] = checked(
        (),
        "tables recorded beside trials and steps; no part of a trial's identity",
        f"must be names among {', '.join(PROBES)}",
        lambda value: set(value) <= set(PROBES),
    )
    probe_steps: tuple[int, ...] = checked(
        (),
        "steps at which probes that can be repeated are asked beside the end, 0 before training; no part of identity",
        "must be whole numbers of 0 or more",
        lambda value: all(0 <= step < LIMIT for step in value),
    )
    protocol: int | None = number(None, "raised on purpose when numbers change; unset: that of this version", 1)

    def __post_init__(self) -> None:
        problems = [*field_problems(self._explicit()), *cross_problems(self)]
        if problems:
            raise ConfigError(problems)
        # coerce values to their fields' types, since the hash covers them: Model(width=64.0) is Model(width=64)
        for group, leaves in GROUPS.items():
            owner = getattr(self, group) if group else self
            given = {leaf: getattr(owner, leaf) for leaf in leaves}
            coerced = {leaf: FIELDS[name].coerced(given[leaf]) for leaf, name in leaves.items()}
            others = {leaf: value for leaf, value in coerced.items() if not _is_same(value, given[leaf])}
            if group and others:  # else trials keep sharing the group
                object.__setattr__(self, group, replace(owner, **others))
            elif others:
                for leaf, value in others.items():
                    object.__setattr__(self, leaf, value)

    @classmethod
    def of(cls, values: Mapping[str, Any], base: TrialConfig | None = None) -> TrialConfig:
        """Returns the configuration with these dotted fields; other fields are taken from `base` or the defaults.

        Raises ConfigError.
        """
        return (base or DEFAULTS).with_fields(values)

    def with_fields(self, values: Mapping[str, Any]) -> TrialConfig:
        """Returns a copy with these dotted fields replaced; other fields take part only in the cross-field checks.

        Raises ConfigError.
        """
        if problems := field_problems(values):
            raise ConfigError(problems)
        groups: dict[str, dict[str, Any]] = {}
        top: dict[str, Any] = {}
        for name, value in values.items():
            group, _, leaf = name.rpartition(".")
            (groups.setdefault(group, {}) if group else top)[leaf] = FIELDS[name].coerced(value)
        copy = self._with(**top, **{name: replace(getattr(self, name), **leaves) for name, leaves in groups.items()})
        if problems := cross_problems(copy):
            raise ConfigError(problems)
        return copy

    def seeded(self, seed: int) -> TrialConfig:
        """Returns a copy with another seed, which must have been validated before."""
        return self._with(seed=seed)

    def flat(self) -> dict[str, Any]:
        """Returns dotted field -> value, in the order of FIELDS, with seeds.* and protocol resolved to numbers."""
        values = self._explicit()
        for stream in STREAMS:
            values[f"seeds.{stream}"] = self.stream_seed(stream)
        if self.protocol is None:
            values["protocol"] = protocol_of(values)
        return values

    def stream_seed(self, stream: str) -> int:
        """Returns the seed of a named stream: the stream's own seed, or the trial's."""
        stream_seed: int | None = getattr(self.seeds, stream)
        return self.seed if stream_seed is None else stream_seed

    @cached_property
    def trial_id(self) -> str:
        """16 hexadecimal digits: hash of the content, the same on every machine and for every order of axes."""
        return trial_id_of(self.flat())

    @cached_property
    def setting_id(self) -> str:
        """Hash as trial_id, without the seeds: all replicates of a setting share it."""
        return _digest({name: value for name, value in _content(self.flat()).items() if not name.startswith("seed")})

    @property
    def recorded(self) -> frozenset[str]:
        """Probe names and probe steps that the finished trial will have recorded; see the function `recorded`."""
        return recorded(*(",".join(map(str, values)) for values in (self.probes, self.probe_steps)))

    @property
    def imports(self) -> tuple[str, ...]:
        """Import paths of user code in this configuration: task, network, penalty."""
        named = (self.data.task, self.model.family, self.regularization.penalty)
        return tuple(path for path in named if ":" in path)

    @property
    def budget(self) -> int:
        """Optimizer steps of the whole training."""
        return self.stop.steps or -(-self.optimizer.epochs * self.data.examples // self.optimizer.batch_size)

    def next_measurement(self, step: int) -> int:
        """Returns the first measured step after `step`: the end of an epoch, or a multiple of stop.measure_steps."""
        every, batch, examples = self.stop.measure_steps, self.optimizer.batch_size, self.data.examples
        if every:
            return min((step // every + 1) * every, self.budget)
        epoch = step * batch // examples + 1
        return min(max(-(-epoch * examples // batch), step + 1), self.budget)

    def pause(self, share: float) -> int:
        """Returns the first measured step at or after this share of the budget.  share: in (0, 1]."""
        return self.next_measurement(math.ceil(share * self.budget) - 1)

    def _with(self, **parts: Any) -> TrialConfig:
        """Returns an unchecked copy with these attributes that shares other groups; 50 times as fast as `replace`."""
        copy = object.__new__(type(self))
        copy.__dict__.update({name: self.__dict__[name] for name in _PARTS} | parts)
        return copy

    def _explicit(self) -> dict[str, Any]:
        return dict(zip(FIELDS, _read_fields(self), strict=True))


def trial_id_of(fields: Mapping[str, Any]) -> str:
    """Returns the trial_id of these fields, as `TrialConfig.flat()` or the column `wanted.configuration` holds them."""
    return _digest({name: value for name, value in _content(fields).items() if name != "seed"})


def field_problems(values: Mapping[str, Any]) -> list[str]:
    """Returns one sentence per unknown name or value out of range, with the allowed names or values."""
    problems = []
    for name, value in values.items():
        if name in FIELDS:
            problem = FIELDS[name].problem(value)
            problems += [problem] if problem else []
        else:
            problems.append(unknown_field(name))
    return problems


def unknown_field(name: Any) -> str:
    """Returns the error message for an unknown field: with similar fields, else with the fields of its group."""
    group, meant = str(name).partition(".")[0], fields_meant(str(name), FIELDS)
    if meant:
        advice = hint(meant)
    elif group and group in GROUPS:
        advice = f"{group} has {', '.join(GROUPS[group])}."
    else:
        advice = f"Groups: {', '.join(dict.fromkeys(s.group or s.name for s in FIELDS.values()))}."
    return f"{name!r} is no field of a trial. {advice}"


def recorded(probes: str | None, steps: str | None) -> frozenset[str]:
    """Returns the items of a trial's columns `probes` and `probe_steps`: names, and steps before the end, as text."""
    return frozenset(filter(None, f"{probes or ''},{steps or ''}".split(",")))


def imported(path: str) -> Any:
    """Returns the object at an import path such as `my_lab.nets:MyNet`.  Raises ConfigError."""
    module, _, name = path.partition(":")
    if module == "__main__":
        raise ConfigError(
            [
                f"{path}: is defined in the program itself, which workers do not import: move {name} into a file of "
                f"its own, such as my_lab.py, and name it my_lab:{name}."
            ]
        )
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            [
                f"{path}: can't be imported ({type(error).__name__}: {error}). "
                "The module must be importable where memsweep runs, e.g. through PYTHONPATH."
            ]
        ) from error


def schedule_factor(schedule: str, epoch: float) -> float:
    """Returns the factor of the learning rate at an epoch (from 0): `step:15:0.5` halves the rate every 15 epochs."""
    match = SCHEDULE.fullmatch(schedule)
    if match is None or match["epochs"] is None:
        return 1.0
    return float(match["factor"]) ** (int(epoch) // int(match["epochs"]))


def _is_same(one: Any, other: Any) -> bool:
    """Returns whether type and text are equal: 0.0 is neither 0 nor -0.0."""
    return one is other or (type(one) is type(other) and repr(one) == repr(other))


def _content(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that the hash covers: all but those of probes and LATER_FIELDS at their defaults."""
    return {
        name: value
        for name, value in fields.items()
        if not name.startswith("probe") and (name not in LATER_FIELDS or value != FIELDS[name].default)
    }


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


FIELDS: dict[str, FieldSpec] = specs(TrialConfig)
"""Every dotted field of a trial, in the order of the tables' columns."""

GROUPS: dict[str, dict[str, str]] = {}
"""Group ("" for fields of the trial itself) -> name inside the group -> dotted field."""
for _spec in FIELDS.values():
    GROUPS.setdefault(_spec.group, {})[_spec.leaf] = _spec.name

_PARTS = tuple(entry.name for entry in fields(TrialConfig))
_read_fields = attrgetter(*FIELDS)
DEFAULTS = TrialConfig()
