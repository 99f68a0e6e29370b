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

from memsweep.analysis.core import figures, frames, panels, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.analysis.questions.sequence_capacity import code_length

QUERY = frames.TRIALS
SIZE, WIDTH, PARAMETERS = "data_examples", "model_width", "parameters"

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


def draw(summary: pd.DataFrame, ax: Axes, quantity: str, view: View = DEFAULT) -> Axes:
    """Draws a quantity against the size of the set or of the network, a curve a network, with published values.

    quantity: HOLDS against the bits that a set offers a parameter, HELD_OUT against the bits of a set by the network's
    capacity, or CAPACITY against parameters, with the fitted exponent above.
    """
    x, axis = _AXES[quantity]
    chosen = summary[(summary["quantity"] == quantity) & summary[x].notna()] if x in summary else summary[:0]
    chosen = chosen[(chosen["estimate"] > _LEAST) | (quantity == HELD_OUT)]
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial of random strings has a value for {quantity}")
    names = axes(chosen, quantity)
    of_network = tuple(name for name in names[1:] if x != PARAMETERS or name != WIDTH)
    fits = summary[(summary["quantity"] == SLOPE) & summary["estimate"].notna() & (quantity == CAPACITY)]
    exponents = [f"fitted exponent {row.estimate:.2f} ({row.low:.2f} to {row.high:.2f})" for row in fits.itertuples()]
    plane = panels.Plane(
        *(quantity, x, of_network, axis),
        is_scaled=False,
        fixed="; ".join(exponents),
        lines=partial(_lines, quantity=quantity),
        bounds={"at_least": ("^", "at least: still growing")} if quantity == CAPACITY else {},
    )
    return panels.draw(chosen, ax, names, plane, view)


def axes(summary: pd.DataFrame, quantity: str) -> list[str]:
    """Returns the columns that a view may choose in the figure of a quantity: its own, and the fields of a network."""
    fields = [name for name in frames.fields_of(summary) if name not in (SIZE, "seed")]
    return [_AXES[quantity][0], *fields]


def _lines(ax: Axes, rows: pd.DataFrame, x: str, quantity: str) -> None:
    """Draws published values, and where a set is held, or is as large as the capacity."""
    ends = np.array([rows[x].min(), rows[x].max()], float)
    if quantity == HELD_OUT:
        figures.reference(ax, ends, np.zeros(2), "guessing", ":")
        if x == FILLED:
            top = float(rows["high"].fillna(rows["estimate"]).max())
            figures.reference(ax, np.ones(2), np.array([0.0, 1.05 * top]), "set = capacity")
    elif quantity == HOLDS:
        figures.reference(ax, ends, np.full(2, PUBLISHED), f"{PUBLISHED}: Morris et al.", ":")
        if x == OFFERED:
            figures.reference(ax, ends, ends, "all of the set")
    elif x == PARAMETERS:
        for bits, dashes, source in ((PUBLISHED, "--", "Morris et al."), (2.0, "-.", "Allen-Zhu and Li")):
            figures.reference(ax, ends, bits * ends, f"{bits:g} bits a parameter: {source}", dashes)


def _of_seed(sizes: pd.DataFrame) -> dict[str, Any]:
    """Returns one seed's capacity, from all its set sizes."""
    decided = sizes.dropna(subset="bits")
    best, parameters = decided["bits"].max(), sizes["parameter_count"].astype(float).max()
    is_last = len(decided) > 0 and decided.sort_values(SIZE)["bits"].iloc[-1] == best
    return {
        **{"capacity": best, "per_parameter": best / parameters, "parameters": parameters, "at_least": int(is_last)},
    }


_LEAST = 0.01
"""Smallest value on a logarithmic axis."""
_AXES: dict[str, tuple[str, dict[str, Any]]] = {
    HOLDS: (
        OFFERED,
        {"xscale": "log", "yscale": "log", "xlabel": "bits of the set / parameters",
         "ylabel": "bits memorized / parameters"},
    ),
    HELD_OUT: (
        FILLED,
        {"xscale": "log", "xlabel": "bits of the set / capacity",
         "ylabel": "held-out loss above guessing\n(bits a token)"},
    ),
    CAPACITY: (
        PARAMETERS,
        {"xscale": "log", "yscale": "log", "xlabel": "parameters (P)", "ylabel": "capacity (bits)"},
    ),
}  # fmt: skip
"""Quantity -> column along x, and its axes."""
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
        partial(draw, quantity=HOLDS),
        f"On the line the network holds the whole set; a plateau is its capacity. Values of 0.01 and less "
        f"are in the table. {_NOTE} {_SET} Morris et al. (2025) trained larger transformers far longer.",
        rows=frames.of_quantity(HOLDS),
        axes=partial(axes, quantity=HOLDS),
    ),
    _figure(
        "held-out",
        "Held-out loss by the bits of the set",
        partial(draw, quantity=HELD_OUT),
        "Cross-entropy of unseen random strings less that of guessing, which no network can beat; sets larger than "
        "the capacity lie right of the line. The capacity is the mean over seeds of a network's largest bits over its "
        f"sets. {_SET} Mean over seeds; bars: 95 % bootstrap interval over seeds.",
        rows=frames.of_quantity(HELD_OUT),
        axes=partial(axes, quantity=HELD_OUT),
    ),
    _figure(
        "capacity",
        "Capacity by parameters",
        partial(draw, quantity=CAPACITY),
        f"A seed's largest bits over its sets. {_NOTE} A triangle: larger sets may give more. The exponent is the "
        "slope of log bits in log parameters, with the same interval. Morris et al. (2025) and Allen-Zhu and Li (2024, "
        "facts instead of strings) trained far longer.",
        rows=frames.of_quantity(CAPACITY),
        axes=partial(axes, quantity=CAPACITY),
    ),
)
