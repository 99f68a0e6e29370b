"""Writes all sweeps of a results folder to one self-contained page, with figures as PDF, SVG and PNG beside it."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import extract_tb
from typing import Any

import jinja2
import pandas as pd
from plotly.offline import get_plotlyjs

from memsweep.analysis.claims import table
from memsweep.analysis.claims.claim import Paper
from memsweep.analysis.claims.verdicts import Verdict, counted, papers
from memsweep.analysis.core import frames
from memsweep.analysis.core.arrangement import DEFAULT as DEFAULT_VIEW
from memsweep.analysis.core.arrangement import View
from memsweep.analysis.core.catalog import Answer, Broken, answer, check, imported, modules_of, stem
from memsweep.analysis.report import live_curves
from memsweep.analysis.report.drawn import Drawn, drawn
from memsweep.analysis.report.unchanged import Unchanged, stored_rows, wanted_rows
from memsweep.analysis.report.workers import ALONE, Workers
from memsweep.results import notes, query, trial_state
from memsweep.results.notes import Remarks
from memsweep.results.status import failures, overview, states
from memsweep.results.storage.location import Location
from memsweep.results.storage.parts import write_whole
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store, StoreError
from memsweep.spec.schema import Status

PAGE = "report.html"
FIGURES = "figures"
UNNAMEABLE = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
"""Errors caused by a file's name."""
SHOWN_FAILURES = 20


@dataclass(frozen=True)
class Question:
    """Result of one analysis module for a sweep."""

    text: str
    query: str
    figures: list[Drawn]
    problem: str = ""
    """Reason for missing figures, where drawing them raised an error."""
    left_out: str = ""
    """Titles of empty figures, with reasons."""


@dataclass(frozen=True)
class Section:
    """One sweep on the page."""

    sweep: str
    counts: dict[str, Any]
    remarks: Remarks
    notices: list[str]
    failures: list[tuple[str, str, str]]
    questions: list[Question]
    provenance: dict[str, str]


@dataclass(frozen=True)
class Page:
    """A drawn page."""

    content: bytes  # HTML
    version: str  # hash of the rows that it shows
    problems: list[str]  # of modules that failed


def write(
    results: str | Location,
    warn: Callable[[str], None] = lambda problem: None,
    view: View = DEFAULT_VIEW,
    workers: Workers = ALONE,
) -> Location:
    """Writes the figures and the page; returns the page's path. Raises StoreError when the folder can't be written.

    warn: called with the problem of each module that fails; the others are on the page all the same.
    view: of all figures that have its fields.  Raises ViewError, and writes nothing, if there is none.
    workers: processes that draw, too.
    """
    store = Snapshot(results)
    check(view, [str(row["sweep"]) for row in overview(store)], store)
    folder = store.results / FIGURES
    try:
        page = draw(store, folder, Unchanged(), view=view, workers=workers)
    except OSError as error:
        raise StoreError(f"{folder}: figures can't be written ({error.strerror or error}).") from error
    path = store.results / PAGE
    write_whole(path, page.content)
    for problem in page.problems:
        warn(problem)
    return path


def draw(
    store: Store,
    folder: Location,
    unchanged: Unchanged,
    *,
    is_served: bool = False,
    view: View = DEFAULT_VIEW,
    workers: Workers = ALONE,
) -> Page:
    """Returns the page of these results, and writes the figures of sweeps and papers to a folder.

    unchanged: what earlier calls drew.  is_served: whether the page loads its successors from a server.
    workers: processes that draw, too.
    Raises OSError when a figure can't be written, StoreError.
    """
    unchanged.begin()
    training = _in_training(store, unchanged)  # first, because the rows of a trial that ends move to other tables
    causes = {trial: (state, cause) for trial, state, cause in failures(store)}
    remarks, rows = notes.of_sweeps(store), overview(store)
    shown = dict[str, Any]()
    for counts in rows:
        sweep = counts["sweep"]
        ends = {**counts, "missing": counts["missing"] + counts["running"], "running": 0}
        shown[sweep] = ends, remarks.get(sweep), wanted_rows(sweep, store), stored_rows(sweep, store)
    changed = [sweep for sweep in shown if not unchanged.has(f"sweep {sweep}", shown[sweep])]
    answered = _answers(changed, store, folder, view, workers)
    sections = []
    for counts in rows:
        sweep = counts["sweep"]
        draw_section = partial(_section, store, counts, causes, answered.get(sweep, []))
        section = unchanged.drawn(f"sweep {sweep}", shown[sweep], draw_section)
        sections.append(replace(section, counts={name: count for name, count in counts.items() if name != "sweep"}))
    verdicts, is_launched = table.stored(store.results), store.is_locked()
    judged = unchanged.drawn("papers", verdicts.to_csv(), partial(_papers, verdicts, folder))
    unchanged.show("overview", (rows, is_launched))
    content = _template().render(
        sections=sections,
        training=training,
        is_launched=is_launched,
        judged=judged,
        plotly=get_plotlyjs(),
        title=store.results.resolve().name,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("memsweep"),
        served=unchanged.version if is_served else "",
    )
    problems = [question.problem for section in sections for question in section.questions if question.problem]
    return Page(content.encode(), unchanged.version, list(dict.fromkeys(problems)))


