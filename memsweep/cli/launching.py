"""The verbs that run sweeps, and those that show what would run."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from memsweep.cli import DONE, INTERRUPTED, SOME_FAILED
from memsweep.cli.arguments import (
    AddOption,
    BudgetOption,
    CheckpointOption,
    Compile,
    CompileOption,
    DeviceOption,
    FormatOption,
    LimitOption,
    MembersOption,
    PatienceOption,
    ResultsOption,
    RetryOption,
    SetOption,
    SweepArgument,
    SweepsArgument,
    TrackingOption,
    WorkersOption,
    YesOption,
    check_shown,
    confirmed,
    load,
    load_all,
    parsed_budget,
    parsed_seconds,
    words_of,
)
from memsweep.cli.printing import Format, duration, print_rows, say

if TYPE_CHECKING:
    from memsweep.results.storage.store import Store
    from memsweep.run.policy.calibration import Calibration
    from memsweep.spec.config import TrialConfig


def plan(
    sweep: SweepArgument,
    results: ResultsOption = "results",
    overrides: SetOption = None,
    limit: LimitOption = None,
    members: MembersOption = None,
    device: DeviceOption = None,
    compiling: CompileOption = Compile.AUTO,
    retry: RetryOption = False,
    workers: WorkersOption = None,
    hourly_price: Annotated[float | None, typer.Option(min=0, help="Of the machine of one worker.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show trials, packs, memory and time, by this machine's speed, and their price; start nothing.

    Example: memsweep plan generalization --set seeds=0:50
    """
    from memsweep.data import tasks
    from memsweep.run import checkpoints
    from memsweep.run import plan as planning
    from memsweep.run.policy import execution_plan, protocols
    from memsweep.run.rounds.asking import Asking
    from memsweep.run.worker import sources

    loaded, store = load(sweep, overrides), _store_if_there(results)
    check_shown(loaded, limit)
    asking = Asking(loaded, store, limit=limit, retry=retry)
    work, due = planning.work(list(asking.trials.values()), store, retry=retry), asking.missing(retry=retry)
    planning.check(due)
    remarks = (protocols.remark(due, store), *sources.changed(work.wanted, store), *tasks.remarks(due))
    for sentence in filter(None, [*asking.remarks, *remarks]):
        say(sentence)
    chosen = device.value if device else planning.local_device()
    at_a_time = workers or planning.local_workers(chosen)
    measuring = 0.0

    def calibrate(groups: list[list[TrialConfig]], where: str) -> list[Calibration | None]:
        nonlocal measuring
        began = time.perf_counter()
        measured = planning.calibrate_here(groups, where)
        measuring = (time.perf_counter() - began) / min(at_a_time, len(groups))  # as the workers divide the programs
        return measured

    programs = execution_plan.choose(due, store, chosen, at_a_time, compiling=compiling.wish, calibrate=calibrate)
    share = asking.round.share if asking.round else 1.0
    is_searched = loaded.search is not None
    saved = checkpoints.stored(store) if store and not is_searched else ()
    packs = planning.packs(due, at_a_time, members, programs, saved, share, is_searched)
    reached = checkpoints.steps(store) if store else {}
    estimate = planning.estimate(packs, chosen, at_a_time, measuring=measuring, reached=reached)
    row = {
        "sweep": loaded.name,
        "wanted": len(work.wanted),
        "settled": len(work.settled),
        "failed": len(work.failed),
        "missing": len(due),
        "packs": len(packs),
        "members_at_a_time": max((pack.slots for pack in packs), default=0),
        "workers": min(at_a_time, len(packs)),
        "device": chosen,
        "programs": len(programs),
        "compiled_programs": sum(choice.compiled for choice in programs.values()),
        "programs_in_turn": sum(choice.mode == "serial" for choice in programs.values()),
        "memory_mib_a_worker": round(estimate.bytes_a_worker / 2**20, 1),
        "seconds": round(estimate.seconds, 1),
        "seconds_error": round(estimate.seconds * estimate.error, 1),
    }
    if output is Format.TABLE:
        del row["seconds"], row["seconds_error"]
        row |= {"time": duration(estimate.seconds), "time_error": duration(estimate.seconds * estimate.error)}
    if loaded.search is not None:
        row |= {"search": loaded.search.name, "round": asking.number, "trials_at_most": loaded.search.most(loaded)}
        say(f"{asking.said}. Packs, memory and time are those of this round.")
    if hourly_price is not None:
        row["price"] = round(estimate.seconds / 3600 * min(at_a_time, len(packs)) * hourly_price, 2)
    print_rows([row], output, vertical=True)


