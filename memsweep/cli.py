"""The verbs. Only here anything is said or ended; each verb imports its heavy rooms itself, so that help is instant."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from memsweep.arguments import (
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
    load,
    parsed_budget,
    parsed_seconds,
    words_of,
)
from memsweep.printing import Format, print_rows, print_table

if TYPE_CHECKING:
    from memsweep.results.location import Location
    from memsweep.results.store import Store

DONE, SOME_FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    help="Sweeps that measure memorization, capacity and generalization in deep networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """The command `memsweep`: every expected error is one message and exit code 2."""
    from memsweep.config import ConfigError

    try:
        app(prog_name="memsweep")
    except ConfigError as error:
        _refuse(error)
    except KeyboardInterrupt:
        print("memsweep: interrupted; what was finished is stored.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if type(error).__module__.startswith("memsweep."):
            _refuse(error)
        raise


@app.command()
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
    from memsweep.launch import checkpoints, choices
    from memsweep.launch import plan as planning
    from memsweep.launch.asking import Asking

    loaded, store = load(sweep, overrides), _store_if_there(results)
    asking = Asking(loaded, store, limit=limit, retry=retry)
    work, due = planning.work(list(asking.trials.values()), store, retry=retry), asking.missing(retry=retry)
    planning.check(due)
    chosen = device.value if device else planning.local_device()
    at_a_time = workers or planning.local_workers(chosen)
    programs = choices.choose(
        due, store, chosen, at_a_time, compiling=compiling.wish, calibrate=planning.calibrate_here
    )
    share = asking.round.share if asking.round else 1.0
    is_searched = loaded.search is not None
    saved = checkpoints.stored(store) if store and not is_searched else ()
    packs = planning.packs(due, at_a_time, members, programs, saved, share, is_searched)
    estimate = planning.estimate(packs, chosen, at_a_time)
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
    if loaded.search is not None:
        row |= {"search": loaded.search.name, "round": asking.number, "trials_at_most": loaded.search.most(loaded)}
        _say(f"{asking.said}. Packs, memory and time are those of this round.")
    if hourly_price is not None:
        row["price"] = round(estimate.seconds / 3600 * min(at_a_time, len(packs)) * hourly_price, 2)
    print_rows([row], output, vertical=True)


@app.command()
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
    tracking_uri: TrackingOption = None,
) -> None:
    """Run what is missing of a sweep and store it. The same command again finishes the rest and repeats nothing.

    Several sweeps run one after another, without a pause; a trial that several want runs once. MLflow is filled beside
    them, in the background; --tracking-uri none fills none.

    Example: memsweep launch generalization --results results --set model.width=16,32
    """
    from memsweep.launch import choices, launcher
    from memsweep.progress import Progress
    from memsweep.results.store import Store

    loaded = [load(sweep, overrides) for sweep in sweeps]
    spent = parsed_budget(budget)
    patience_seconds = parsed_seconds(patience, "--patience")
    checkpoint_seconds = parsed_seconds(checkpoint, "--checkpoint")
    if compiling == Compile.ALWAYS and not address and not choices.has_compiler():
        raise typer.BadParameter("no C++ compiler is here: install g++, or name one in CXX.", param_hint="--compile")
    store = Store(results, create=True)
    with Progress(launcher.title(loaded)) as progress:
        report = launcher.launch(
            loaded,
            store,
            address=address,
            workers=workers,
            members=members,
            limit=limit,
            device=device.value if device else None,
            compiling=compiling.wish,
            retry=retry,
            budget=spent,
            patience_seconds=patience_seconds,
            checkpoint_seconds=checkpoint_seconds,
            tracking_uri=tracking_uri,
            watch=progress.update,
        )
    done = report.wanted - report.failed - report.missing
    print(
        f"{report.title}: {done} of {report.wanted} trials finished, {report.ran} of them run now, "
        f"{report.failed} failed, {report.missing} missing; in {results}",
        file=sys.stderr,
    )
    for sentence in filter(None, [*report.remarks, report.tracking]):
        print(sentence, file=sys.stderr)
    if report.failed:
        print(f"The causes: memsweep status --results {results}; again: memsweep launch ... --retry", file=sys.stderr)
    if report.missing and not budget:
        sys.exit(INTERRUPTED if report.interrupted else SOME_FAILED)
    sys.exit(SOME_FAILED if report.failed else DONE)


@app.command()
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
    tracking_uri: TrackingOption = None,
    follow: Annotated[bool, typer.Option(help="Show its progress until it ends; Ctrl-C leaves it running.")] = True,
) -> None:
    """Send a launch to a running Ray cluster as a job, with the current folder; it goes on without this terminal.

    Results must be where all machines reach them. Exit code 1 when the job does not end well.

    Example: memsweep submit generalization --address http://127.0.0.1:8265 --results s3://bucket/results --device cuda
    """
    from memsweep.launch import cluster
    from memsweep.results.background import shown
    from memsweep.results.location import location

    for sweep in sweeps:
        load(sweep, overrides)  # mistakes are told here
    parsed_budget(budget)
    for option, text in (("--patience", patience), ("--checkpoint", checkpoint)):
        parsed_seconds(text, option)
    if tracking_uri and shown(tracking_uri) != tracking_uri:
        raise typer.BadParameter(
            "holds a password, which whoever sees the job would see: set MLFLOW_TRACKING_URI on the cluster instead.",
            param_hint="--tracking-uri",
        )
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
            "--tracking-uri": tracking_uri,
        }
    )
    job = cluster.submit(sweeps, address, location(results), arguments, _say)
    _say(f"{job.name} runs on {address}; {job.commands}")
    if not follow:
        return
    try:
        succeeded = job.follow(lambda text: print(text, end="", file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        _say(f"\n{job.name} goes on; {job.commands}")
        return
    sys.exit(DONE if succeeded else SOME_FAILED)


@app.command()
def status(results: ResultsOption = "results", output: FormatOption = Format.TABLE) -> None:
    """Show how far each sweep and each search is, with the cause of each failure.

    Example: memsweep status --results results
    """
    from memsweep.results.status import failures, overview
    from memsweep.results.store import Store

    store = Store(results)
    print_rows(overview(store), output)
    for sweep, said in store.searches().items():
        _say(f"{sweep}: {said}")
    for trial_id, state, cause in failures(store):
        print(f"{trial_id} {state}: {cause}", file=sys.stderr)


@app.command()
def verify(
    trials: Annotated[list[str] | None, typer.Argument(metavar="[TRIAL ...]", help="Default: a sample.")] = None,
    results: ResultsOption = "results",
    sample: Annotated[int, typer.Option(min=1, help="Trials to run again where none are named.")] = 3,
    own_code: Annotated[
        bool, typer.Option("--own-code", help="Import and run what the tables name by import path: if you trust them.")
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Run stored trials again, alone and in plain torch, and compare; check that the tables hold what is wanted.

    A trial that failed, or was quarantined, is run alone to show its error. Exit code 1 when there is one, when a
    number differs from what is stored, or something is missing.

    Example: memsweep verify --sample 10
    """
    from memsweep.launch import verification
    from memsweep.results.store import Store

    store = Store(results)
    failed, whole = verification.failed_among(store, trials or [])
    errors = {trial_id: verification.error_of(store, trial_id, own_code=own_code) for trial_id in failed}
    for trial_id, error in errors.items():
        _say(f"{trial_id} alone: {error or 'it ran to its end, without an error.'}")
    if failed and not whole:
        sys.exit(SOME_FAILED if any(errors.values()) else DONE)
    problems = verification.incomplete(store)
    verdicts = list(verification.verify(store, whole, sample, own_code=own_code))
    print_rows([verdict._asdict() for verdict in verdicts], output)
    for problem in problems:
        print(problem, file=sys.stderr)
    wrong = sum(not verdict.holds for verdict in verdicts)
    print(
        f"{len(verdicts)} trials run again: {len(verdicts) - wrong} exact, {wrong} differ; "
        f"{len(problems)} trials incomplete",
        file=sys.stderr,
    )
    sys.exit(SOME_FAILED if wrong or problems or any(errors.values()) else DONE)


