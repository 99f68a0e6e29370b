"""The verbs that run sweeps, and the verbs that show what a launch would run."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memsweep.cli import DONE, INTERRUPTED, SOME_FAILED
from memsweep.cli.arguments import (
    AddOption,
    BudgetOption,
    ChangedOption,
    CheckpointOption,
    Compile,
    CompileOption,
    DeviceOption,
    FormatOption,
    Keep,
    KeepOption,
    KeepStepsOption,
    LimitOption,
    MembersOption,
    PartOption,
    PatienceOption,
    ResultsOption,
    RetryOption,
    SetOption,
    SweepArgument,
    SweepsArgument,
    TrackingOption,
    WorkersOption,
    WorkersPerGpuOption,
    YesOption,
    check_listed,
    confirmed,
    launch_options,
    load,
    load_all,
    parsed_steps,
)
from memsweep.cli.printing import Format, duration, print_rows, say
from memsweep.cli.quick import without_pandas
from memsweep.run.recovery.interruption import as_ctrl_c

if TYPE_CHECKING:
    from memsweep.results.storage.store import Store
    from memsweep.run.launch_report import Report
    from memsweep.run.preview import Preview

COUNTS = ("wanted", "settled_before", "ran", "failed", "missing", "interrupted", "gained_steps")
"""Columns of the row that a launch prints, after its sweeps."""
RowOption = Annotated[
    Format | None, typer.Option("--format", help="Also print the result as a row; default: only as text.")
]
AcceptFailedOption = Annotated[
    bool, typer.Option("--accept-failed", help="Exit with 0 although trials failed, if none is missing.")
]


def plan(
    sweep: SweepArgument,
    results: ResultsOption = "results",
    overrides: SetOption = None,
    limit: LimitOption = None,
    members: MembersOption = None,
    device: DeviceOption = None,
    compiling: CompileOption = Compile.AUTO,
    retry: RetryOption = False,
    changed: ChangedOption = None,
    keep: KeepOption = Keep.NOTHING,
    keep_steps: KeepStepsOption = None,
    workers: WorkersOption = None,
    workers_per_gpu: WorkersPerGpuOption = 1,
    hourly_price: Annotated[float | None, typer.Option(min=0, help="Price of a worker's machine per hour.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show the trials, packs, memory, time and price of a launch, as measured on this machine; start nothing.

    Example: memsweep plan generalization --set seeds=0:50
    """
    from memsweep.run.preview import preview

    loaded, store = load(sweep, overrides), _store_if_there(results)
    check_listed(loaded, limit)
    options = launch_options(
        limit=limit, members=members, workers=workers, workers_per_gpu=workers_per_gpu, device=device,
        compiling=compiling, retry=retry, changed=changed, keep=keep, keep_steps=keep_steps,
    )  # fmt: skip
    launch = preview(loaded, store, options, say)
    row, seconds = _plan_row(launch), launch.estimate.seconds
    if output is Format.TABLE:
        del row["seconds"], row["seconds_error"]
        row |= {"time": duration(seconds), "time_error": duration(seconds * launch.estimate.error)}
    if loaded.search is not None:
        number, most = launch.replay.number, loaded.search.most(loaded)
        row |= {"search": loaded.search.name, "round": number, "trials_at_most": most}
        say(f"{launch.replay.progress}. Packs, memory and time are those of this round.")
    if hourly_price is not None:
        row["price"] = round(seconds / 3600 * row["workers"] * hourly_price, 2)
    if launch.estimate.kept_bytes:
        row["weights_mib"] = round(launch.estimate.kept_bytes / 2**20, 3)
    if launch.estimate.state_bytes:
        row["states_mib"] = round(launch.estimate.state_bytes / 2**20, 3)
    print_rows([row], output, vertical=True)


def _plan_row(launch: Preview) -> dict[str, Any]:
    """Returns the row of `plan` that programs read."""
    work, packs, programs, estimate = launch.work, launch.packs, launch.programs.values(), launch.estimate
    return {
        "sweep": launch.replay.sweep.name,
        "wanted": len(work.wanted),
        "settled": len(work.settled),
        "failed": len(work.failed),
        "missing": len(launch.due),
        "packs": len(packs),
        "members_at_a_time": max((pack.slots for pack in packs), default=0),
        "workers": min(launch.workers, len(packs)),
        "device": launch.device,
        "programs": len(programs),
        "compiled_programs": sum(program.compiled for program in programs),
        "programs_in_turn": sum(program.mode == "serial" for program in programs),
        "memory_mib_a_worker": round(estimate.bytes_a_worker / 2**20, 1),
        "seconds": round(estimate.seconds, 1),
        "seconds_error": round(estimate.seconds * estimate.error, 1),
    }