def launch(
    sweeps: SweepsArgument,
    results: ResultsOption = "results",
    overrides: SetOption = None,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster; default: one of its own, here.")] = None,
    members: MembersOption = None,
    limit: LimitOption = None,
    budget: BudgetOption = None,
    patience: PatienceOption = "10m",
    checkpoint: CheckpointOption = "30s",
    workers: WorkersOption = None,
    device: DeviceOption = None,
    compiling: CompileOption = Compile.AUTO,
    retry: RetryOption = False,
    yes: YesOption = False,
    add: AddOption = False,
    tracking_uri: TrackingOption = None,
    output: Annotated[
        Format | None, typer.Option("--format", help="Print how it ended as a row too; default: only as a sentence.")
    ] = None,
) -> None:
    """Run what is missing of a sweep and store it. The same command again finishes the rest and repeats nothing.

    The last launch says which trials the sweep wants; those of earlier ones stay stored, and --add keeps them wanted.

    Several sweeps run one after another, without a pause; a trial that several want runs once. MLflow is filled beside
    them, in the background; --tracking-uri none fills none.

    Example: memsweep launch generalization --results results --set model.width=16,32
    """
    from memsweep.cli.progress import Progress
    from memsweep.results.storage.store import Store
    from memsweep.run import launcher
    from memsweep.run.launch_options import LaunchOptions
    from memsweep.run.policy import execution_plan

    loaded = load_all(sweeps, overrides)
    options = LaunchOptions(
        address=address,
        workers=workers,
        members=members,
        limit=limit,
        device=device.value if device else None,
        compiling=compiling.wish,
        retry=retry,
        add=add,
        budget=parsed_budget(budget),
        patience_seconds=parsed_seconds(patience, "--patience"),
        checkpoint_seconds=parsed_seconds(checkpoint, "--checkpoint"),
        tracking_uri=tracking_uri,
    )
    if compiling == Compile.ALWAYS and not address and not execution_plan.has_compiler():
        raise typer.BadParameter("no C++ compiler is here: install g++, or name one in CXX.", param_hint="--compile")
    options = replace(options, yes=confirmed(loaded, yes))
    store = Store(results, create=True)
    title = launcher.title(loaded)
    try:
        with Progress(title) as progress:
            report = launcher.launch(loaded, store, options, progress.update)
    except KeyboardInterrupt:  # while no pack was in training
        say(f"{title}: interrupted; what was finished is stored. Launch again to go on.")
        sys.exit(INTERRUPTED)
    say(str(report))
    if output:
        names = ("wanted", "settled_before", "ran", "failed", "missing", "interrupted")
        print_rows([{"sweeps": report.title, **{name: getattr(report, name) for name in names}}], output)
    if report.unfinished and not budget:
        sys.exit(INTERRUPTED if report.interrupted else SOME_FAILED)
    sys.exit(SOME_FAILED if report.failed else DONE)


def submit(
    sweeps: SweepsArgument,
    address: Annotated[str, typer.Option(metavar="http://HEAD:8265", help="Of a running cluster's dashboard.")],
    results: ResultsOption = "results",
    overrides: SetOption = None,
    members: MembersOption = None,
    limit: LimitOption = None,
    budget: BudgetOption = None,
    patience: PatienceOption = "10m",
    checkpoint: CheckpointOption = "30s",
    workers: WorkersOption = None,
    device: DeviceOption = None,
    compiling: CompileOption = Compile.AUTO,
    retry: RetryOption = False,
    yes: YesOption = False,
    add: AddOption = False,
    tracking_uri: TrackingOption = None,
    follow: Annotated[bool, typer.Option(help="Show its progress until it ends; Ctrl-C leaves it running.")] = True,
) -> None:
    """Send a launch to a running Ray cluster as a job, with the current folder; it goes on without this terminal.

    Results must be where all machines reach them. Exit code 1 when the job does not end well.

    Example: memsweep submit generalization --address http://127.0.0.1:8265 --results s3://bucket/results --device cuda
    """
    from memsweep.results.mlflow.background import NO_TRACKING, checked, shown
    from memsweep.run import jobs

    yes = confirmed(load_all(sweeps, overrides), yes)  # invalid arguments are rejected before anything is sent
    parsed_budget(budget)
    for option, text in (("--patience", patience), ("--checkpoint", checkpoint)):
        parsed_seconds(text, option)
    if tracking_uri and shown(tracking_uri) != tracking_uri:
        raise typer.BadParameter(
            "holds a password, which whoever sees the job would see: set MLFLOW_TRACKING_URI on the cluster instead.",
            param_hint="--tracking-uri",
        )
    if tracking_uri and tracking_uri != NO_TRACKING:
        checked(tracking_uri)
    arguments = words_of(
        {
            "--set": overrides,
            "--members": members,
            "--limit": limit,
            "--budget": budget,
            "--patience": patience,
            "--checkpoint": checkpoint,
            "--workers": workers,
            "--device": device and device.value,
            "--compile": compiling.value,
            "--retry": retry,
            "--yes": yes,
            "--add": add,
            "--tracking-uri": tracking_uri,
        }
    )
    job = jobs.submit(sweeps, address, results, arguments, say)
    print(job.name, flush=True)
    say(f"{job.name} runs on {address}; {job.commands}")
    if not follow:
        return
    try:
        succeeded = job.follow(lambda text: print(text, end="", file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        say(f"\n{job.name} goes on; {job.commands}")
        return
    sys.exit(DONE if succeeded else SOME_FAILED)


def missing(
    sweep: SweepArgument,
    results: ResultsOption = "results",
    overrides: SetOption = None,
    limit: LimitOption = None,
    members: MembersOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List the trials still to run, one a line, with what tells them apart; of a search, those of the round at hand.

    Example: memsweep missing generalization --format jsonl
    """
    from memsweep.run.rounds.asking import Asking
    from memsweep.spec.search.rounds import varied

    loaded = load(sweep, overrides)
    check_shown(loaded, limit)
    asking = Asking(loaded, _store_if_there(results), limit=limit, retry=True)
    names = ["seed", *loaded.axis_names, *getattr(loaded.search, "space", ())]
    rows = [
        {"trial_id": trial.trial_id, **dict(zip(names, varied(names, trial), strict=True))}
        for trial in asking.missing(retry=True)
    ]
    print_rows(rows, output, columns=("trial_id", *names))


def _store_if_there(results: str) -> Store | None:
    from memsweep.results.storage.store import store_if_there

    return store_if_there(results)
