"""How many bits does each cell memorize, and how many a parameter? By Collins' I on labels, by Morris' code on strings.

Each task has its own definition, and the two are never mixed: I counts the labels that a network predicts, the code
length uses the probabilities that it gives to tokens. Both are lower bounds, since other training may reach more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, statistics
from memsweep.analysis.core.arrangement import CURVES, DEFAULT, View, is_numeric
from memsweep.analysis.questions import capacity, sequences
from memsweep.analysis.questions.capacity import SIZE
from memsweep.analysis.questions.sequences import CELL, CURVE, LENGTH, TASK, WIDTH

QUERY = frames.TRIALS

BITS, BITS_BY_SIZE, PER_PARAMETER = capacity.BITS, capacity.BITS_BY_SIZE, "bits memorized a parameter"
SET = "set_bits"
COMPARED_AT = 5
"""Steps of the labelled sequences on which cells are compared, as in the main figure of Collins et al. (2017)."""
NETWORK = [TASK, CELL, "variant", WIDTH, LENGTH]


def code_length(examples: np.ndarray, steps: np.ndarray, tokens: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Returns bits of N random strings of T tokens that a network holds: N T log2 V - loss / ln 2, Morris et al. 2025.

    examples: N.  steps: T.  tokens: V, at least 2.  loss: nats, summed over all tokens of all strings.  All [trials].
    Returns [trials] bits, at most N T log2 V; below 0 is worse than guessing.

    >>> code_length(np.array([10.0]), np.array([4.0]), np.array([8.0]), np.array([0.0]))
    array([120.])
    """
    return np.asarray(examples * steps * np.log2(tokens) - loss / np.log(2))


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per quantity and network (task, cell, variant, width, length): mean over seeds.

    bits memorized: a seed's largest, over set sizes and over ways to train (`capacity.TUNED`), by the definition of the
    task, named in `definition`.  bits memorized a parameter: the same over the parameters.  bits memorized by set size:
    the best over ways to train for each size.  Other differences between networks are their variant, and never
    averaged.
    Returns also data_examples and set_bits (bits of the set; by size only), parameters, low, high (bootstrap over
    seeds, 95 %), seeds, missing, at_least (seeds whose bits are largest at their largest set, so that larger sets may
    give more), tried (trials behind a seed's best, fewest over seeds). A trial of strings has no value where
    data.vocabulary is 0, the task's default.
    """
    trials_of_tasks = trials[trials[TASK].isin(DEFINITIONS)]
    if trials_of_tasks.empty:
        return pd.DataFrame(columns=list(_COLUMNS))
    pieces = [
        _summarized(of_task, DEFINITIONS[str(task)]) for task, of_task in trials_of_tasks.groupby(TASK, sort=False)
    ]
    return sequences.by_cell(pd.concat(pieces, ignore_index=True)).reindex(columns=[*_COLUMNS])


def draw(
    summary: pd.DataFrame,
    ax: Axes,
    task: str,
    quantity: str = PER_PARAMETER,
    x: str = "parameters",
    view: View = DEFAULT,
) -> Axes:
    """Draws bits memorized, or bits a parameter, against the network's or the set's size, a curve a cell and length.

    x: parameters or model_width, beside published values; or set_bits, where on the diagonal all of a set are held.
    """
    chosen = frames.having(summary, {TASK: task, "quantity": quantity})
    chosen = chosen[(chosen["estimate"] > 0) & (chosen[x] > 0)]
    if chosen.empty:
        return figures.empty(ax, f"no finished trial of task {task} has a value for {quantity}")
    definition = DEFINITIONS[task]
    ratio = " / P" if quantity == PER_PARAMETER else ""
    axis = {"xscale": "log", "yscale": "log", "ylabel": f"{definition.short}{ratio} (bits)"}
    of_set = {"xlabel": f"bits of the set ({definition.whole})"} if x == SET else {}
    lines = partial(_lines, definition=definition, is_ratio=quantity == PER_PARAMETER)
    marks = {} if x == SET else {"at_least": ("^", "at least: still growing")}
    is_few = len(chosen[[*CURVE, LENGTH]].drop_duplicates()) <= CURVES  # else a panel a length
    has_lengths = is_few and not view.names and chosen[LENGTH].nunique() > 1
    if x == SET and not view.names and chosen[WIDTH].nunique() > 1:
        view = replace(view, panels=(WIDTH,))  # sets of other sizes do not make the width follow from the set
    return sequences.draw(
        *(chosen, ax, summary, x, axis | of_set, view), has_lengths=has_lengths, lines=lines, bounds=marks
    )


def _lines(ax: Axes, rows: pd.DataFrame, x: str, definition: Definition, is_ratio: bool) -> None:
    """Draws published values, or the diagonal on which all of a set is held."""
    places = np.sort(rows[x].unique()) if is_numeric(rows[x]) else np.array([])
    if x == SET:
        figures.reference(ax, places[[0, -1]], places[[0, -1]], f"all of the set: {definition.whole}")
    elif is_ratio or x == "parameters":
        for name, dashes, level in definition.lines:
            figures.reference(ax, places, level * (np.ones(len(places)) if is_ratio else places), name, dashes)


class Definition(NamedTuple):
    """Count of bits on a task, with published values by the same definition."""

    name: str
    short: str
    whole: str  # bits of the set
    bits: Callable[[pd.DataFrame], pd.DataFrame]  # the rows with `bits` and `set_bits`
    lines: tuple[tuple[str, str, float], ...]  # name, dashes, bits a parameter


def _labels(trials: pd.DataFrame) -> pd.DataFrame:
    counted = capacity.with_bits(trials)
    return counted.assign(set_bits=counted[SIZE] * np.log2(counted["class_count"].astype(float)))


def _strings(trials: pd.DataFrame) -> pd.DataFrame:
    tokens = trials["data_vocabulary"].astype(float).replace(0, np.nan)
    parts = (trials[SIZE], trials[LENGTH], tokens, trials["train_loss_sum_nats"])
    code_lengths = code_length(*(part.to_numpy(float) for part in parts))
    return trials.assign(bits=code_lengths, set_bits=trials[SIZE] * trials[LENGTH] * np.log2(tokens))


DEFINITIONS = {
    "random_sequences": Definition(
        "I of labels predicted (Collins et al. 2017)",
        "Collins' I",
        "N log2 K",
        _labels,
        (
            ("3, 6 bits/P: Collins", ":", 3.0),
            ("_6", ":", 6.0),
            ("5 bits/P: Collins, tuned", "--", 5.0),
            ("2 bits/P: Cover", "-.", 2.0),
        ),
    ),
    "strings": Definition(
        "code length of tokens (Morris et al. 2025)",
        "Morris' code length",
        "N T log2 V",
        _strings,
        (("3.6 bits/P: Morris", "--", 3.6),),
    ),
}


def _summarized(trials: pd.DataFrame, definition: Definition) -> pd.DataFrame:
    """Returns all quantities of one task."""
    rows = definition.bits(_named(trials))
    by_size = capacity.best_by_size(rows, NETWORK)
    by_seed = statistics.by_group(by_size, [*NETWORK, "seed"], _of_seed)
    sets = rows.groupby([*NETWORK, SIZE], sort=False)["set_bits"].max().reset_index()
    pieces = [
        capacity.estimated(by_seed, NETWORK, "bits", ["at_least"]).assign(quantity=BITS),
        capacity.estimated(by_seed, NETWORK, "per_parameter", ["at_least"]).assign(quantity=PER_PARAMETER),
        capacity.with_partial(
            statistics.over_seeds(by_size, [*NETWORK, SIZE], "bits"), by_size, [*NETWORK, SIZE], "bits"
        )
        .merge(sets, on=[*NETWORK, SIZE])
        .assign(quantity=BITS_BY_SIZE),
    ]
    facts = by_seed.groupby(NETWORK).agg({"parameters": "max", "tried": "min"}).reset_index()
    return pd.concat(pieces, ignore_index=True).merge(facts, on=NETWORK).assign(definition=definition.name)


def _named(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with cell and variant; set sizes and ways to train make no variant."""
    ways = [name for name in frames.varying(trials) if name.startswith((SIZE, *capacity.TUNED))]
    named = sequences.settings(trials.assign(**{name: trials[name].iloc[0] for name in ways}))
    return trials.assign(**{name: named[name] for name in (CELL, "variant")})


def _of_seed(sizes: pd.DataFrame) -> dict[str, Any]:
    """Returns one seed's capacity, from all its set sizes."""
    decided = sizes.dropna(subset="bits")
    best = decided["bits"].max()
    return {
        "bits": best,
        "per_parameter": best / sizes["parameters"].max(),
        "at_least": int(len(decided) > 0 and decided.sort_values(SIZE)["bits"].iloc[-1] == best),
        "tried": int(sizes["tried"].sum()),
        "whole": bool(sizes["whole"].all()),
        "parameters": sizes["parameters"].max(),
    }


_COLUMNS = (
    "quantity", TASK, "definition", CELL, "variant", WIDTH, LENGTH, SIZE, "set_bits", "parameters", "estimate", "low",
    "high", "seeds", "missing", "at_least", "tried",
)  # fmt: skip

_BOUND = (
    "A lower bound from few trials (column tried); a triangle: the largest set gives the largest value, so that still "
    "larger sets may give more."
)
_INTERVAL = "Mean over seeds; bars: 95 % bootstrap interval over seeds, not over the grid of set sizes."
_MEANING = {
    "random_sequences": "Collins' I: N [log2 K + p log2 p + (1 - p) log2((1 - p) / (K - 1))], p the share of N random "
    "labels predicted; random bits are shown at the first step, the label is the answer at the last. After Collins et "
    "al. (2017), who tuned thousands of times a point and found 3 to 6 bits a parameter, about 5; sizes and tuning "
    "here are ours. A perceptron holds 2 labels a weight (Cover 1965).",
    "strings": "Morris' code length: N T log2 V less the network's code length of the N random strings of T tokens. "
    "After Morris et al. (2025), who found about 3.6 bits a parameter (P) for transformers, larger ones, trained far "
    "longer; sizes and training here are ours.",
}


def _figures(task: str) -> Iterator[figures.Figure]:
    about: dict[str, Any] = {TASK: task}
    short = DEFINITIONS[task].short
    for name, title, quantity, against in (
        ("bits", "Bits memorized, by parameters", BITS, "parameters"),
        ("bits-by-width", "Bits memorized, by width", BITS, WIDTH),
        ("per-parameter", "Bits a parameter, by parameters", PER_PARAMETER, "parameters"),
        ("per-parameter-by-width", "Bits a parameter, by width", PER_PARAMETER, WIDTH),
    ):
        yield figures.Figure(
            f"{task.replace('_', '-')}-{name}",
            f"{title}: {short}",
            partial(draw, task=task, quantity=quantity, x=against),
            f"Largest over set sizes and ways to train. {_MEANING[task]} {_BOUND} {_INTERVAL} {sequences.PRU_NOTE}",
            rows=frames.of_quantity(quantity, **about),
            only=about,
            axes=partial(sequences.axes, x=against),
        )
    yield figures.Figure(
        f"{task.replace('_', '-')}-by-size",
        f"Bits memorized, by set: {short}",
        partial(draw, task=task, quantity=BITS_BY_SIZE, x=SET),
        f"For each set, the best over ways to train: on the line the network holds the whole set; a plateau is the "
        f"capacity. Values of 0 or less are in the table. "
        f"{_MEANING[task]} {_INTERVAL} {sequences.PRU_NOTE}",
        rows=frames.of_quantity(BITS_BY_SIZE, **about),
        only=about,
        axes=partial(sequences.axes, x=SET),
    )


FIGURES = tuple(figure for task in DEFINITIONS for figure in _figures(task))