@as_ctrl_c()
def launch(
    sweeps: SweepsArgument,
    results: ResultsOption = "results",
    overrides: SetOption = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster; default: a cluster on this machine.")
    ] = None,
    members: MembersOption = None,
    limit: LimitOption = None,
    part: PartOption = None,
    budget: BudgetOption = None,
    patience: PatienceOption = "10m",
    checkpoint: CheckpointOption = "30s",
    workers: WorkersOption = None,
    workers_per_gpu: WorkersPerGpuOption = 1,
    device: DeviceOption = None,
    compiling: CompileOption = Compile.AUTO,
    retry: RetryOption = False,
    yes: YesOption = False,
    add: AddOption = False,
    changed: ChangedOption = None,
    keep: KeepOption = Keep.NOTHING,
    keep_steps: KeepStepsOption = None,
    tracking_uri: TrackingOption = None,
    accept_failed: AcceptFailedOption = False,
    output: RowOption = None,
) -> None:
    """Run the missing trials of sweeps and store them. The same command again runs only trials that are still missing.

    The last launch of a sweep defines its trials. Other trials stay stored; --add keeps them in the sweep.

    Several sweeps run without a pause between them; a trial of several sweeps runs once. MLflow is filled in the
    background; --tracking-uri none turns it off.

    Example: memsweep launch generalization --results results --set model.width=16,32
    """
    from memsweep.cli.progress import Progress
    from memsweep.results.storage.store import Store
    from memsweep.run import launcher

    loaded = load_all(sweeps, overrides)
    without_pandas(loaded)
    options = launch_options(
        limit=limit, part=part, members=members, workers=workers, workers_per_gpu=workers_per_gpu, device=device,
        compiling=compiling, retry=retry, add=add, changed=changed, keep=keep, keep_steps=keep_steps, budget=budget,
        patience=patience, checkpoint=checkpoint, tracking_uri=tracking_uri,
    )  # fmt: skip
    _check_compiler(compiling, address)
    options = replace(options, address=address, yes=confirmed(loaded, yes))
    title = launcher.title(loaded, options.part)
    try:
        with Progress(title) as progress:
            report = launcher.launch(loaded, Store(results, create=True), options, progress.update)
    except KeyboardInterrupt:  # no pack was in training
        say(f"{title}: interrupted. All trials that ended are stored; launch again to continue.")
        sys.exit(INTERRUPTED)
    say(str(report))
    if output:
        print_rows([{"sweeps": report.title, **{name: getattr(report, name) for name in COUNTS}}], output)
    sys.exit(_exit_code(report, has_budget=bool(budget), accepts_failed=accept_failed))


def _check_compiler(compiling: Compile, address: str | None) -> None:
    """Raises typer.BadParameter where a launch on this machine is to compile without a compiler."""
    from memsweep.run.policy.execution_plan import has_compiler

    if not address and compiling == Compile.ALWAYS and not has_compiler():
        raise typer.BadParameter(
            "this machine has no C++ compiler. Install g++, or name a compiler in CXX.", param_hint="--compile"
        )


def _exit_code(report: Report, *, has_budget: bool, accepts_failed: bool) -> int:
    if report.unfinished and not has_budget:
        return INTERRUPTED if report.interrupted else SOME_FAILED
    return SOME_FAILED if report.failed and not accepts_failed else DONE


def missing(
    sweep: SweepArgument,
    results: ResultsOption = "results",
    overrides: SetOption = None,
    limit: LimitOption = None,
    members: MembersOption = None,
    changed: ChangedOption = None,
    keep: KeepOption = Keep.NOTHING,
    keep_steps: KeepStepsOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List the trials still to run, with their seeds and varied fields; for a search, those of the current round.

    Example: memsweep missing generalization --format jsonl
    """
    from memsweep.run import given_data
    from memsweep.run.rounds.launch_code import LaunchCode
    from memsweep.run.rounds.replay import Replay
    from memsweep.spec.search.rounds import varied

    loaded = load(sweep, overrides).keeping(keep.value, parsed_steps(keep_steps))
    without_pandas([loaded])
    check_listed(loaded, limit)
    store = _store_if_there(results)
    given_data.prepare([loaded], store)
    code = LaunchCode(store, changed.value if changed else None)
    replay = Replay(loaded, store, limit=limit, retry=True, code=code)
    code.check()
    names = ["seed", *loaded.axis_names, *getattr(loaded.search, "space", ())]
    rows = [
        {"trial_id": trial.trial_id, **dict(zip(names, varied(names, trial), strict=True))}
        for trial in replay.missing(retry=True)
    ]
    print_rows(rows, output, columns=("trial_id", *names))


def _store_if_there(results: str) -> Store | None:
    from memsweep.results.storage.store import store_if_there

    return store_if_there(results)
