"""The verbs. The only place that prints or exits; each verb imports its heavy rooms itself, so that help is instant."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator
from enum import StrEnum
from numbers import Number
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from memsweep.launch.driver import Budget
    from memsweep.results.location import Location
    from memsweep.results.store import Store
    from memsweep.sweep import Sweep

DONE, SOME_FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    help="Sweeps that measure memorization, capacity and generalization in deep networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    MARKDOWN = "markdown"


class Compile(StrEnum):
    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"

    @property
    def wish(self) -> bool | None:
        return {Compile.ALWAYS: True, Compile.NEVER: False}.get(self)


class Device(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"


SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or its bare name.")]
SweepsArgument = Annotated[list[str], typer.Argument(metavar="SWEEP", help="Sweep files, or their bare names.")]
ResultsOption = Annotated[
    str,
    typer.Option(
        "--results",
        envvar="MEMSWEEP_RESULTS",
        help="Folder of the results, or s3://bucket/prefix, gs://…",
        metavar="URI",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=V1,V2", help="Replace or add an axis; seeds=0:5 sets the seeds. Repeatable."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the sweep's first trials.")]
MembersOption = Annotated[int | None, typer.Option(min=1, help="Trials trained at a time in a pack, at most.")]
DeviceOption = Annotated[Device | None, typer.Option(help="Default: a GPU where there is one.")]
CompileOption = Annotated[
    Compile,
    typer.Option("--compile", help="Compile training programs; auto: where it pays, as chosen at their first launch."),
]
RetryOption = Annotated[bool, typer.Option("--retry", help="Run failed trials again.")]
BudgetOption = Annotated[
    str | None, typer.Option(metavar="30m", help="End after this time, 90s, 30m, 2h, or so many 500trials, 1e6steps.")
]
PatienceOption = Annotated[
    str, typer.Option(metavar="10m", help="A worker that shows no progress for so long hangs, and is ended.")
]
CheckpointOption = Annotated[str, typer.Option(metavar="30s", help="Save packs in training about this often.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Packs at a time; default: what the cluster has room for when it starts.")
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        metavar="URI",
        show_envvar=True,
        help="Where MLflow is; default: a database in the results folder.",
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How rows are printed.")]


def main() -> None:
    """The command `memsweep`: every expected error is one message and exit code 2."""
    from memsweep.config import ConfigError

    try:
        app()
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

    loaded, store = _sweep(sweep, overrides), _store_if_there(results)
    asking = Asking(loaded, store, limit=limit, retry=retry)
    work, due = planning.work(list(asking.trials.values()), store, retry=retry), asking.missing(retry=retry)
    planning.check(due)
    chosen = device.value if device else planning.local_device()
    at_a_time = workers or planning.local_workers(chosen)
    programs = choices.choose(
        due, store, chosen, at_a_time, compiling=compiling.wish, calibrate=planning.calibrate_here
    )
    share = asking.round.share if asking.round else 1.0
    packs = planning.packs(due, at_a_time, members, programs, checkpoints.stored(store) if store else (), share)
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
    _print_rows([row], output, vertical=True)


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

    loaded = [_sweep(sweep, overrides) for sweep in sweeps]
    spent = _budget(budget)
    patience_seconds, checkpoint_seconds = _seconds(patience, "--patience"), _seconds(checkpoint, "--checkpoint")
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
        _sweep(sweep, overrides)  # mistakes are told here
    _budget(budget)
    for option, text in (("--patience", patience), ("--checkpoint", checkpoint)):
        _seconds(text, option)
    if tracking_uri and shown(tracking_uri) != tracking_uri:
        raise typer.BadParameter(
            "holds a password, which whoever sees the job would see: set MLFLOW_TRACKING_URI on the cluster instead.",
            param_hint="--tracking-uri",
        )
    arguments = _options(
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
    _print_rows(overview(store), output)
    for sweep, said in store.searches().items():
        _say(f"{sweep}: {said}")
    for trial_id, state, cause in failures(store):
        print(f"{trial_id} {state}: {cause}", file=sys.stderr)


@app.command()
def verify(
    trials: Annotated[list[str] | None, typer.Argument(metavar="[TRIAL ...]", help="Default: a sample.")] = None,
    results: ResultsOption = "results",
    sample: Annotated[int, typer.Option(min=1, help="Trials to run again where none are named.")] = 3,
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
    errors = {trial_id: verification.error_of(store, trial_id) for trial_id in failed}
    for trial_id, error in errors.items():
        _say(f"{trial_id} alone: {error or 'it ran to its end, without an error.'}")
    if failed and not whole:
        sys.exit(SOME_FAILED if any(errors.values()) else DONE)
    problems = verification.incomplete(store)
    verdicts = list(verification.verify(store, whole, sample))
    _print_rows([verdict._asdict() for verdict in verdicts], output)
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

    loaded = _sweep(sweep, overrides)
    asking = Asking(loaded, _store_if_there(results), limit=limit, retry=True)
    names = ["seed", *loaded.axis_names, *getattr(loaded.search, "space", ())]
    rows = [
        {"trial_id": trial.trial_id, **{name: trial.flat()[name] for name in names}}
        for trial in asking.missing(retry=True)
    ]
    _print_rows(rows, output)


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

    _print_table(run(statement, results), output)


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
    _print_table(pa.Table.from_pandas(table, preserve_index=False), output)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in table["verdict"].value_counts().items())
    _say(f"{len(table)} claims: {counts}; all columns in {location(results) / 'claims.csv'}")


@app.command()
def compact(results: ResultsOption = "results", output: FormatOption = Format.TABLE) -> None:
    """Merge small parts and drop copies that no reader sees; a launch, a report or a query may go on meanwhile.

    Example: memsweep compact --results results
    """
    from memsweep.results.compaction import compact
    from memsweep.results.store import Store

    _print_rows([merged._asdict() for merged in compact(Store(results))], output)


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
    _print_rows(rows, output)
    sys.exit(WRONG if any(row["state"] == "wrong" for row in rows) else DONE)


def _sweep(path_or_name: str, overrides: list[str] | None) -> Sweep:
    from memsweep.sweep import load_sweep, parse_overrides

    sweep = load_sweep(path_or_name)
    return sweep.with_axes(parse_overrides(overrides)) if overrides else sweep


def _options(values: dict[str, Any]) -> list[str]:
    """Options and their values as words of a command; what is None or False is left out."""
    words = []
    for name, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            if one not in (None, False):
                words += [name] if one is True else [name, str(one)]
    return words


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


def _budget(text: str | None) -> Budget:
    """A time, or so many `trials` or `steps`."""
    from memsweep.launch.driver import Budget

    found = re.fullmatch(r"(\d+\.?\d*(?:e\d+)?)(trials|steps)", text or "")
    if found is None or float(found[1]) < 1:
        return Budget(_seconds(text, "--budget")) if text else Budget()
    return Budget(trials=int(float(found[1]))) if found[2] == "trials" else Budget(steps=float(found[1]))


def _seconds(text: str, option: str) -> float:
    """`90`, `90s`, `30m` and `2h` as seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        more = ", or such as 500trials or 1e6steps" if option == "--budget" else ""
        raise typer.BadParameter(f"{text!r}: must be a time such as 90s, 30m or 2h{more}.", param_hint=option)
    return seconds


