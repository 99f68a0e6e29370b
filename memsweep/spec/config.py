"""Configuration of a trial: its fields, the one list of their problems, and the hash that names the trial.

Shapes and sizes that a task or a model requires are checked where data is loaded.
"""

from __future__ import annotations

import importlib
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from operator import attrgetter
from typing import Any

from memsweep.spec.contents import content_of, has_content
from memsweep.spec.fields import probe_rules, rules, schedules
from memsweep.spec.fields.field_spec import checked, number, specs
from memsweep.spec.fields.groups import Compute, Data, Model, Optimizer, Regularization, Seeds, Stop
from memsweep.spec.fields.hints import fields_meant, hint
from memsweep.spec.fields.own import GROUP, Fields, OwnFields, bound, is_own, member_problems, wrong_name
from memsweep.spec.identity import LATER_FIELDS, Named, cached, content, digest, digests, without_seeds
from memsweep.spec.identity import RECORDED as RECORDED
from memsweep.spec.identity import recorded as recorded
from memsweep.spec.mends import protocol_of
from memsweep.spec.options import IMPORT_PATH, LIMIT, PROTOCOL, STREAMS

_set = object.__setattr__


class ConfigError(ValueError):
    """All problems of a configuration or sweep, one sentence each, in `problems`."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)  # a launch holds a million of them
class TrialConfig(Named):
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
        probe_rules.ALLOWED,
        probe_rules.are_allowed,
    )
    probe_steps: tuple[int, ...] = checked(
        (),
        "steps at which repeatable probes run besides the end, 0 before training; no part of a trial's identity",
        "must be whole numbers of 0 or more",
        lambda value: all(0 <= step < LIMIT for step in value),
    )
    metrics: tuple[str, ...] = checked(
        (),
        "a user's functions recorded at every measurement; no part of a trial's identity",
        "must be import paths such as my_lab.metrics:margin, each once",
        lambda value: len(set(value)) == len(value) and all(IMPORT_PATH.fullmatch(path) for path in value),
    )
    members: tuple[str, ...] = checked(
        (),
        "own hyperparameters that are tensors, one value a member, so that they do not split packs",
        "must be fields such as own.temperature, each once and in alphabetical order",
        lambda value: value == tuple(sorted(set(value))) and all(map(is_own, value)),
    )
    protocol: int | None = number(
        None, "raised on purpose when numbers change; unset: that of this version", 1, PROTOCOL
    )

    own: OwnFields = field(default=OwnFields())  # hyperparameters that a user names; a mapping is accepted too

    def __post_init__(self) -> None:
        if not isinstance(self.own, OwnFields | Mapping):
            raise ConfigError([f"own = {self.own!r}: must be a mapping of names to values."])
        object.__setattr__(self, GROUP, OwnFields(vars(self.own) if isinstance(self.own, OwnFields) else self.own))
        if sentences := problems(self._explicit(), self):
            raise ConfigError(sentences)
        values = {name: FIELDS[f"own.{name}"].coerced(value) for name, value in vars(self.own).items()}
        object.__setattr__(self, GROUP, OwnFields(values))
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
        """Returns a copy with these dotted fields replaced.  Raises ConfigError with all problems of the copy."""
        if sentences := problems(values, self):
            raise ConfigError(sentences)
        groups: dict[str, dict[str, Any]] = {}
        top: dict[str, Any] = {}
        for name, value in values.items():
            group, _, leaf = name.rpartition(".")
            (groups.setdefault(group, {}) if group else top)[leaf] = FIELDS[name].coerced(value)
        if GROUP in groups:
            top[GROUP] = OwnFields({**vars(self.own), **groups.pop(GROUP)})
        return self._with(**top, **{name: replace(getattr(self, name), **leaves) for name, leaves in groups.items()})

    def replicated(self, seeds: Iterable[int]) -> Iterator[TrialConfig]:
        """Yields copies with these seeds, which must have been validated before; names them faster than one by one."""
        seeds = tuple(seeds)
        if len(seeds) < 2 or self.has_open_content:  # whose hash is part of the names, and may not be known yet
            yield from (self._with(seed=seed) for seed in seeds)
            return
        following = [f"seeds.{stream}" for stream in STREAMS if getattr(self.seeds, stream) is None]
        parts = dict(zip(_PARTS, _read_parts(self), strict=True))
        shared = {**parts, "_setting_id": self.setting_id, "_imports": self.imports}
        for seed, trial_id in zip(seeds, digests(content(self.flat(), _LATER), following, seeds), strict=True):
            yield _made({**shared, "seed": seed, "_trial_id": trial_id})

    def flat(self) -> dict[str, Any]:
        """Returns dotted field -> value, those of FIELDS first.

        seeds.* and protocol are resolved to numbers, and the content of a file or of given data to its hash.
        """
        values = self._explicit()
        for stream in STREAMS:
            values[f"seeds.{stream}"] = self.stream_seed(stream)
        if self.protocol is None:
            values["protocol"] = protocol_of(values)
        if self.has_open_content:
            values["data.content"] = content_of(self.data.task)
        return values

    def stream_seed(self, stream: str) -> int:
        """Returns the seed of a named stream: the stream's own seed, or the trial's."""
        stream_seed: int | None = getattr(self.seeds, stream)
        return self.seed if stream_seed is None else stream_seed

    @property
    def has_open_content(self) -> bool:
        """Returns whether the task is a file or given data whose hash is not a field of this configuration."""
        return has_content(self.data.task) and not self.data.content

    @property
    def trial_id(self) -> str:
        """Returns 16 hexadecimal digits over the content, the same on every machine and for every order of axes."""
        return cached(self, "_trial_id", lambda: trial_id_of(self.flat()))

    @property
    def setting_id(self) -> str:
        """Returns a hash as trial_id, without the seeds: all replicates of a setting share it."""
        return cached(self, "_setting_id", lambda: digest(without_seeds(content(self.flat(), _LATER))))

    @property
    def recorded(self) -> frozenset[str]:
        """Returns what the finished trial will have recorded beside its measurements; see the function `recorded`."""
        values = self.probes, self.probe_steps, self.metrics
        return recorded(*(",".join(map(str, value)) for value in values)) if any(values) else frozenset()

    @property
    def imports(self) -> tuple[str, ...]:
        """Returns the import paths of user code in this configuration, from all fields that take them."""
        return cached(self, "_imports", lambda: _imports(self))

    @property
    def budget(self) -> int:
        """Returns the optimizer steps of the whole training."""
        return self.stop.steps or -(-self.optimizer.epochs * self.data.examples // self.optimizer.batch_size)

    def next_measurement(self, step: int) -> int:
        """Returns the first measured step after `step`: the end of an epoch, or a multiple of stop.measure_steps."""
        every, batch, examples = self.stop.measure_steps, self.optimizer.batch_size, self.data.examples
        if every:
            return min((step // every + 1) * every, self.budget)
        epoch = step * batch // examples + 1
        return min(max(-(-epoch * examples // batch), step + 1), self.budget)

    def rate_factor(self, step: int) -> float:
        """Returns the schedule's factor of the learning rate at this step, from 0.

        Raises ConfigError where a user's schedule returns anything but a finite number of 0 or more.
        """
        optimizer = self.optimizer
        if schedules.is_own(optimizer.schedule):
            return _own_factor(optimizer.schedule, self.own, step, self.budget)
        return schedules.schedule_factor(
            optimizer.schedule, step, self.budget, optimizer.batch_size, self.data.examples
        )

    def pause(self, share: float) -> int:
        """Returns the first measured step at or after this share of the budget.  share: in (0, 1]."""
        return self.next_measurement(math.ceil(share * self.budget) - 1)

    def _with(self, **parts: Any) -> TrialConfig:
        """Returns an unchecked copy with these attributes that shares other groups; 50 times as fast as `replace`."""
        return _made({**dict(zip(_PARTS, _read_parts(self), strict=True)), **parts})

    def _explicit(self) -> dict[str, Any]:
        values = dict(zip(FIELDS, _read_fields(self), strict=True))
        return values | {f"own.{name}": value for name, value in vars(self.own).items()} if self.own else values


def trial_id_of(fields: Mapping[str, Any]) -> str:
    """Returns the trial_id of these fields, as `TrialConfig.flat()` or the column `wanted.configuration` holds them."""
    return digest(content(fields, _LATER))


def problems(values: Mapping[str, Any], base: TrialConfig | None = None) -> list[str]:
    """Returns one sentence per problem of a configuration: of its fields, then between fields.

    values: dotted field -> value, not yet checked.  base: gives all other fields; default: DEFAULTS.
    Rules that read a field with a wrong value are skipped.
    """
    sentences, wrong = [], []
    checked_values = (base or DEFAULTS)._explicit()
    for name, value in values.items():
        sentence = FIELDS[name].problem(value) if name in FIELDS else unknown_field(name)
        if sentence:
            sentences.append(sentence)
            wrong.append(name)
        else:
            checked_values[name] = FIELDS[name].coerced(value)
    sentences += member_problems(checked_values["members"], checked_values.items())
    return sentences + rules.problems(checked_values, wrong)


def unknown_field(name: Any) -> str:
    """Returns the error message for an unknown field: with similar fields, else with the fields of its group."""
    if str(name).startswith("own."):
        return wrong_name(str(name))
    group, meant = str(name).partition(".")[0], fields_meant(str(name), FIELDS)
    if meant:
        advice = hint(meant)
    elif group and group in GROUPS:
        advice = f"{group} has {', '.join(GROUPS[group])}."
    else:
        advice = f"Groups: {', '.join(dict.fromkeys(s.group or s.name for s in FIELDS.values()))}, own."
    return f"{name!r} is no field of a trial. {advice}"


def imported(path: str) -> Any:
    """Returns the object at an import path such as `my_lab.nets:MyNet`.  Raises ConfigError."""
    module, _, name = path.partition(":")
    if module == "__main__":
        raise ConfigError(
            [
                f"{path}: is defined in the program itself, which workers do not import; move {name} into a module, "
                f"such as my_lab.py, and name it my_lab:{name}."
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


@lru_cache(maxsize=1024)
def _own_schedule(path: str, own: OwnFields) -> Any:
    return bound(imported(path), own)


def _own_factor(path: str, own: OwnFields, step: int, steps: int) -> float:
    """Returns the factor of a user's schedule `(step, steps)`."""
    factor = _own_schedule(path, own)(step, steps)
    is_number = isinstance(factor, numbers.Real) and not isinstance(factor, bool)
    if not is_number or not 0 <= factor < math.inf:
        raise ConfigError(
            [
                f"optimizer.schedule = {path!r}: returns {factor!r} at step {step} of {steps}; must return a finite "
                "number of 0 or more, by which the learning rate is multiplied."
            ]
        )
    return float(factor)


