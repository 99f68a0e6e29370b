"""The verbs that maintain results and show them in MLflow."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memsweep.cli import DONE, WRONG
from memsweep.cli.arguments import FormatOption, ResultsOption, StoredSweepArgument, TrackingOption, confirm
from memsweep.cli.printing import Format, print_rows, say

if TYPE_CHECKING:
    from memsweep.results.storage.location import Location


def compact(results: ResultsOption = "results", output: FormatOption = Format.TABLE) -> None:
    """Merge small parts and drop rows that no reader uses. A launch, a report or a query may run at the same time.

    Example: memsweep compact --results results
    """
    from memsweep.results import kept_files
    from memsweep.results.compaction import compact
    from memsweep.results.storage.store import LockedError, Store
    from memsweep.run import checkpoints

    store = Store(results)
    print_rows([merged._asdict() for merged in compact(store)], output)
    with suppress(LockedError), store.lock("launch"):
        kept_files.delete_useless(store, checkpoints.steps(store))


def forget(
    sweep: StoredSweepArgument,
    results: ResultsOption = "results",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be deleted; change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Skip the confirmation.")] = False,
) -> None:
    """Forget a sweep: readers skip it, and the next compact deletes the trials that no other sweep wants.

    Checkpoints of these trials are deleted at once. Until the next compact, a launch of the sweep takes its trials up.

    Example: memsweep forget old_sweep --dry-run
    """
    from memsweep.results import forgetting
    from memsweep.results.storage.store import Store
    from memsweep.run import checkpoints

    store = Store(results)
    preview = forgetting.preview(store, sweep)
    say(str(preview))
    if dry_run:
        return
    confirm(f"Forget {sweep}?", yes)
    deleted = forgetting.forget(store, sweep).deleted
    checkpoints.tidy(store, set(checkpoints.steps(store)) - deleted)
    say(f"{sweep} is forgotten. MLflow follows at the next launch or memsweep track.")


def rename(
    sweep: StoredSweepArgument,
    name: Annotated[str, typer.Argument(help="New name.")],
    results: ResultsOption = "results",
) -> None:
    """Rename a stored sweep. Rename it in its file too, or its next launch begins a sweep of the old name.

    Example: memsweep rename noise noise_on_digits
    """
    from memsweep.results import forgetting
    from memsweep.results.storage.store import Store

    forgetting.rename(Store(results), sweep, name)
    say(f"{sweep} is called {name}. MLflow follows at the next launch or memsweep track.")


def note(
    sweep: StoredSweepArgument,
    text: Annotated[str | None, typer.Argument(help="The note; default: print notes and tags.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Add a tag. Repeatable.")] = None,
    untag: Annotated[list[str] | None, typer.Option("--untag", help="Remove a tag. Repeatable.")] = None,
    results: ResultsOption = "results",
) -> None:
    """Note something on a sweep, for the report and MLflow; without a text or a tag, print its notes and tags.

    Example: memsweep note generalization "seeds 5 to 9 ran on the new cluster" --tag paper
    """
    from memsweep.results import notes
    from memsweep.results.storage.store import Store

    store = Store(results)
    notes.write(store, sweep, text, tags=tag or (), untags=untag or ())
    if text is None and not tag and not untag:
        print(notes.of_sweeps(store).get(sweep, ""))


def export(
    sweep: StoredSweepArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File that ends in .parquet or .csv.")],
    table: Annotated[str, typer.Option("--table", help="Table whose rows are written, with the trial's fields.")] = (
        "trials"
    ),
    results: ResultsOption = "results",
    yes: Annotated[bool, typer.Option("--yes", help="Replace an existing file without confirmation.")] = False,
) -> None:
    """Write a sweep's rows of one table, each trial once, to one file for pandas, polars, R, DuckDB or a spreadsheet.

    Example: memsweep export generalization --out generalization.csv
    """
    from memsweep.results.export import export
    from memsweep.results.storage.store import Store

    store = Store(results)
    if out.exists():
        confirm(f"{out} exists. Replace it?", yes)
    say(f"{out}: {export(store, sweep, out, table):,} rows")


def track(
    results: ResultsOption = "results",
    tracking_uri: TrackingOption = None,
    follow: Annotated[bool, typer.Option("--follow", help="Continue until the current launch ends.")] = False,
) -> None:
    """Fill MLflow from the tables: write the runs that it lacks. A second call writes nothing.

    Example: memsweep track --results results
    """
    from memsweep.results.mlflow import background
    from memsweep.results.storage.store import Store

    store = Store(results)
    uri = _tracked(tracking_uri, store.results)
    if follow:
        background.wait(store)
    from memsweep.results.mlflow import follow as following  # only now: MLflow takes seconds to import

    (following.follow if follow else following.track)(store, uri, say)


def ui(
    results: ResultsOption = "results",
    tracking_uri: TrackingOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Serve MLflow's pages until Ctrl-C, and print their addresses.

    Example: memsweep ui --results results --port 5001
    """
    from memsweep.cli.ui import serve
    from memsweep.results.storage.location import location

    place = location(results)
    try:
        serve(place, _tracked(tracking_uri, place), port, lambda address: print(address, flush=True), say)
    except KeyboardInterrupt:  # the normal end
        sys.exit(DONE)


def doctor(results: ResultsOption = "results", output: FormatOption = Format.TABLE) -> None:
    """Check the environment: packages, compiler, devices, datasets, results.

    Example: memsweep doctor --results results
    """
    from memsweep.check.doctor import checks

    rows = checks(results)
    print_rows(rows, output)
    sys.exit(WRONG if any(row["state"] == "wrong" for row in rows) else DONE)


def _tracked(given: str | None, results: Location) -> str:
    from memsweep.results.mlflow.background import moved, tracking_uri

    uri = tracking_uri(given, results)
    if uri is None:
        raise typer.BadParameter("none: must be the URI of an MLflow to fill or show.", param_hint="--tracking-uri")
    if sentence := moved(uri, results):
        say(sentence)
    return uri
