"""Rounds of a search for the best configuration by Optuna's ask-and-tell interface. Only this file imports Optuna."""

from __future__ import annotations

import itertools
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from memsweep.run.policy import protocols
from memsweep.spec.config import ConfigError, TrialConfig
from memsweep.spec.fields import own
from memsweep.spec.search import objectives
from memsweep.spec.search.best import BestSearch, Range
from memsweep.spec.search.rounds import Ends, Round, RoundGenerator
from memsweep.spec.sweep import Sweep

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Proposal:
    """A configuration proposed by Optuna: one trial per seed; no trials where it is invalid."""

    def __init__(self, optuna_trial: Trial, sweep: Sweep):
        self.optuna_trial = optuna_trial
        self.trials: tuple[TrialConfig, ...] = ()
        try:
            self.trials = tuple(protocols.current(base.with_fields(optuna_trial.params)) for base in sweep)
        except ConfigError as error:
            optuna_trial.set_user_attr("refused", str(error))

    @property
    def setting_id(self) -> str:
        """Returns the setting of the configuration."""
        return self.trials[0].setting_id

    def values(self, search: BestSearch, ends: Ends) -> list[float]:
        """Returns the means over seeds of each objective; nan where a seed has no value."""
        return [
            fmean(objectives.value(name, ends[trial.trial_id]) for trial in self.trials) if self.trials else math.nan
            for name in search.objectives
        ]


def rounds(search: BestSearch, sweep: Sweep, keep: Callable[[bytes], None]) -> RoundGenerator:
    """Yields rounds of configurations that Optuna proposes, and reports their values to it; returns the result as text.

    keep: called after each round with the study as the content of an Optuna journal.
    """
    space = {name: _distribution(name, values) for name, values in search.space.items()}
    left = search.configurations
    storage = InMemoryStorage()
    study = optuna.create_study(
        storage=storage, study_name=sweep.name, sampler=_sampler(search), directions=list(search.objectives.values())
    )
    if search.sampler == "grid":  # Optuna's grid sampler stops the study by itself
        lists = [values for values in search.space.values() if not isinstance(values, Range)]
        points = list(itertools.product(*lists))[:left]
        for point in points:
            study.enqueue_trial(dict(zip(search.space, point, strict=True)))
        left = len(points)
    given_up: set[str] = set()  # settings
    while left > 0:
        proposals = [Proposal(study.ask(space), sweep) for _ in range(min(left, search.at_a_time))]
        left -= len(proposals)
        yield from _rungs(search, study, proposals, left, given_up)
        keep(_journal(study, storage))
    return _result(search, study)


def _rungs(
    search: BestSearch, study: optuna.Study, proposals: list[Proposal], left: int, gone: set[str]
) -> RoundGenerator:
    """Yields the rungs of these proposals, the last with the whole budget; reports each result to the study.

    gone: settings that were given up; this function adds to it. A setting that is proposed again stays given up.
    """
    alive, given_up = list[Proposal](), list[Proposal]()
    for proposal in proposals:
        if not proposal.trials:
            study.tell(proposal.optuna_trial, state=TrialState.FAIL)
        elif proposal.setting_id in gone:
            study.tell(proposal.optuna_trial, state=TrialState.PRUNED)
        else:
            alive.append(proposal)
    for share in search.rungs():
        if not alive:
            break
        trials = {
            trial.trial_id: trial for proposal in alive for trial in proposal.trials
        }  # a setting may be proposed twice
        ends = yield Round(
            tuple(trials.values()),
            f"{len(alive)} configurations at {share:.0%} of their budget, {left} not yet proposed; {_so_far(study)}",
            share,
            tuple(trial for proposal in given_up for trial in proposal.trials if trial.trial_id not in trials),
        )
        results = [(proposal, proposal.values(search, ends)) for proposal in alive]
        given_up = []
        ranked = [(proposal, values) for proposal, values in results if not any(map(math.isnan, values))]
        for proposal, values in results:
            if any(map(math.isnan, values)):
                study.tell(proposal.optuna_trial, state=TrialState.FAIL)
            elif share == 1.0:
                study.tell(proposal.optuna_trial, values)
        if share == 1.0:
            break
        maximizes = next(iter(search.objectives.values())) == "maximize"
        ranked.sort(key=lambda result: -result[1][0] if maximizes else result[1][0])  # stable: ties keep their order
        survivors = ranked[: math.ceil(len(ranked) / search.halving)]
        for proposal, (value,) in ranked:
            proposal.optuna_trial.report(value, round(1000 * share))
        for proposal, _ in ranked[len(survivors) :]:
            study.tell(proposal.optuna_trial, state=TrialState.PRUNED)
            given_up.append(proposal)
        alive = [proposal for proposal, _ in survivors]
        gone |= {proposal.setting_id for proposal in given_up} - {proposal.setting_id for proposal in alive}
    return ""


def _sampler(search: BestSearch) -> BaseSampler:
    if search.sampler == "tpe":
        return TPESampler(seed=search.seed, multivariate=True, n_startup_trials=min(10, search.at_a_time))
    if search.sampler == "quasi_random":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # since Optuna 3.0
            return QMCSampler(seed=search.seed, scramble=True, warn_asynchronous_seeding=False)
    return RandomSampler(seed=search.seed)


def _distribution(name: str, values: Range | Sequence[Any]) -> BaseDistribution:
    if not isinstance(values, Range):
        return CategoricalDistribution(list(own.widened(values) if own.is_own(name) else values))
    if values.kind(name) is int:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _journal(study: optuna.Study, storage: InMemoryStorage) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        copy = JournalStorage(JournalFileBackend(str(path)))
        optuna.copy_study(from_study_name=study.study_name, from_storage=storage, to_storage=copy)
        return path.read_bytes()


def _so_far(study: optuna.Study) -> str:
    done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if not done:
        return "none complete yet"
    if len(study.directions) > 1:
        return f"{len(study.best_trials)} on the Pareto front"
    return f"best so far {study.best_value:.4g}"


def _result(search: BestSearch, study: optuna.Study) -> str:
    done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if not done:
        return "No configuration has a value of the objective at its end; memsweep status shows the causes of failures."
    sentences = [
        ", ".join([*(f"{name} {value:.4g}" for name, value in zip(search.objectives, best.values, strict=True))])
        + " at "
        + ", ".join(f"{name}={value}" for name, value in best.params.items())
        for best in sorted(study.best_trials, key=lambda trial: trial.values)
    ]
    front = "Best of" if len(search.objectives) == 1 else f"Pareto front, {len(sentences)} of"
    return f"{front} {len(done)} complete configurations: {'; '.join(sentences)}."
