"""How many bits of random strings does a language model hold, and where does held-out loss peak? Morris et al. 2025.

Bits are the code length of `sequence_capacity`: a lower bound of a network's capacity, since other training may reach
more. A network's probabilities of N strings sum to 1 at most, so that it must spend log2 N bits on which of them comes,
and can hold N (T log2 V - log2 N) bits at most, not N T log2 V; with long strings the difference is small.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, statistics
from memsweep.analysis.questions.sequence_capacity import code_length

QUERY = frames.TRIALS
SIZE, WIDTH = "data_examples", "model_width"

HOLDS, HELD_OUT = "bits memorized a parameter, by set", "held-out loss above guessing (bits a token)"
CAPACITY, PER_PARAMETER, SLOPE = "capacity (bits)", "capacity a parameter (bits)", "log-log slope of capacity"
OFFERED, FILLED = "set_bits_a_parameter", "set_bits_by_capacity"
PUBLISHED = 3.6
"""Bits a parameter of Morris et al. (2025), in half precision; 3.83 in single precision."""


def most_bits(examples: np.ndarray, steps: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Returns the most bits of N random strings of T tokens out of V that any network holds: N (T log2 V - log2 N).

    Reached by the probability 1 / N of each string.  All arguments [trials]; returns [trials].

    >>> most_bits(np.array([16.0]), np.array([8.0]), np.array([16.0]))
    array([448.])
    """
    return np.asarray(examples * (steps * np.log2(tokens) - np.log2(examples)))


