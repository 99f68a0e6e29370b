"""The verbs that read and check results."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memsweep.cli import DONE, ROUNDED, SOME_FAILED
from memsweep.cli.arguments import FormatOption, ResultsOption, confirm
from memsweep.cli.printing import Format, duration, print_rows, print_table, say
from memsweep.cli.quick import without_pandas

if TYPE_CHECKING:
    from memsweep.results.storage.store import Store


WATCH_SECONDS = 2.0
"""Between two looks of status --watch."""


def status(
    results: ResultsOption = "results",
    output: FormatOption = Format.TABLE,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again while a launch runs, until it ends.")] = False,
) -> None:
    """Show the progress of each sweep, each search and the launch that runs, and the cause of each failure.

    Example: memsweep status --results results --watch
    """
    without_pandas()
    from memsweep.results.storage.store import Store

    store = Store(results)
    while watch and store.is_locked():
        if sys.stdout.isatty():
            print("\033[H\033[2J", end="")  # clears the screen
        _show_status(store, output)
        sys.stdout.flush()
        time.sleep(WATCH_SECONDS)
    _show_status(store, output)


def _show_status(store: Store, output: Format) -> None:
    from memsweep.results.progress import sentences
    from memsweep.results.status import COLUMNS, failures, older, overview, tracking

    sweeps = overview(store)
    print_rows(sweeps, output, columns=COLUMNS)
    if not sweeps:
        say(f"No sweep was launched in {store.results}.")
    for sentence in sentences(store, duration):
        say(sentence)
    for sweep, progress in store.searches().items():
        say(f"{sweep}: {progress}")
    for sentence in filter(None, [older(store), tracking(store)]):
        say(sentence)
    for trial_id, state, cause in failures(store):
        say(f"{trial_id} {state}: {cause}")


def query(
    statement: Annotated[
        str,
        typer.Argument(metavar="SQL", help="One SELECT over trials, steps, packs, wanted and the tables of probes."),
    ],
    results: ResultsOption = "results",
    output: FormatOption = Format.TABLE,
) -> None:
    """Print the answer to one SELECT over the tables; change nothing.

    Example: memsweep query "select status, count(*) as trials from trials group by 1"
    """
    without_pandas()
    from memsweep.results.query import run

    print_table(run(statement, results), output)


def report(
    results: ResultsOption = "results",
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the page on 127.0.0.1 and redraw it until Ctrl-C; write no file.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of --watch; 0: any free one.")] = 0,
    x: Annotated[str | None, typer.Option("--x", metavar="FIELD", help="Field along x.")] = None,
    y: Annotated[
        str | None, typer.Option("--y", metavar="FIELD", help="Draw maps: this field up, the quantity as colour.")
    ] = None,
    curves: Annotated[
        str | None, typer.Option("--curves", metavar="FIELD,...", help="Fields with a curve for each value.")
    ] = None,
    panels: Annotated[
        str | None, typer.Option("--panels", metavar="FIELD,...", help="Fields with a panel for each value.")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option("--scale", metavar="X[,Y]", help="linear or log, of x or of both; log,log fits exponents."),
    ] = None,
    level: Annotated[float | None, typer.Option("--level", help="Value at which a map has its line.")] = None,
    seeds: Annotated[bool, typer.Option("--seeds", help="Draw each seed too, as a faint line.")] = False,
) -> None:
    """Draw figures of all sweeps (PDF, SVG, PNG) and one page that shows them; print the page's path.

    With --watch, print the page's address: it shows what changes while a launch runs, and curves of trials in training.
    Figures that have the chosen fields are laid out by them; others are drawn as always.
    Exit code 1 if a question could not be answered; the page answers the others.

    Example: memsweep report --results results --x model.width --curves data.noise_fraction
    """
    from memsweep.analysis.core.arrangement import View

    if port and not watch:
        raise typer.BadParameter(f"{port}: is the port of a watched page; add --watch.", param_hint="--port")
    view = View.of(x, y, curves, panels, scale, level, seeds)
    if watch:
        from memsweep.analysis.report.watching import watch as serve

        try:
            serve(results, port, lambda address: print(address, flush=True), say, view)
        except KeyboardInterrupt:  # the normal end
            sys.exit(DONE)
    from memsweep.analysis.report import workers

    problems: list[str] = []
    with workers.started("memsweep.analysis.report.report") as beside:  # before this process imports as much
        from memsweep.analysis.report.report import write

        print(write(results, problems.append, view, beside))
    for problem in problems:
        say(problem)
    sys.exit(SOME_FAILED if problems else DONE)


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A stored sweep, or SWEEP@CODE: one version of your code.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    measure: Annotated[list[str] | None, typer.Option("--measure", help="Measure to compare. Repeatable.")] = None,
    figure: Annotated[Path | None, typer.Option("--figure", metavar="FILE", help="Draw the first measure.")] = None,
    results: ResultsOption = "results",
    output: FormatOption = Format.TABLE,
) -> None:
    """Compare two sweeps, or two versions of your code, at the settings that both have: B - A, paired by seed.

    CODE is the beginning of trials.code_fingerprint. A field with one value in A and another in B is what is compared;
    all other fields make the settings. Intervals: 95 %, bootstrap over seeds.

    Example: memsweep diff sgd adamw --measure test_accuracy --figure difference.pdf
    """
    import pyarrow as pa

    from memsweep.analysis.core import differences, figures
    from memsweep.results.storage.store import Store

    difference = differences.compare(first, second, Store(results), measure or ())
    say(str(difference))
    print_table(pa.Table.from_pandas(difference.rows, preserve_index=False), output)
    if figure:
        with figures.canvas() as ax:
            figures.save_as(differences.draw(difference, ax), figure)


def weights(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="Id of a trial whose weights are kept.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File that ends in .safetensors.")],
    step: Annotated[int | None, typer.Option(help="Step of training; default: the last that is kept.")] = None,
    results: ResultsOption = "results",
    yes: Annotated[bool, typer.Option("--yes", help="Replace an existing file without confirmation.")] = False,
) -> None:
    """Write the kept weights of a trial to a safetensors file, which its torch module loads.

    Example: memsweep weights 4f5b60d8c0b553aa --out trained.safetensors
    """
    from memsweep.results import networks
    from memsweep.results.storage.store import Store

    store = Store(results)
    networks.rows(store, [trial], step)
    if out.exists():
        confirm(f"{out} exists. Replace it?", yes)
    row = networks.export(store, trial, out, step)
    say(f"{out}: step {row['step']}, {row['byte_count']:,} bytes, fingerprint {row['weights_fingerprint']}")


def claims(
    results: ResultsOption = "results",
    shuffles: Annotated[
        int,
        typer.Option(
            min=0,
            help="Repetitions of the controls: by_chance is the share of shuffled settings that reproduce a claim, "
            "power the share of injected effects that its test finds.",
        ),
    ] = 0,
    output: FormatOption = Format.TABLE,
) -> None:
    """Judge each published claim on the stored trials: reproduced, contradicted, undecided, not run; write claims.csv.

    Example: memsweep claims --shuffles 200
    """
    import pyarrow as pa

    from memsweep.analysis.claims.table import SHOWN, write
    from memsweep.analysis.claims.verdicts import counted
    from memsweep.results.storage.location import location

    table = write(results, shuffles)
    if output in (Format.TABLE, Format.MARKDOWN):
        table = table[list(SHOWN)]
    print_table(pa.Table.from_pandas(table, preserve_index=False), output)
    say(f"{counted(table)}; all columns in {location(results) / 'claims.csv'}")


def verify(
    trials: Annotated[list[str] | None, typer.Argument(metavar="[TRIAL ...]", help="Default: a sample.")] = None,
    results: ResultsOption = "results",
    sample: Annotated[int, typer.Option(min=1, help="Number of trials to run again if no trial is named.")] = 3,
    own_code: Annotated[
        bool,
        typer.Option("--own-code", help="Run code that the tables name by import path, if you trust them."),
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Run stored trials again, alone and in plain torch, and compare; check that the tables are complete.

    A failed or quarantined trial runs alone, to show its error. Exit code 1 if a trial raises an error, differs by more
    than rounding, or is incomplete; 3 if numbers differ by rounding only.

    Example: memsweep verify --sample 10
    """
    from memsweep.check import inspection, verification
    from memsweep.results.storage.store import Store

    store = Store(results)
    failed, whole = verification.failed_among(store, trials or [])
    errors = {trial_id: verification.error_of(store, trial_id, own_code=own_code) for trial_id in failed}
    for trial_id, error in errors.items():
        say(f"{trial_id} alone: {error or 'it finished without an error.'}")
    if failed and not whole:
        sys.exit(SOME_FAILED if any(errors.values()) else DONE)
    problems = inspection.incomplete(store)
    verdicts = list(verification.verify(store, whole, sample, own_code=own_code))
    names = [name for name in verification.Verdict._fields if name != "sentence"]
    print_rows([{name: getattr(verdict, name) for name in names} for verdict in verdicts], output, columns=names)
    for verdict in verdicts:
        if verdict.sentence:
            say(f"{verdict.trial_id}: {verdict.sentence}")
    for problem in problems:
        say(problem)
    counts = Counter(verdict.outcome for verdict in verdicts)
    run = len(verdicts) - counts[verification.OLDER] - counts[verification.ERROR]
    compared = [
        f"{run} trials run again: {counts[verification.EXACT]} exact",
        f"{counts[verification.ROUNDED]} by rounding" * bool(counts[verification.ROUNDED]),
        f"{counts[verification.DIFFERENT]} differ",
    ]
    rest = [
        f"{counts[verification.OLDER]} of an older protocol, not run again" * bool(counts[verification.OLDER]),
        f"{counts[verification.ERROR]} ended in an error" * bool(counts[verification.ERROR]),
        f"{len(problems)} trials incomplete",
    ]
    say("; ".join([", ".join(filter(None, compared)), *filter(None, rest)]))
    if counts[verification.DIFFERENT] or counts[verification.ERROR] or problems or any(errors.values()):
        sys.exit(SOME_FAILED)
    sys.exit(ROUNDED if counts[verification.ROUNDED] else DONE)
