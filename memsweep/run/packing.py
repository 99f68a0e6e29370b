"""Which trials train together: packs of one program, long trainings first. Does not decide where or when packs run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple

from memsweep.data import tasks
from memsweep.data.texts import DataError
from memsweep.spec import member_names
from memsweep.spec.config import TrialConfig
from memsweep.spec.fields.groups import Model
from memsweep.spec.options import TASKS
from memsweep.spec.part import Part

WAVES = 4
"""Trials that a slot serves one after another, where a stopping rule lets members leave early."""


@dataclass(frozen=True)
class Pack:
    """An ordered list of trials of one program, and how many of them train at a time."""

    trials: tuple[TrialConfig, ...]
    slots: int
    mode: str = "fused"  # or "serial": members in turn
    compiled: bool = False
    compared: bool = False  # one of its members is also run alone
    share: float = 1.0  # of their budgets, at which trials are paused
    sources: tuple[tuple[str, str], ...] = ()  # (split, fingerprint of its data when the launch began); see sources.py
    folder: str = ""  # of the launch, in which relative paths of files start; "": the current folder
    code: tuple[tuple[str, str], ...] = ()  # (import paths, fingerprint of their code when the launch began)
    states: tuple[tuple[str, str, str], ...] = ()  # (trial, shorter trial that it goes on from, file of `states`)
    after: float = 0.0  # newest time stored for its trials, in seconds since 1970; rows of this attempt are later

    @property
    def pack_id(self) -> str:
        """Returns the hash of the trials, their order and the slots: 12 hexadecimal digits."""
        text = ",".join([str(self.slots), *(trial.trial_id for trial in self.trials)])
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @property
    def steps(self) -> int:
        """Returns the steps of all members together, up to the share of their budgets."""
        return sum(trial.pause(self.share) for trial in self.trials)

    def to_json(self) -> str:
        """Returns the pack as JSON: the first trial's fields, then each trial's differences from them."""
        flat = [{**trial.flat(), "seed": trial.seed} for trial in self.trials]
        changes = [{name: value for name, value in fields.items() if differ(value, flat[0][name])} for fields in flat]
        how = {name: getattr(self, name) for name in _HOW}
        began = {name: getattr(self, name) for name in _BEGAN}
        return json.dumps({"base": flat[0], "changes": changes, **how, **began}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Pack:
        """Returns the pack that `to_json` wrote."""
        values = json.loads(text)
        base = TrialConfig.of(values["base"])
        trials = tuple(base.with_fields(change) for change in values["changes"])
        began: dict[str, Any] = {name: tuple(map(tuple, values[name])) for name in _BEGAN}
        return cls(trials, **{name: values[name] for name in _HOW}, **began)


def differ(value: Any, other: Any) -> bool:
    """Returns whether two values of a field differ; own.* may hold 1, 1.0 or True."""
    return value != other or type(value) is not type(other)


_HOW = ("slots", "mode", "compiled", "compared", "share", "folder", "after")
_BEGAN = ("sources", "code", "states")


class Tally(NamedTuple):
    """Progress of a launch or of one pack. Steps are member steps."""

    settled: int = 0  # trials that were written, whatever their status
    failed: int = 0  # trials that ended with an error
    trained: int = 0  # steps
    left: int = 0  # steps still to train; 0 for a trial that ended early
    steps: int = 0  # of all packs requested so far, including steps from checkpoints
    phase: str = ""  # of the packs at work: STARTING, COMPILING or TRAINING


STARTING, COMPILING, TRAINING = PHASES = ("starting", "compiling", "training")
CANNOT_BE_FUSED = "ran in turn, because its members can't be fused: "
"""Prefix of the user's line in `packs.cause`."""
ADVERSARIAL = "adversarial"
"""Part of the name of programs whose steps search for critical samples."""


def program_key(trial: TrialConfig) -> tuple[Any, ...]:
    """Returns the key of the trial's program: trials with equal keys can be trained together."""
    model, optimizer, form = trial.model, trial.optimizer, tasks.form(trial)
    layout = (model.family, model.width, model.depth, model.cell, model.activation, trial.data.sequence_length)
    key = (*layout, *tasks.shape(trial), optimizer.name, optimizer.batch_size, trial.compute.dtype)
    # rare fields enter only where they differ from the default, so that stored program names stay valid
    compute = (trial.regularization.penalty, trial.compute.matmul)
    special: tuple[str, ...] = (optimizer.objective, "perturbed" if model.perturbation else "")
    # a user's network may read any field of the model, and all members share one module
    read = (*_LATER, *_OTHERS) if ":" in model.family else _LATER
    special += tuple(f"{name}={getattr(model, name)}" for name in read if getattr(model, name) != _DEFAULT[name])
    special += ("autocast",) if trial.compute.autocast != "none" else ()
    special += tuple(f"own.{name}={value!r}" for name, value in vars(member_names.shared(trial)).items())
    special += tuple(f"own.{name}" for name in member_names.names(trial))
    if tasks.reads_images(trial) and (image := tasks.image_of(trial))[1:] != (image[1],) * 2:
        special += (f"{image[1]}x{image[2]}",)
    special += ("targets",) * (not form.is_graded)
    special += ("weights",) * form.has_weights
    steps = (form.kind, form.vocabulary, form.given_steps, form.positions, optimizer.truncation)
    rare = (
        *(() if compute == ("none", "highest") else compute),
        *(() if special == ("cross_entropy", "") else special),
    )
    search = (
        (ADVERSARIAL,) if trial.regularization.adversarial else ()
    )  # the search would slow down the steps of other trials
    return (*key, *rare, *(steps if form.steps else ()), *search)