@app.command()
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
    from memsweep.launch.asking import Asking

    loaded = load(sweep, overrides)
    asking = Asking(loaded, _store_if_there(results), limit=limit, retry=True)
    names = ["seed", *loaded.axis_names, *getattr(loaded.search, "space", ())]
    rows = [
        {"trial_id": trial.trial_id, **{name: trial.flat()[name] for name in names}}
        for trial in asking.missing(retry=True)
    ]
    print_rows(rows, output)


@app.command()
def query(
    statement: Annotated[
        str,
        typer.Argument(metavar="SQL", help="One SELECT over trials, steps, packs, wanted and the tables of probes."),
    ],
    results: ResultsOption = "results",
    output: FormatOption = Format.TABLE,
) -> None:
    """Answer one SELECT over the tables; never changes them.

    Example: memsweep query "select status, count(*) as trials from trials group by 1"
    """
    from memsweep.results.query import run

    print_table(run(statement, results), output)


@app.command()
def report(results: ResultsOption = "results") -> None:
    """Draw figures of all sweeps (SVG, PNG) and one page that shows them; say where the page is.

    Example: memsweep report --results results
    """
    from analysis.report import write

    print(write(results))


@app.command()
def claims(
    results: ResultsOption = "results",
    shuffles: Annotated[
        int, typer.Option(min=0, help="Control: how often each claim is reproduced with settings exchanged so often.")
    ] = 0,
    output: FormatOption = Format.TABLE,
) -> None:
    """Judge each published claim on the stored trials: reproduced, contradicted, undecided, not run; write claims.csv.

    Example: memsweep claims --shuffles 200
    """
    import pyarrow as pa

    from analysis.claims.table import SHOWN, write
    from memsweep.results.location import location

    table = write(results, shuffles)
    if output in (Format.TABLE, Format.MARKDOWN):
        table = table[list(SHOWN)]
    print_table(pa.Table.from_pandas(table, preserve_index=False), output)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in table["verdict"].value_counts().items())
    _say(f"{len(table)} claims: {counts}; all columns in {location(results) / 'claims.csv'}")


