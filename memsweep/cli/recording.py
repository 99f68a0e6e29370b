"""The verbs that record more of stored trials."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from memsweep.cli import DONE, ROUNDED, SOME_FAILED
from memsweep.cli.arguments import Keep, KeepOption, KeepStepsOption, ResultsOption, StoredSweepArgument, parsed_steps
from memsweep.cli.printing import say

OwnCodeOption = Annotated[
    bool, typer.Option("--own-code", help="Run code that the tables name by import path, if you trust them.")
]


def run(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="Id of a finished trial.")],
    probe: Annotated[list[str] | None, typer.Option("--probe", help="Probe to record. Repeatable.")] = None,
    probe_steps: Annotated[
        str | None, typer.Option("--probe-steps", metavar="N1,N2", help="Steps before the end at which it runs too.")
    ] = None,
    keep: KeepOption = Keep.NOTHING,
    keep_steps: KeepStepsOption = None,
    results: ResultsOption = "results",
    own_code: OwnCodeOption = False,
) -> None:
    """Run a stored trial again, here and alone, with more recorded; its numbers stay the same.

    Exit code 3 if its weights differ from the stored ones, as on another processor; 1 if it does not finish.

    Example: memsweep run 4f5b60d8c0b553aa --probe representations --keep weights
    """
    from memsweep.check import recording
    from memsweep.results.storage.store import Store
    from memsweep.spec.sweep import kept_probes

    names = [*(probe or ()), *kept_probes(keep.value)]
    steps = (*parsed_steps(probe_steps, "--probe-steps"), *parsed_steps(keep_steps))
    repeated = recording.repeat(Store(results), trial, names, steps, own_code=own_code)
    say(str(repeated))
    sys.exit(SOME_FAILED if repeated.status != "finished" else DONE if repeated.is_exact else ROUNDED)


def probe(
    sweep: StoredSweepArgument,
    probes: Annotated[list[str], typer.Argument(metavar="PROBE ...", help="Probes of trained networks.")],
    results: ResultsOption = "results",
    own_code: OwnCodeOption = False,
) -> None:
    """Run probes of the kept networks of a sweep's finished trials, at their end, without training.

    Exit code 1 if networks of some trials are not kept.

    Example: memsweep probe smoke representations
    """
    from memsweep.check import recording
    from memsweep.results.storage.store import Store

    done, left_out = recording.probe(Store(results), sweep, probes, own_code=own_code)
    say(f"{sweep}: {done} trials probed, {left_out} without a kept network at their end")
    if left_out:
        say("Launch the sweep with --keep weights, or with these probes, to train them again.")
        sys.exit(SOME_FAILED)