def _in_training(store: Store, unchanged: Unchanged) -> list[Drawn]:
    """Returns the curves of trials in training. Their files are on the page alone, since they soon are out of date."""
    figures_drawn = list[Drawn]()
    for sweep, measured in live_curves.of_sweeps(store).items():

        def draw_curves(sweep: str = sweep, measured: pd.DataFrame = measured) -> list[Drawn]:
            with TemporaryDirectory() as folder:
                every = [
                    drawn(each.figure, each.summary, f"in-training-{stem(sweep)}-", each.count, Path(folder))
                    for each in live_curves.curves(sweep, measured, store)
                ]
            return [figure for figure in every if isinstance(figure, Drawn)]

        shown = wanted_rows(sweep, store), live_curves.newest(measured)
        figures_drawn += unchanged.drawn(f"in training {sweep}", shown, draw_curves)
    return figures_drawn


def _section(
    store: Store, counts: dict[str, Any], causes: dict[str, tuple[str, str]], answered: list[Question]
) -> Section:
    sweep = counts["sweep"]
    trials = frames.read(frames.TRIALS, sweep, store)
    causes_of_sweep = [(trial, *causes[trial]) for trial in trials["trial_id"] if trial in causes]
    return Section(
        sweep,
        {name: value for name, value in counts.items() if name != "sweep"},
        notes.of_sweeps(store).get(sweep, notes.Remarks()),
        list(_notices(trials, states(store)[sweep])),
        causes_of_sweep[:SHOWN_FAILURES],
        [
            question
            for i, question in enumerate(answered)
            if question.figures or question.problem or question.left_out or i == 0
        ],
        _provenance(sweep, trials, store),
    )


def _papers(verdicts: pd.DataFrame, folder: Location) -> list[tuple[Paper, Drawn]]:
    """Returns each paper with its figure, if any of its claims was run.  verdicts: the table of `memsweep claims`."""
    papers_drawn = list[tuple[Paper, Drawn]]()
    for paper in papers():
        rows = verdicts[verdicts["paper"] == paper.key]
        if (rows["verdict"] != Verdict.NOT_RUN).any():
            figure = drawn(table.figure(paper), rows, "claims-", f"{counted(rows)}.", folder)
            papers_drawn += [(paper, figure)] if isinstance(figure, Drawn) else []
    return papers_drawn


def _notices(trials: pd.DataFrame, states: dict[str, str]) -> Iterator[str]:
    """Yields notices to read before a figure: trials without a result, by their ends; missing probes."""
    settled = trials["trial_id"][frames.settled(trials)]
    if lacking := sum(not trial_state.is_settled(states[trial_id]) for trial_id in settled):
        yield (
            f"{lacking:,} of {len(trials):,} trials are stored without the probes or metrics that are wanted: launch "
            "again."
        )
    codes = trials["code_fingerprint"].value_counts()
    if len(codes) > 1:
        counts = ", ".join(f"{count:,} ran {fingerprint}" for fingerprint, count in codes.items())
        yield f"These trials mix {len(codes)} versions of your code, which --changed keep allows: {counts}."
    for status, count in frames.ends(trials).items():
        if status == frames.MISSING:
            yield f"{count:,} of {len(trials):,} trials are not stored: they have not run yet, or are running."
        elif status not in frames.USABLE:
            yield f"{count:,} of {len(trials):,} trials are {status.replace('_', ' ')}. {Status(status).advice}"


def _answers(
    sweeps: list[str], store: Store, folder: Location, view: View, workers: Workers
) -> dict[str, list[Question]]:
    """Returns each sweep's answered questions."""
    tasks = [
        (sweep, prefix, module.name if isinstance(module, Broken) else module.__name__)
        for sweep in sweeps
        for prefix, module in modules_of(sweep, store, view).items()
    ]
    call = partial(_answered, store, folder, view)
    remote = partial(_answered_remotely, store.results, folder, view)
    answered: dict[str, list[Question]] = {sweep: [] for sweep in sweeps}
    for (sweep, _, _), question in zip(tasks, workers.map(call, remote, tasks), strict=True):
        answered[sweep].append(question)
    return answered


def _answered_remotely(results: Location, folder: Location, view: View, *task: str) -> Question:
    """Returns an answered question, in a worker process, which draws one report."""
    return _answered(_snapshot(results), folder, view, *task)


@cache
def _snapshot(results: Location) -> Snapshot:
    return Snapshot(results)


