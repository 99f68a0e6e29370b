"""The user's code that a launch runs, and the stored code that its sweeps accept beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import NamedTuple

from memsweep.results import trial_state, wanted
from memsweep.results.storage.store import Store
from memsweep.spec import code
from memsweep.spec.code import Code
from memsweep.spec.config import ConfigError, TrialConfig
from memsweep.spec.sweep import SweepError

NAMED = 3
"""Most trials and definitions listed in a message."""
RERUN, KEEP = "rerun", "keep"
CHANGED = (RERUN, KEEP)
"""What a launch does with settled trials that ran other code: it runs them again, or mixes both codes on purpose."""


class _Other(NamedTuple):
    """Settled trials of a sweep that ran other code than their import paths now reach."""

    sweep: str
    imports: tuple[str, ...]
    before: str  # fingerprint of that code


class LaunchCode:
    """The code of a launch.

    store: None where nothing is stored yet.  changed: RERUN, KEEP, or None: `check` refuses changed code.
    accepted: trial_id -> fingerprints whose results count, filled as sweeps request trials; see `Store.accepting`.
    """

    def __init__(self, store: Store | None, changed: str | None = None):
        self.store = store
        self.changed = changed
        self.accepted: dict[str, frozenset[str]] = {}
        self.codes: dict[tuple[str, ...], Code] = {}  # by import paths
        self._of_sweep: dict[str, dict[str, frozenset[str]]] = {}  # sweep -> trial -> accepted by it
        self._before: dict[str, dict[str, frozenset[str]]] = {}  # the same of the sweeps' last launches
        self._others: dict[_Other, list[str]] = {}
        self._unknown = set[str]()

    def of(self, imports: tuple[str, ...]) -> Code:
        """Returns the code behind these import paths, as it was when the launch first read it."""
        if imports not in self.codes:
            self.codes[imports] = code.code_of(imports) if imports else code.NO_CODE
        return self.codes[imports]

    def expected(self, trials: Iterable[TrialConfig]) -> tuple[tuple[str, str], ...]:
        """Returns (import paths, fingerprint) of the code that workers must run for these trials."""
        paths = sorted({trial.imports for trial in trials})
        pairs = [(",".join(imports), self.of(imports).fingerprint) for imports in paths]
        return tuple((names, fingerprint) for names, fingerprint in pairs if fingerprint)

    def request(self, sweep: str, trials: Iterable[TrialConfig]) -> None:
        """Decides which code is accepted of the trials that a sweep requests."""
        for trial in trials:
            if trial.imports and (now := self.of(trial.imports).fingerprint):
                self._accept(sweep, trial, now)

    def request_stored(self, sweep: str) -> None:
        """Decides the same of the trials that the sweep's last launch wants, for `--add`."""
        names = ["configuration", "code_fingerprints"]
        for row in wanted.of_sweep(sweep, self.store, names).to_pylist() if self.store else ():
            if row["code_fingerprints"]:
                with suppress(ConfigError, ValueError):  # reported where the row is read
                    self.request(sweep, [TrialConfig.of(json.loads(row["configuration"]))])

    def text(self, sweep: str, trial_id: str) -> str | None:
        """Returns the fingerprints that a sweep accepts of a trial, as the table `wanted` holds them."""
        fingerprints = self._of_sweep.get(sweep, {}).get(trial_id)
        return None if fingerprints is None else ",".join(sorted(fingerprints))

    def check(self) -> None:
        """Raises SweepError for each sweep with settled trials that ran other code, unless `changed` is given."""
        if self._others and self.changed is None:
            raise SweepError([self._sentence(other, trial_ids) for other, trial_ids in self._others.items()])

    def remarks(self) -> list[str]:
        """Returns a message on settled trials whose code is unknown."""
        if not (count := len(self._unknown)):
            return []
        return [
            f"{count} stored trials ran code of yours that an older memsweep did not record: they count, whether or "
            "not the code has changed since."
        ]

    def _accept(self, sweep: str, trial: TrialConfig, now: str) -> None:
        trial_id, imports = trial.trial_id, trial.imports
        stored = self._stored.get(trial_id, {})
        same = {code for code, metrics in stored.items() if code and code == self._with_metrics(trial, metrics)}
        before = self._accepted_before(sweep).get(trial_id, frozenset())
        accepted = (before if now in before else frozenset((now,))) | same
        if None in stored:
            self._unknown.add(trial_id)
        others = frozenset(code for code in stored if code and code not in same)
        if self.changed == KEEP:
            accepted = accepted | before | others
        elif self.changed == RERUN:
            accepted = frozenset((now,)) | same
        elif others and now not in before and not self._is_settled(trial, stored, accepted):
            self._others.setdefault(_Other(sweep, imports, min(others)), []).append(trial_id)
        self._of_sweep.setdefault(sweep, {})[trial_id] = accepted
        self.accepted[trial_id] = self.accepted.get(trial_id, accepted) & accepted

    def _accepted_before(self, sweep: str) -> dict[str, frozenset[str]]:
        if sweep not in self._before:
            names = ["trial_id", "code_fingerprints"]
            rows = wanted.of_sweep(sweep, self.store, names).to_pylist() if self.store else []
            self._before[sweep] = {
                row["trial_id"]: frozenset(row["code_fingerprints"].split(","))
                for row in rows
                if row["code_fingerprints"]
            }
        return self._before[sweep]

    def _is_settled(self, trial: TrialConfig, stored: dict[str | None, str], accepted: frozenset[str]) -> bool:
        """Returns whether an attempt that counts has the wanted metrics."""
        counting = (metrics.split(",") for code, metrics in stored.items() if code is None or code in accepted)
        return any({*trial.metrics} <= {*metrics} for metrics in counting)

    def _with_metrics(self, trial: TrialConfig, metrics: str) -> str | None:
        """Returns the fingerprint of the trial's code with these metrics, which are no part of its identity."""
        names = tuple(filter(None, metrics.split(",")))
        imports = tuple(path for path in trial.imports if path not in trial.metrics)
        return self.of((*imports, *names)).fingerprint

    @cached_property
    def _stored(self) -> dict[str, dict[str | None, str]]:
        """Returns trial_id -> fingerprint -> metrics, for settled attempts, with whatever code."""
        if self.store is None:
            return {}
        rows = self.store.read("trials", ["trial_id", "code_fingerprint", "metrics", "status"])
        stored: dict[str, dict[str | None, str]] = {}
        columns = (column.to_pylist() for column in rows.columns)
        for trial_id, fingerprint, metrics, status in zip(*columns, strict=True):
            if trial_state.is_settled(status):
                stored.setdefault(trial_id, {})[fingerprint] = metrics or ""
        return stored

    def _sentence(self, other: _Other, trial_ids: Sequence[str]) -> str:
        parts = self._parts.get(other.before)
        names = code.changes(parts, self.of(other.imports).parts) if parts else []
        what = f" ({_listed(names)} changed)" if names else ""
        return (
            f"sweep {other.sweep}: {', '.join(other.imports)} is not the code that {len(trial_ids)} of its stored "
            f"trials ran{what}; trials {_listed(trial_ids)}. Restore the code; or launch with --changed rerun, which "
            "runs these trials again and keeps their rows apart; or with --changed keep, which mixes both on purpose."
        )

    @cached_property
    def _parts(self) -> dict[str, dict[str, str]]:
        """Returns fingerprint -> definitions of the code of earlier launches."""
        texts = self.store.current("launches", ["code"])["code"].to_pylist() if self.store else []
        return {fingerprint: parts for text in texts if text for fingerprint, parts in json.loads(text).items()}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
