"""What one trial is: every field, its default, its allowed values, and the hash that names it.

It does not know what a task or a model needs: shapes and sizes are checked where data is loaded.
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
"""Fields that older tables do not have: at their defaults they are no part of a trial's name, so that names stay."""


class ConfigError(ValueError):
    """Every problem of a configuration or sweep, one sentence each, in `problems`."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Data:
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
    dtype: str = choice("float32", DTYPES, "precision of weights and activations")
    matmul: str = choice(
        "highest", MATMULS, "float32 products: highest: in float32; high: may use tf32; medium: may use bf16"
    )


@dataclass(frozen=True)
class Stop:
    fit: float = number(0.0, "share of training examples at which a trial has fitted and ends; 0: never", 0, 1)
    solve: str = choice(
        "never", ("never", "task"), "task: a trial ends when its validation data meets its sequence task's threshold"
    )
    steps: int = number(0, "budget in steps; 0: optimizer.epochs")
    measure_steps: int = number(0, "steps between measurements; 0: an epoch")


@dataclass(frozen=True)
class Seeds:
    inputs: int | None = number(None, "which examples are drawn, and synthetic inputs")
    labels: int | None = number(None, "random labels")
    noise: int | None = number(None, "which examples are corrupted, and how")
    init: int | None = number(None, "first weights")
    order: int | None = number(None, "order of examples, and the random numbers of regularizers")


@dataclass(frozen=True)
class TrialConfig:
    """One training, complete: nothing outside it changes its numbers.

    Built from groups (`TrialConfig(model=Model(width=64))`) or dotted fields (`TrialConfig.of({"model.width": 64})`).
    Raises ConfigError naming every wrong field at once.

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
        # in their fields' types, since identity is spelled out of them: Model(width=64.0) is Model(width=64)
        for group, leaves in GROUPS.items():
            owner = getattr(self, group) if group else self
            given = {leaf: getattr(owner, leaf) for leaf in leaves}
            coerced = {leaf: FIELDS[name].coerced(given[leaf]) for leaf, name in leaves.items()}
            others = {leaf: value for leaf, value in coerced.items() if not _is_same(value, given[leaf])}
            if group and others:  # else trials go on sharing the group
                object.__setattr__(self, group, replace(owner, **others))
            elif others:
                for leaf, value in others.items():
                    object.__setattr__(self, leaf, value)

    @classmethod
    def of(cls, values: Mapping[str, Any], base: TrialConfig | None = None) -> TrialConfig:
        """The configuration with these dotted fields, others as in `base` (default: the defaults)."""
        return (base or DEFAULTS).with_fields(values)

    def with_fields(self, values: Mapping[str, Any]) -> TrialConfig:
        """A copy with these dotted fields replaced; of the others only what goes together is checked again."""
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
        """A copy with another seed, a whole number that was checked before."""
        return self._with(seed=seed)

    def flat(self) -> dict[str, Any]:
        """Dotted field -> value, in the order of FIELDS, with each of seeds.* and protocol resolved to a number."""
        values = self._explicit()
        for stream in STREAMS:
            values[f"seeds.{stream}"] = self.stream_seed(stream)
        if self.protocol is None:
            values["protocol"] = protocol_of(values)
        return values

    def stream_seed(self, stream: str) -> int:
        """The seed of a named stream: its own, or the trial's."""
        own: int | None = getattr(self.seeds, stream)
        return self.seed if own is None else own

    @cached_property
    def trial_id(self) -> str:
        """16 hexadecimal digits that name the content; the same on every machine, whatever the order of axes."""
        return trial_id_of(self.flat())

    @cached_property
    def setting_id(self) -> str:
        """Like trial_id, without the seeds: replicates of one setting share it."""
        return _digest({name: value for name, value in _content(self.flat()).items() if not name.startswith("seed")})

    @property
    def recorded(self) -> frozenset[str]:
        """What its probes leave, as `recorded` tells it of a stored trial."""
        return recorded(*(",".join(map(str, values)) for values in (self.probes, self.probe_steps)))

    @property
    def imports(self) -> tuple[str, ...]:
        """Import paths of a user's code that it names: task, network, penalty."""
        named = (self.data.task, self.model.family, self.regularization.penalty)
        return tuple(path for path in named if ":" in path)

    @property
    def budget(self) -> int:
        """Steps of the whole training."""
        return self.stop.steps or -(-self.optimizer.epochs * self.data.examples // self.optimizer.batch_size)

    def next_measurement(self, step: int) -> int:
        """The first step after this one at which it is measured: the end of an epoch, or as stop.measure_steps says."""
        every, batch, examples = self.stop.measure_steps, self.optimizer.batch_size, self.data.examples
        if every:
            return min((step // every + 1) * every, self.budget)
        epoch = step * batch // examples + 1
        return min(max(-(-epoch * examples // batch), step + 1), self.budget)

    def pause(self, share: float) -> int:
        """The first step at which it is measured after so much of its budget, in (0, 1]."""
        return self.next_measurement(math.ceil(share * self.budget) - 1)

    def _with(self, **parts: Any) -> TrialConfig:
        """A copy with these attributes, unchecked, that shares all other groups; a fiftieth of what `replace` takes."""
        copy = object.__new__(type(self))
        copy.__dict__.update({name: self.__dict__[name] for name in _PARTS} | parts)
        return copy

    def _explicit(self) -> dict[str, Any]:
        return dict(zip(FIELDS, _read_fields(self), strict=True))


def trial_id_of(fields: Mapping[str, Any]) -> str:
    """The trial_id of these fields, resolved as by `TrialConfig.flat()`, or read from `wanted.configuration`."""
    return _digest({name: value for name, value in _content(fields).items() if name != "seed"})


def field_problems(values: Mapping[str, Any]) -> list[str]:
    """Unknown names and values out of range, each with what is allowed."""
    problems = []
    for name, value in values.items():
        if name in FIELDS:
            problem = FIELDS[name].problem(value)
            problems += [problem] if problem else []
        else:
            problems.append(unknown_field(name))
    return problems


def unknown_field(name: Any) -> str:
    """The sentence about a name that is no field: with the fields it may mean, else with what there is in its group."""
    group, meant = str(name).partition(".")[0], fields_meant(str(name), FIELDS)
    if meant:
        advice = hint(meant)
    elif group and group in GROUPS:
        advice = f"{group} has {', '.join(GROUPS[group])}."
    else:
        advice = f"Groups: {', '.join(dict.fromkeys(s.group or s.name for s in FIELDS.values()))}."
    return f"{name!r} is no field of a trial. {advice}"


def recorded(probes: str | None, steps: str | None) -> frozenset[str]:
    """Probes, and the steps they were asked at beside the end, of a trial's columns `probes` and `probe_steps`."""
    return frozenset(filter(None, f"{probes or ''},{steps or ''}".split(",")))


def imported(path: str) -> Any:
    """The object that an import path such as `my_lab.nets:MyNet` names."""
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
    except Exception as error:  # whatever a user's module raises
        raise ConfigError(
            [
                f"{path}: can't be imported ({type(error).__name__}: {error}). "
                "The module must be importable where memsweep runs, e.g. through PYTHONPATH."
            ]
        ) from error


def schedule_factor(schedule: str, epoch: float) -> float:
    """Factor of the learning rate at this epoch (0 at the start): `step:15:0.5` halves it every 15 epochs."""
    match = SCHEDULE.fullmatch(schedule)
    if match is None or match["epochs"] is None:
        return 1.0
    return float(match["factor"]) ** (int(epoch) // int(match["epochs"]))


def _is_same(one: Any, other: Any) -> bool:
    """Equal, and spelled alike: 0.0 is neither 0 nor -0.0."""
    return one is other or (type(one) is type(other) and repr(one) == repr(other))


def _content(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What names a trial: all its fields but those of probes, and later ones that are at their defaults."""
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
"""Group, "" for none -> the name inside it -> the dotted field."""
for _spec in FIELDS.values():
    GROUPS.setdefault(_spec.group, {})[_spec.leaf] = _spec.name

_PARTS = tuple(entry.name for entry in fields(TrialConfig))
_read_fields = attrgetter(*FIELDS)
DEFAULTS = TrialConfig()
