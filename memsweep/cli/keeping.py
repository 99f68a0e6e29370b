"""The verbs that maintain results and show them in MLflow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from memsweep.cli import DONE, WRONG
from memsweep.cli.arguments import FormatOption, ResultsOption, TrackingOption
from memsweep.cli.printing import Format, print_rows, say

if TYPE_CHECKING:
    from memsweep.results.storage.location import Location


def compact(results: ResultsOption = "results", output: FormatOption = Format.TABLE) -> None:
    """Merge small parts and drop rows that no reader uses. A launch, a report or a query may run at the same time.

    Example: memsweep compact --results results
    """
    from memsweep.results.compaction import compact
    from memsweep.results.storage.store import Store

    print_rows([merged._asdict() for merged in compact(Store(results))], output)


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
        background.wait_at_lowest_priority(store)
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
    from memsweep.results.mlflow.background import tracking_uri

    uri = tracking_uri(given, results)
    if uri is None:
        raise typer.BadParameter("none: must be the URI of an MLflow to fill or show.", param_hint="--tracking-uri")
    return uri
