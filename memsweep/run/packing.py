"""Which trials train together: packs of one program, long trainings first. Decides nothing about where or when."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

from memsweep.data import tasks
from memsweep.spec.config import Model, TrialConfig

WAVES = 4
"""Trials a slot serves, one after another, where a stopping rule lets members leave early."""


@dataclass(frozen=True)
class Pack:
    """An ordered list of trials of one program, and how many of them train at a time."""

    trials: tuple[TrialConfig, ...]
    slots: int
    mode: str = "fused"  # or "serial": members in turn
    compiled: bool = False
    compared: bool = False  # one of its members is run again, alone
    share: float = 1.0  # of their budgets, at which its trials are paused
    sources: tuple[tuple[str, str], ...] = ()  # (split, fingerprint of its data as the launch began); see sources.py

    @property
    def pack_id(self) -> str:
        """12 hexadecimal digits that name the trials and their order."""
        text = ",".join([str(self.slots), *(trial.trial_id for trial in self.trials)])
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @property
    def steps(self) -> int:
        """Steps of all its members, as far as their share goes."""
        return sum(trial.pause(self.share) for trial in self.trials)

    def to_json(self) -> str:
        """The pack as text: the first trial's fields, then how each trial differs from it."""
        flat = [{**trial.flat(), "seed": trial.seed} for trial in self.trials]
        changes = [{name: value for name, value in fields.items() if value != flat[0][name]} for fields in flat]
        how = {name: getattr(self, name) for name in _HOW}
        return json.dumps({"base": flat[0], "changes": changes, **how, "sources": self.sources}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Pack:
        values = json.loads(text)
        base = TrialConfig.of(values["base"])
        trials = tuple(base.with_fields(change) for change in values["changes"])
        sources = tuple((split, data) for split, data in values["sources"])
        return replace(cls(trials, *(values[name] for name in _HOW)), sources=sources)


_HOW = ("slots", "mode", "compiled", "compared", "share")


class Tally(NamedTuple):
    """How far a launch is, or one pack of it. A step is one of a member."""

    settled: int = 0  # trials that were written, whatever their status
    failed: int = 0  # of these, ended by an error
    trained: int = 0  # steps
    left: int = 0  # steps still to be trained; a trial that ends early leaves none
    steps: int = 0  # in all, of the packs that were asked for so far, with those that checkpoints held


CANNOT_BE_FUSED = "ran in turn, because its members can't be fused: "
"""Before the user's line, in `packs.cause`."""
ADVERSARIAL = "adversarial"
"""In the name of programs whose steps search for critical samples."""


def program_key(trial: TrialConfig) -> tuple[Any, ...]:
    """What splits packs: trials with equal keys can be trained together."""
    model, optimizer, form = trial.model, trial.optimizer, tasks.form(trial)
    layout = (model.family, model.width, model.depth, model.cell, model.activation, trial.data.sequence_length)
    key = (*layout, *tasks.shape(trial), optimizer.name, optimizer.batch_size, trial.compute.dtype)
    # what most trials do not have is told where it differs, so that names of programs stay
    later = (trial.regularization.penalty, trial.compute.matmul)
    own: tuple[str, ...] = (optimizer.objective, "perturbed" if model.perturbation else "")
    if ":" in model.family:  # it may read any field of the model, and all members share one module
        own += tuple(f"{name}={getattr(model, name)}" for name in _OTHERS if getattr(model, name) != _DEFAULT[name])
    steps = (form.kind, form.vocabulary, form.given_steps, form.positions, optimizer.truncation)
    rare = (*(() if later == ("none", "highest") else later), *(() if own == ("cross_entropy", "") else own))
    sought = (ADVERSARIAL,) if trial.regularization.adversarial else ()  # a search that would make others' steps long
    return (*key, *rare, *(steps if form.steps else ()), *sought)


_OTHERS = ("gate_bias", "initialization")
"""Fields of the model that are no part of the program of a network of ours."""
_DEFAULT = {name: getattr(Model(), name) for name in _OTHERS}


def program_name(trial: TrialConfig) -> str:
    """The program of a trial as a key of files."""
    return " ".join(map(str, program_key(trial)))


def by_program(trials: Iterable[TrialConfig]) -> dict[str, list[TrialConfig]]:
    """Program name -> its trials, in their order."""
    programs: dict[str, list[TrialConfig]] = {}
    for trial in trials:
        programs.setdefault(program_name(trial), []).append(trial)
    return programs


def describe(trial: TrialConfig) -> str:
    """The program of a trial, in words for a table."""
    input_dim, classes = tasks.shape(trial)
    model, optimizer = trial.model, trial.optimizer
    hidden = [f"({model.width})"] if model.family == "cnn" else [model.width] * model.depth
    layers = "-".join(map(str, [input_dim, *hidden, classes]))
    update = f"{optimizer.name} batch={optimizer.batch_size}"
    steps = trial.data.sequence_length
    how = f"T={steps}" if steps else model.activation
    return f"{model.family if model.cell == 'none' else model.cell} {layers} {how} {update} {trial.compute.dtype}"


def make_packs(trials: Iterable[TrialConfig], workers: int, slots: int, share: float = 1.0) -> list[Pack]:
    """Packs of one program each, the longest first, a multiple of `workers` of each program.

    slots: members trained at a time, at most.  Trials whose budgets are alike share a pack, so that they end together.
    share: of their budgets, at which they are paused; then all of a pack are trained at the same time.
    """
    packs = [pack for group in by_program(trials).values() for pack in _packs_of_program(group, workers, slots, share)]
    return sorted(packs, key=lambda pack: -sum(trial.budget for trial in pack.trials))


def _packs_of_program(trials: list[TrialConfig], workers: int, slots: int, share: float) -> list[Pack]:
    ordered = sorted(trials, key=lambda trial: -trial.budget)  # stable: equals stay in the sweep's order
    leave_early = share == 1 and any(trial.stop.fit for trial in trials)
    count = _rounds(len(ordered), slots * (WAVES if leave_early else 1), workers)
    bounds = [len(ordered) * i // count for i in range(count + 1)]
    return [Pack(tuple(ordered[a:b]), min(slots, b - a), share=share) for a, b in pairwise(bounds)]


def _rounds(trials: int, size: int, workers: int) -> int:
    """Number of packs of at most `size` trials: a multiple of the workers, unless that leaves packs empty."""
    needed = -(-trials // size)
    return min(trials, -(-needed // workers) * workers)