@app.command()
def compact(results: ResultsOption = "results", output: FormatOption = Format.TABLE) -> None:
    """Merge small parts and drop copies that no reader sees; a launch, a report or a query may go on meanwhile.

    Example: memsweep compact --results results
    """
    from memsweep.results.compaction import compact
    from memsweep.results.store import Store

    print_rows([merged._asdict() for merged in compact(Store(results))], output)


@app.command()
def track(
    results: ResultsOption = "results",
    tracking_uri: TrackingOption = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on while a launch writes.")] = False,
) -> None:
    """Fill MLflow from the tables, or rebuild what it lacks; twice adds nothing.

    Example: memsweep track --results results
    """
    from memsweep.results import background
    from memsweep.results.store import Store

    store = Store(results)
    uri = _tracked(tracking_uri, store.results)
    if follow:
        background.step_aside(store)
    from memsweep.results import follow as following  # only now: MLflow takes seconds to import

    (following.follow if follow else following.track)(store, uri, _say)


@app.command()
def ui(
    results: ResultsOption = "results",
    tracking_uri: TrackingOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of 127.0.0.1.")] = 5000,
) -> None:
    """Show MLflow in the browser: prints the address, serves until Ctrl-C.

    Example: memsweep ui --results results --port 5001
    """
    from memsweep.results.location import location
    from memsweep.ui import serve

    place = location(results)
    try:
        serve(place, _tracked(tracking_uri, place), port, lambda address: print(address, flush=True))
    except KeyboardInterrupt:  # how it is meant to end
        sys.exit(DONE)


@app.command()
def doctor(results: ResultsOption = "results", output: FormatOption = Format.TABLE) -> None:
    """Check the environment: packages, compiler, devices, datasets, results.

    Example: memsweep doctor --results results
    """
    from memsweep.doctor import checks

    rows = checks(results)
    print_rows(rows, output)
    sys.exit(WRONG if any(row["state"] == "wrong" for row in rows) else DONE)


def _store_if_there(results: str) -> Store | None:
    from memsweep.results.store import store_if_there

    return store_if_there(results)


def _tracked(given: str | None, results: Location) -> str:
    from memsweep.results.background import tracking_uri

    uri = tracking_uri(given, results)
    if uri is None:
        raise typer.BadParameter("none: there is no MLflow to fill or show; name one.", param_hint="--tracking-uri")
    return uri


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _refuse(error: Exception) -> None:
    print(f"memsweep: {error}", file=sys.stderr)
    sys.exit(WRONG)