def is_pair(optimizer: str) -> bool:
    """Returns whether optimizer.name is the import path of a pair of functions, not of a class."""
    return IMPORT_PATH.fullmatch(optimizer) is not None and isinstance(imported(optimizer), tuple)


def _is_same(one: Any, other: Any) -> bool:
    """Returns whether type and text are equal: 0.0 is neither 0 nor -0.0."""
    return one is other or (type(one) is type(other) and repr(one) == repr(other))


def _imports(trial: TrialConfig) -> tuple[str, ...]:
    data, optimizer = trial.data, trial.optimizer
    named: tuple[str, ...] = (data.task, data.noise_kind, trial.model.family, trial.regularization.penalty)
    named += (optimizer.objective, optimizer.name, optimizer.schedule, *trial.metrics, *trial.probes)
    return tuple(path for path in named if IMPORT_PATH.fullmatch(path) and not has_content(path))


def _made(attributes: Mapping[str, Any]) -> TrialConfig:
    trial = object.__new__(TrialConfig)
    for name, value in attributes.items():
        _set(trial, name, value)
    return trial


FIELDS = Fields(specs(TrialConfig))
"""Every dotted field of a trial, in the order of the tables' columns; `own.<name>` is found, and not listed."""

GROUPS: dict[str, dict[str, str]] = {}
"""Group ("" for fields of the trial itself) -> name inside the group -> dotted field."""
for _spec in FIELDS.values():
    GROUPS.setdefault(_spec.group, {})[_spec.leaf] = _spec.name

_LATER = {name: FIELDS[name].default for name in LATER_FIELDS}
_PARTS = tuple(entry.name for entry in fields(TrialConfig))
_read_fields, _read_parts = attrgetter(*FIELDS), attrgetter(*_PARTS)
DEFAULTS = TrialConfig()