def measured(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns trials of random strings with `bits`, `set_bits`, `ratio` (bits a parameter) and `held_out`.

    Numbers of strings come from `train_count`. set_bits: `most_bits` of the set. held_out: cross-entropy of unseen
    strings less that of guessing, bits a token: 0 is the best that any network can do, as nothing generalizes.
    Trials of other tasks, and of the task's default vocabulary (data.vocabulary = 0), are left out.
    """
    strings = trials[(trials["data_task"] == "strings") & (trials["data_vocabulary"] > 0)]
    size, steps, tokens, loss, parameters, held_out, targets = (
        strings[name].to_numpy(float)
        for name in (
            *("train_count", "data_sequence_length", "data_vocabulary", "train_loss_sum_nats", "parameter_count"),
            *("validation_loss_sum_nats", "validation_target_count"),
        )
    )
    bits = code_length(size, steps, tokens, loss)
    unseen = held_out / np.where(targets > 0, targets, np.nan) / np.log(2) - np.log2(tokens)
    set_bits = most_bits(size, steps, tokens)
    return strings.assign(bits=bits, set_bits=set_bits, ratio=bits / parameters, held_out=unseen)


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per quantity and network: mean over seeds with its bootstrap interval over seeds, at 95 %.

    By set size (data_examples): bits memorized a parameter, and held-out loss above guessing. Of all sizes: capacity, a
    seed's largest bits, and the same a parameter. Of all networks: log-log slope of a seed's capacity in parameters.
    Returns quantity, the varying fields of the network, data_examples, parameters, set_bits_a_parameter,
    set_bits_by_capacity (bits of the set by the network's mean capacity), estimate, low, high, seeds, missing, at_least
    (seeds whose bits are largest at their largest set, so that larger sets may give more).
    """
    rows = measured(trials)
    if rows.empty:
        return pd.DataFrame(columns=list(_COLUMNS))
    good = frames.usable(rows)
    rows = rows.assign(**{name: rows[name].where(good) for name in ("bits", "ratio", "held_out")})
    network = [name for name in frames.varying(rows) if name != SIZE] or [WIDTH]
    by_seed = statistics.by_group(rows, [*network, "seed"], _of_seed)
    capacity = statistics.over_seeds(by_seed, network, "capacity").assign(quantity=CAPACITY)
    facts = by_seed.groupby(network).agg({"parameters": "max", "at_least": "sum"}).reset_index()
    slopes = statistics.by_group(by_seed, ["seed"], lambda seed: {"slope": slope(seed["parameters"], seed["capacity"])})
    sizes = rows.groupby([*network, SIZE], as_index=False)["set_bits"].max()
    sizes = sizes.merge(facts[[*network, "parameters"]], on=network).merge(capacity[[*network, "estimate"]], on=network)
    sizes[OFFERED], sizes[FILLED] = sizes["set_bits"] / sizes["parameters"], sizes["set_bits"] / sizes["estimate"]
    places = sizes[[*network, SIZE, OFFERED, FILLED]]
    pieces = [
        *(
            statistics.over_seeds(rows, [*network, SIZE], value)
            .merge(places, on=[*network, SIZE])
            .assign(quantity=name)
            for name, value in ((HOLDS, "ratio"), (HELD_OUT, "held_out"))
        ),
        capacity,
        statistics.over_seeds(by_seed, network, "per_parameter").assign(quantity=PER_PARAMETER),
    ]
    summary = pd.concat(pieces, ignore_index=True).merge(facts, on=network)
    of_all = statistics.over_seeds(slopes.assign(of="all"), ["of"], "slope").assign(quantity=SLOPE).drop(columns="of")
    summary = pd.concat([summary, of_all], ignore_index=True)
    return summary[[name for name in dict.fromkeys(("quantity", *network, *_COLUMNS)) if name in summary]]


def slope(parameters: pd.Series[float], bits: pd.Series[float]) -> float:
    """Returns the slope of log bits in log parameters by least squares; NaN with fewer than 2 sizes of positive bits.

    >>> round(slope(pd.Series([10.0, 100.0]), pd.Series([20.0, 200.0])), 12)
    1.0
    """
    positive = (bits > 0) & (parameters > 0)
    if parameters[positive].nunique() < 2:
        return float("nan")
    return float(np.polyfit(np.log(parameters[positive]), np.log(bits[positive]), 1)[0])


def draw_by_set(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws bits a parameter against those that the set offers, a curve a network: on the diagonal all are held."""
    chosen = _curves(summary, ax, HOLDS, OFFERED)
    if chosen is None:
        return ax
    offered = np.array([chosen[OFFERED].min(), chosen[OFFERED].max()])
    figures.reference(ax, offered, offered, "all of the set")
    figures.reference(ax, offered, np.full(2, PUBLISHED), f"{PUBLISHED}: Morris et al.", ":")
    ax.set(xscale="log", yscale="log", xlabel="bits of the set / parameters", ylabel="bits memorized / parameters")
    positive = chosen.loc[chosen["estimate"] > 0, "estimate"]
    ax.set_ylim(bottom=max(0.7 * float(positive.min()), 0.01) if len(positive) else 0.01)
    figures.plain_ticks(ax.xaxis, ax.yaxis)
    figures.legend(ax)
    return ax


def draw_held_out(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws held-out loss above guessing against the bits of the set by the network's capacity, a curve a network."""
    chosen = _curves(summary, ax, HELD_OUT, FILLED)
    if chosen is None:
        return ax
    top = float(chosen["high"].fillna(chosen["estimate"]).max())
    figures.reference(ax, np.ones(2), np.array([0.0, 1.05 * top]), "set = capacity")
    figures.reference(ax, np.array([chosen[FILLED].min(), chosen[FILLED].max()]), np.zeros(2), "guessing", ":")
    ax.set(xscale="log", xlabel="bits of the set / capacity", ylabel="held-out loss above guessing\n(bits a token)")
    figures.plain_ticks(ax.xaxis)
    figures.legend(ax)
    return ax


def draw_capacity(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws the capacity against parameters, with published values, and the fitted exponent in the legend."""
    chosen = summary[(summary["quantity"] == CAPACITY) & (summary["estimate"] > 0)]
    if chosen.empty:
        return figures.empty(ax, "no finished trial of random strings has a capacity")
    figures.curve(ax, chosen, "parameters", label="capacity", **figures.looks(1, ordered=False)[0])
    growing = chosen[chosen["at_least"] > 0]
    if len(growing):
        figures.hollow(ax, growing["parameters"], growing["estimate"], "at least: still growing", marker="^")
    sizes = np.sort(chosen["parameters"].unique())
    for bits, dashes, source in ((PUBLISHED, "--", "Morris et al."), (2.0, "-.", "Allen-Zhu and Li")):
        figures.reference(ax, sizes, bits * sizes, f"{bits:g} bits a parameter: {source}", dashes)
    ax.set(xscale="log", yscale="log", xlabel="parameters (P)", ylabel="capacity (bits)")
    figures.plain_ticks(ax.xaxis, ax.yaxis)
    fit = summary[(summary["quantity"] == SLOPE) & summary["estimate"].notna()]
    title = [f"fitted exponent {row.estimate:.2f} ({row.low:.2f} to {row.high:.2f})" for row in fit.itertuples()]
    figures.legend(ax, *title)
    return ax


def _curves(summary: pd.DataFrame, ax: Axes, quantity: str, x: str) -> pd.DataFrame | None:
    """Draws a curve a network and returns the drawn rows; None where there is nothing to draw."""
    chosen = summary[(summary["quantity"] == quantity) & summary[x].notna()] if x in summary else summary[:0]
    if chosen["estimate"].isna().all():
        figures.empty(ax, f"no finished trial of random strings has a value for {quantity}")
        return None
    network = [name for name in frames.varying(chosen) if name != SIZE] or [WIDTH]
    curves = list(chosen.groupby(network, sort=True))
    for (values, points), look in zip(curves, figures.looks(len(curves), ordered=True), strict=True):
        figures.curve(ax, points, x, label=frames.label(dict(zip(network, values, strict=True)), chosen), **look)
    return chosen


def _of_seed(sizes: pd.DataFrame) -> dict[str, Any]:
    """Returns one seed's capacity, from all its set sizes."""
    decided = sizes.dropna(subset="bits")
    best, parameters = decided["bits"].max(), sizes["parameter_count"].astype(float).max()
    is_last = len(decided) > 0 and decided.sort_values(SIZE)["bits"].iloc[-1] == best
    return {
        **{"capacity": best, "per_parameter": best / parameters, "parameters": parameters, "at_least": int(is_last)},
    }


_COLUMNS = (
    *("quantity", WIDTH, SIZE, "parameters", OFFERED, FILLED, "estimate", "low", "high", "seeds", "missing"),
    "at_least",
)
_NOTE = (
    "Morris' code length: N T log2 V less the network's code length of the N random strings of T tokens out of V; a "
    "lower bound, since other training may reach more. Mean over seeds; bars: 95 % bootstrap interval over seeds."
)
_SET = (
    "Bits of the set: N (T log2 V - log2 N), the most that any network holds, since its probabilities of N strings sum "
    "to 1 at most."
)
_figure = partial(figures.Figure, only={"data_task": "strings"})

FIGURES = (
    _figure(
        "by-set",
        "Bits memorized a parameter, by set",
        draw_by_set,
        f"On the line the network holds the whole set; a plateau is its capacity. Values of 0.01 and less "
        f"are in the table. {_NOTE} {_SET} Morris et al. (2025) trained larger transformers far longer.",
        rows=figures.of_quantity(HOLDS),
    ),
    _figure(
        "held-out",
        "Held-out loss by the bits of the set",
        draw_held_out,
        "Cross-entropy of unseen random strings less that of guessing, which no network can beat; sets larger than "
        "the capacity lie right of the line. The capacity is the mean over seeds of a network's largest bits over its "
        f"sets. {_SET} Mean over seeds; bars: 95 % bootstrap interval over seeds.",
        rows=figures.of_quantity(HELD_OUT),
    ),
    _figure(
        "capacity",
        "Capacity by parameters",
        draw_capacity,
        f"A seed's largest bits over its sets. {_NOTE} A triangle: larger sets may give more. The exponent is the "
        "slope of log bits in log parameters, with the same interval. Morris et al. (2025) and Allen-Zhu and Li (2024, "
        "facts instead of strings) trained far longer.",
        rows=figures.of_quantity(CAPACITY),
    ),
)
