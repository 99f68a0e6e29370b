"""The result of a launch, for people: in counts of trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from memsweep.spec import html

NAMED = 3
"""Most causes of failures shown."""


@dataclass(frozen=True, repr=False)
class Report:
    """The result of a launch, in counts of trials. As text, the command line's summary."""

    title: str  # the sweeps
    results: str  # the folder
    wanted: int
    settled_before: int
    ran: int  # of the wanted, trials that ended during this launch, whatever their status
    failed: int  # of the wanted, now or before, ended by an error
    missing: int  # of the wanted, left for the next launch
    interrupted: bool
    remarks: tuple[str, ...] = ()  # messages on problems in the folder and on the trials
    tracking: str | None = None  # message on where MLflow is filled in the background, or why not
    causes: Mapping[str, int] = field(default_factory=dict)  # of failures, with advice -> trials, the most first
    saved: tuple[int, int, int] = (0, 0, 0)  # of the missing: trials that checkpoints hold, their steps, those of all
    unfinished: int = 0  # of the missing, those within the limit of this launch
    gained_steps: int = 0  # by this launch: budgets of ended trials, and steps in checkpoints

    def __str__(self) -> str:
        done = self.wanted - self.failed - self.missing
        lines = [
            f"{self.title}: {done} of {self.wanted} trials finished, {self.ran} of them run now, {self.failed} failed, "
            f"{self.missing} missing; in {self.results}"
        ]
        for cause, count in list(self.causes.items())[:NAMED]:
            lines.append(f"{count} {cause}")
        if self.failed:
            others = f"{len(self.causes) - NAMED} other causes. " if len(self.causes) > NAMED else ""
            lines.append(
                f"{others}memsweep status --results {self.results} lists the failed trials; --retry (retry=True) runs "
                "them again"
            )
        if self.missing:
            trials, steps, all_steps = self.saved
            how_far = (
                f"checkpoints hold {trials} of them, with {steps:,} of all {all_steps:,} steps"
                if trials
                else "no checkpoint holds their steps"
            )
            lines.append(f"Launch again to continue with the {self.missing} missing trials: {how_far}.")
        return "\n".join([*lines, *filter(None, [*self.remarks, self.tracking])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        done = self.wanted - self.failed - self.missing
        counts = {"wanted": self.wanted, "finished": done, "run now": self.ran, "failed": self.failed}
        _, *notes = str(self).splitlines()
        title = f"{self.title}{', interrupted' if self.interrupted else ''}: trials in {self.results}"
        return html.table(
            [*counts, "missing"], [[f"{count:,}" for count in (*counts.values(), self.missing)]], title, notes
        )