def _refuse(error: Exception) -> None:
    print(f"memsweep: {error}", file=sys.stderr)
    sys.exit(WRONG)


def _print_rows(rows: list[dict[str, Any]], output: Format, *, vertical: bool = False) -> None:
    """Rows of one shape; `vertical` shows a single row as a column, where people read it."""
    import pyarrow as pa

    if vertical and output is Format.TABLE:
        width = max(map(len, rows[0]))
        for name, value in rows[0].items():
            print(f"{name:<{width}}  {value}")
        return
    _print_table(pa.Table.from_pylist([{k: _plain(v) for k, v in row.items()} for row in rows]), output)


def _plain(value: Any) -> Any:
    from memsweep.schema import cell

    return cell(value)


def _print_table(table: pa.Table, output: Format) -> None:
    if output is Format.PARQUET:
        import pyarrow.parquet as pq

        pq.write_table(_plain_columns(table, nested=True), sys.stdout.buffer)
    elif output is Format.CSV:
        import pyarrow.csv

        pyarrow.csv.write_csv(_plain_columns(table, nested=False), sys.stdout.buffer)
    elif output is Format.JSONL:
        import json

        for row in table.to_pylist():
            finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
            print(json.dumps(finite, default=str, allow_nan=False))
    elif output is Format.MARKDOWN:
        for row in [table.column_names, ["---"] * table.num_columns, *zip(*map(_texts, table.columns), strict=True)]:
            print("| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in row) + " |")
    else:
        for line in _aligned(table):
            print(line)


def _plain_columns(table: pa.Table, *, nested: bool) -> pa.Table:
    import pyarrow as pa

    for i, column in enumerate(table.columns):
        kind = column.type
        if pa.types.is_interval(kind) or (not nested and (pa.types.is_nested(kind) or pa.types.is_binary(kind))):
            texts = [None if value is None else str(value) for value in column.to_pylist()]
            table = table.set_column(i, table.column_names[i], pa.array(texts, pa.string()))
    return table


def _aligned(table: pa.Table) -> Iterator[str]:
    """A header, a rule and rows, numbers to the right; plain text, so that it can be copied and compared."""
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        texts = _texts(column)
        width = max(map(len, [name, *texts]))
        to_right = all(isinstance(value, Number) or value is None for value in column.to_pylist()) and texts
        columns.append([text.rjust(width) if to_right else text.ljust(width) for text in [name, "-" * width, *texts]])
    for row in zip(*columns, strict=True):
        yield "  ".join(row).rstrip()


def _texts(column: pa.ChunkedArray) -> list[str]:
    return [_shown(value) for value in column.to_pylist()]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