_OTHERS = ("gate_bias", "initialization")
"""Fields of the model that do not affect the program of a built-in network."""
_LATER = ("heads", "norm", "frozen_layers", "parametrization", "base_width")
"""Fields of the model that came after the first programs were named."""
_DEFAULT = {name: getattr(Model(), name) for name in (*_OTHERS, *_LATER)}


def program_name(trial: TrialConfig) -> str:
    """Returns the name of the trial's program, used as a key in files."""
    return " ".join(map(str, program_key(trial)))


def by_program(trials: Iterable[TrialConfig]) -> dict[str, list[TrialConfig]]:
    """Returns program name -> its trials, in their order."""
    programs: dict[str, list[TrialConfig]] = {}
    names: dict[tuple[int, ...], str] = {}  # by the groups of fields that replicates share
    for trial in trials:
        groups = tuple(map(id, _read_groups(trial))) if trial.data.task in TASKS else ()
        name = names.get(groups) or program_name(trial)
        programs.setdefault(name, []).append(trial)  # keeps the groups, and so their ids
        if groups:
            names[groups] = name
    return programs


_read_groups = attrgetter("model", "optimizer", "data", "compute", "regularization", "own", "members")
"""All that a program of a built-in task depends on."""


def share(trials: Iterable[TrialConfig], part: Part) -> set[str]:
    """Returns the ids of the trials of this part: of each program, a contiguous share in their order.

    trials: all of the launch, settled or not, so that the parts stay the same however often they are launched.
    """
    trial_ids: set[str] = set()
    for number, group in enumerate(by_program(trials).values()):
        first, end = part.bounds(len(group), number)
        trial_ids |= {trial.trial_id for trial in group[first:end]}
    return trial_ids


def describe(trial: TrialConfig) -> str:
    """Returns a readable description of the trial's program, for a table."""
    sizes: tuple[int | str, ...] = ("?", "?")
    with suppress(DataError):  # a file that has changed, in a worker that has not read it
        sizes = tasks.shape(trial)
    model, optimizer = trial.model, trial.optimizer
    images = {"cnn": 1, "resnet": model.depth}  # family -> its numbers of channels
    hidden = [f"({model.width})"] * images[model.family] if model.family in images else [model.width] * model.depth
    layers = "-".join(map(str, [sizes[0], *hidden, sizes[1]]))
    update = f"{optimizer.name} batch={optimizer.batch_size}"
    steps = trial.data.sequence_length
    how = f"T={steps}" if steps else model.activation
    return f"{model.family if model.cell == 'none' else model.cell} {layers} {how} {update} {trial.compute.dtype}"


def make_packs(trials: Iterable[TrialConfig], workers: int, slots: int, share: float = 1.0) -> list[Pack]:
    """Returns packs of one program each, the longest first, in a multiple of `workers` per program.

    slots: members trained at a time, at most.  Trials with similar budgets share a pack, so that they end together, and
    trials with the same inputs, so that the pack stores fewer copies.
    share: of the budgets, at which trials are paused; below 1, all trials of a pack are trained at the same time.
    """
    packs = [pack for group in by_program(trials).values() for pack in _packs_of_program(group, workers, slots, share)]
    return sorted(packs, key=lambda pack: -sum(trial.budget for trial in pack.trials))


def _packs_of_program(trials: list[TrialConfig], workers: int, slots: int, share: float) -> list[Pack]:
    places: dict[int, int] = {}  # of seeds of inputs, in the sweep's order; members with the same seed share inputs
    for trial in trials:
        places.setdefault(trial.stream_seed("inputs"), len(places))
    ordered = sorted(trials, key=lambda trial: (-trial.budget, places[trial.stream_seed("inputs")]))
    leave_early = share == 1 and any(trial.stop.fit for trial in trials)
    count = _rounds(len(ordered), slots * (WAVES if leave_early else 1), workers)
    bounds = [len(ordered) * i // count for i in range(count + 1)]
    return [Pack(tuple(ordered[a:b]), min(slots, b - a), share=share) for a, b in pairwise(bounds)]


def _rounds(trials: int, size: int, workers: int) -> int:
    """Returns the number of packs of at most `size` trials: a multiple of the workers, unless packs would be empty."""
    needed = -(-trials // size)
    return min(trials, -(-needed // workers) * workers)