def _answered(store: Store, folder: Location, view: View, sweep: str, prefix: str, name: str) -> Question:
    module = imported(name.rpartition(".")[2])
    text = (getattr(module, "__doc__", None) or name).strip().partition("\n")[0]
    figures_drawn, empty, statement = list[Drawn](), dict[str, list[str]](), ""
    try:
        result = answer(module, sweep, store, view)
        statement = frames.statement(result.module.QUERY, sweep)
        text = _heading(result) or text
        for figure in result.figures:
            count = _behind(figure.about(result.chosen), figure.about(result.read))
            figure_drawn = drawn(figure, result.summary, prefix, count, folder)
            if isinstance(figure_drawn, Drawn):
                figures_drawn.append(figure_drawn)
            else:
                empty.setdefault(figure_drawn, []).append(figure.title)
    except OSError as error:
        if error.errno not in UNNAMEABLE:
            raise  # a problem of the folder, not of the module
        problem = f"sweep {sweep!r}: its figures can't be stored: {error.strerror}."
        return Question(text, statement, [], problem)
    except Exception as error:  # one failing module must not cost all other figures
        problem = f"{name} can't draw sweep {sweep!r}: {type(error).__name__}: {error} ({_where(error, name)})."
        return Question(text, statement, [], problem)
    left_out = "; ".join(f"{', '.join(titles)} ({why})" for why, titles in empty.items())
    return Question(text, statement, figures_drawn, left_out=left_out and f"Left out: {left_out}.")


def _heading(result: Answer) -> str:
    """Returns the module's heading for the sweep's axes, if it has `heading`."""
    return str(result.module.heading(result.read)) if hasattr(result.module, "heading") else ""


def _where(error: Exception, module: str) -> str:
    """Returns the last place within the analysis, or the module of this name, at which an error was raised."""
    package, stem = Path(__file__).parents[1], module.rpartition(".")[2]
    places = [(Path(frame.filename), frame.lineno) for frame in extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((Path(error.filename), error.lineno))
    path, line = [(path, line) for path, line in places if path.is_relative_to(package) or path.stem == stem][-1]
    return f"{package.name}/{path.relative_to(package) if path.is_relative_to(package) else path.name}, line {line}"


def _behind(chosen: pd.DataFrame, read: pd.DataFrame) -> str:
    """Returns how many of how many trials a figure shows, and the fixed fields where not all are shown."""
    used, wanted = (frame["trial_id"].nunique() for frame in (chosen[frames.usable(chosen)], chosen))
    fixed = {name: chosen[name].iloc[0] for name in frames.varying(read) if len(chosen) and chosen[name].nunique() == 1}
    codes = chosen["code_fingerprint"].nunique() if "code_fingerprint" in chosen else 0
    mixed = f" of {codes} versions of your code" if codes > 1 else ""
    return f"{used:,} of {wanted:,} trials{mixed}" + (f", those with {frames.label(fixed, read)}." if fixed else ".")


def _provenance(sweep: str, trials: pd.DataFrame, store: Store) -> dict[str, str]:
    """Returns the origin of the numbers, as name -> text."""
    stored = trials[trials["status"] != frames.MISSING]
    packs = query.table("packs", store)
    packs = packs[packs["attempt_id"].isin(set(stored["attempt_id"].dropna()))]
    digest = hashlib.blake2b("".join(sorted(trials["trial_id"])).encode(), digest_size=8).hexdigest()
    times = stored["finished_at"].dropna()
    return {
        "trials": f"{len(trials):,} wanted, {len(stored):,} stored; hash of their ids {digest}",
        "settings and seeds": f"{trials['setting_id'].nunique():,} settings; seeds {spans(trials['seed'])}",
        "varied": ", ".join(map(frames.field_of, frames.varying(trials))) or "nothing but seeds",
        "trained": f"{times.min():%Y-%m-%d %H:%M} to {times.max():%Y-%m-%d %H:%M} UTC" if len(times) else "nothing yet",
        "packs": f"{len(packs):,}, {packs['member_step_count'].sum():,.0f} member steps in "
        f"{packs['wall_seconds'].sum():,.0f} s of workers",
        "machine": _distinct(packs["host"] + ": " + packs["device_name"] + " (" + packs["device"] + ")"),
        "versions": f"memsweep {_distinct(stored['memsweep_version'])}, torch {_distinct(stored['torch_version'])}",
        "commit": _distinct(packs["memsweep_commit"]),
        "your code": _distinct(stored["code_fingerprint"] + stored["code_commit"].radd(" of commit ").fillna(""))
        if stored["code_fingerprint"].notna().any()
        else "none",
        "protocol": _distinct(trials["protocol"].map("{:g}".format)),
    }


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "page")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html.j2")


def _distinct(values: pd.Series[Any]) -> str:
    return ", ".join(sorted(set(values.dropna().astype(str)))) or "not recorded"


def spans(values: pd.Series[Any]) -> str:
    """Returns whole numbers as a text such as 0-4, 7."""
    numbers = sorted({int(value) for value in values})
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)
