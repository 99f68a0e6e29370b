"""Writes all sweeps of a results folder to one self-contained page, with figures as PDF, SVG and PNG beside it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
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
from memsweep.analysis.report.provenance import provenance
from memsweep.analysis.report.unchanged import Unchanged, stored_rows, wanted_rows
from memsweep.analysis.report.workers import ALONE, Workers
from memsweep.results import notes, trial_state
from memsweep.results.collection import rarely_collected
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
    check(view, sorted(set(store.current("wanted", ["sweep"])["sweep"].to_pylist())), store)
    folder = store.results / FIGURES
    try:
        with rarely_collected():
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
    by_sweep = states(store)
    remarks, rows = notes.of_sweeps(store), overview(store, by_sweep)
    shown = dict[str, Any]()
    for counts in rows:
        sweep = counts["sweep"]
        ends = {**counts, "missing": counts["missing"] + counts["running"], "running": 0}
        shown[sweep] = ends, remarks.get(sweep), wanted_rows(sweep, store), stored_rows(sweep, store)
    changed = [sweep for sweep in shown if not unchanged.has(f"sweep {sweep}", shown[sweep])]
    changed.sort(key=lambda sweep: -len(by_sweep[sweep]))  # the longest first, so that all processes end together
    answered = _answers(changed, store, folder, view, workers)
    tasks = [
        (sweep, by_sweep[sweep], {trial: causes[trial] for trial in by_sweep[sweep] if trial in causes})
        for sweep in changed
    ]
    made = workers.map(partial(_section, store), partial(_section_remotely, store.results), tasks)
    drawn_anew = {section.sweep: replace(section, questions=_shown(answered[section.sweep])) for section in made}
    sections = []
    for counts in rows:
        sweep = counts["sweep"]
        section = unchanged.drawn(f"sweep {sweep}", shown[sweep], partial(drawn_anew.__getitem__, sweep))
        sections.append(replace(section, counts={name: count for name, count in counts.items() if name != "sweep"}))
    verdicts, is_launched = table.stored(store.results), store.is_locked()
    judged = unchanged.drawn("papers", verdicts.to_csv(), partial(_papers, verdicts, folder, workers))
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


def _section(store: Store, sweep: str, states: Mapping[str, str], causes: Mapping[str, tuple[str, str]]) -> Section:
    """Returns a sweep's section without counts and questions.  states, causes: of trials."""
    trials = frames.read(frames.TRIALS, sweep, store)
    trials = trials[trials["trial_id"].isin(states)]  # another process may read later, and more
    causes_of_sweep = [(trial, *causes[trial]) for trial in trials["trial_id"] if trial in causes]
    return Section(
        sweep,
        {},
        notes.of_sweeps(store).get(sweep, notes.Remarks()),
        list(_notices(trials, states)),
        causes_of_sweep[:SHOWN_FAILURES],
        [],
        provenance(sweep, trials, store),
    )


def _section_remotely(results: Location, *task: Any) -> Section:
    """Returns a sweep's section, in a worker process."""
    return _section(_snapshot(results), *task)


def _shown(answered: list[Question]) -> list[Question]:
    """Returns the questions that a section shows: the first, and those with an answer."""
    return [
        question
        for i, question in enumerate(answered)
        if question.figures or question.problem or question.left_out or i == 0
    ]


def _papers(verdicts: pd.DataFrame, folder: Location, workers: Workers) -> list[tuple[Paper, Drawn]]:
    """Returns each paper with its figure, if any of its claims was run.  verdicts: the table of `memsweep claims`."""
    run = verdicts[verdicts["verdict"] != Verdict.NOT_RUN]
    papers_run = {paper.key: paper for paper in papers() if paper.key in set(run["paper"])}
    call = partial(_paper, folder)
    tasks = [(key, verdicts[verdicts["paper"] == key]) for key in papers_run]
    made = zip(papers_run.values(), workers.map(call, call, tasks), strict=True)
    return [(paper, figure) for paper, figure in made if isinstance(figure, Drawn)]


def _paper(folder: Location, key: str, rows: pd.DataFrame) -> Drawn | str:
    """Returns the drawn figure of a paper, or why it is empty.  rows: of its claims."""
    (paper,) = (paper for paper in papers() if paper.key == key)
    return drawn(table.figure(paper), rows, "claims-", f"{counted(rows)}.", folder)


def _notices(trials: pd.DataFrame, states: Mapping[str, str]) -> Iterator[str]:
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


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "page")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html.j2")
