"""Claims on associative recall, after Arora et al. (2023) and Okpekpe and Orvieto (2025): cells against attention.

A trial ends when 99 % of its queries are right, so that larger shares differ by when they were measured alone: shares
count as SOLVED at most, and two networks that solve a task tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import Basis, Claim, Evidence, Margin, MissingTrialsError, Paper
from memsweep.analysis.core import frames
from memsweep.analysis.questions import recall
from memsweep.analysis.questions.recall import (
    BEST,
    CELL,
    DEPTH,
    FAMILY,
    LENGTH,
    NETWORK,
    PAIRS,
    RATE,
    RECALLED,
    WIDTH,
    by_place,
    name_of,
)

SOLVED = 0.99
"""Share of right queries that ends a trial of the task."""
SHALLOW_CELL, DEEP_CELL = name_of("gru", 1), name_of("gru", 2)
ONE_BLOCK, TWO_BLOCKS = name_of("transformer", 1), name_of("transformer", 2)
ASSOCIATED = 2
"""Pairs from which on an answer needs the key: a single pair has one value."""


Place = tuple[int, int]
"""Width and number of pairs."""


def at_best(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns shares of right queries at a seed's best rate, SOLVED at most: [seeds, (network, width, pairs)]."""
    best = recall.best(rows)
    return _table(best.assign(**{BEST: best[BEST].clip(upper=SOLVED)}), BEST)


def windows(rows: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Returns the share of learning rates at which a seed has more than the midpoint of its queries right.

    place: width and pairs. A diverged network has none right.
    Returns [seeds, networks]; NaN where a rate has no result.
    """
    shares = recall.measured(rows[(rows[WIDTH] == place[0]) & (rows[PAIRS] == place[1])])
    every = shares.pivot_table(index=["seed", NETWORK], columns=RATE, values=RECALLED, aggfunc="mean", dropna=False)
    is_learned = (every > _midpoint(rows, [place])).astype(float).where(every.notna())
    table: pd.DataFrame = is_learned.mean(axis=1, skipna=False).unstack()
    return table


def attention_recalls_more(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns shares of two blocks of attention less those of one layer of cells, with the most pairs."""
    table = at_best(rows)
    most = max(pairs for _, pairs in _places(table, TWO_BLOCKS, SHALLOW_CELL))
    places = [place for place in _places(table, TWO_BLOCKS, SHALLOW_CELL) if place[1] == most]
    return [_less(table, TWO_BLOCKS, SHALLOW_CELL, places, "most pairs")]


def one_block_fails(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns two blocks less one, and how far one block stays below half of the way from guessing to all right."""
    table = at_best(rows)
    places = _places(table, TWO_BLOCKS, ONE_BLOCK)
    below = _midpoint(rows, places) - _mean(table, ONE_BLOCK, places)
    return [
        _less(table, TWO_BLOCKS, ONE_BLOCK, places, _ALL),
        Margin(f"half of the way from guessing by place to all right - queries right (share), {ONE_BLOCK}", below),
    ]


def one_layer_recalls(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns shares of one layer of cells less those of one block of attention."""
    table = at_best(rows)
    return [_less(table, SHALLOW_CELL, ONE_BLOCK, _places(table, SHALLOW_CELL, ONE_BLOCK), _ALL)]


def width_or_depth(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns the wide network of one layer less the narrow one of two, for cells; the reverse for attention."""
    table = at_best(rows)
    parts: list[Evidence] = []
    for shallow, deep, sign, what in (
        (SHALLOW_CELL, DEEP_CELL, 1, f"wide {SHALLOW_CELL} - narrow {DEEP_CELL}"),
        (ONE_BLOCK, TWO_BLOCKS, -1, f"narrow {TWO_BLOCKS} - wide {ONE_BLOCK}"),
    ):
        shared = _places(table, shallow, deep)
        narrow, wide = min(shared)[0], max(_places(table, shallow))[0]
        if narrow == wide:
            raise MissingTrialsError(f"one width of {shallow} alone")
        both = [pairs for width, pairs in shared if width == narrow and (wide, pairs) in _places(table, shallow)]
        gain = _mean(table, shallow, [(wide, pairs) for pairs in both])
        gain -= _mean(table, deep, [(narrow, pairs) for pairs in both])
        parts.append(Margin(f"queries right (share), {what}", sign * gain))
    return parts


def rates_matter_more(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns the share of rates at which attention recalls less that at which cells do; and that these do at some."""
    places = _places(at_best(rows), SHALLOW_CELL, TWO_BLOCKS)
    of_both = recall.measured(rows)
    of_both = of_both[of_both[NETWORK].isin((SHALLOW_CELL, TWO_BLOCKS))]
    rates = of_both.groupby([WIDTH, PAIRS])[RATE].nunique()
    place = max(places, key=lambda place: (rates[place], place[0], -place[1]))
    table = windows(of_both, place)
    attention, cells = (table[network].to_numpy(float) for network in (TWO_BLOCKS, SHALLOW_CELL))
    what = "share of learning rates with more than half of the way from guessing by place to all right"
    return [
        Margin(f"{what}, {TWO_BLOCKS} - {SHALLOW_CELL}", attention - cells),
        Margin(f"{what}, {SHALLOW_CELL}", cells),
    ]


def _table(shares: pd.DataFrame, value: str) -> pd.DataFrame:
    """Returns values by seed and (network, width, pairs); a mean where other fields vary."""
    table: pd.DataFrame = shares.pivot_table(
        index="seed", columns=[NETWORK, WIDTH, PAIRS], values=value, aggfunc="mean", dropna=False
    )
    return table.dropna(axis=1, how="all")


def _places(table: pd.DataFrame, *networks: str) -> list[Place]:
    """Returns the widths and pairs, ASSOCIATED or more, that all networks have.  Raises MissingTrialsError."""
    columns = list(table.columns.to_frame().itertuples(index=False, name=None))
    of_network = ({(width, pairs) for name, width, pairs in columns if name == network} for network in networks)
    chosen = sorted(place for place in set.intersection(*of_network) if place[1] >= ASSOCIATED)
    if not chosen:
        raise MissingTrialsError(f"no width with {ASSOCIATED} pairs or more for {' and '.join(networks)}")
    return chosen


def _mean(table: pd.DataFrame, network: str, places: Sequence[Place]) -> np.ndarray:
    """Returns [seeds], the mean over places; NaN where one lacks."""
    return np.asarray(table[[(network, *place) for place in places]].to_numpy(float).mean(axis=1))


def _less(table: pd.DataFrame, more: str, less: str, places: Sequence[Place], where: str) -> Margin:
    difference = _mean(table, more, places) - _mean(table, less, places)
    return Margin(f"queries right (share), {where}, {more} - {less}", difference)


def _midpoint(rows: pd.DataFrame, places: Sequence[Place]) -> float:
    """Returns the mean over places of the middle between guessing by place and all right."""
    lengths = dict(zip(rows[PAIRS], rows[LENGTH], strict=True))
    return float(np.mean([(1 + by_place(int(pairs), int(lengths[pairs]))) / 2 for _, pairs in places]))


_ALL = "mean over widths and pairs"

_NETWORKS = (FAMILY, CELL, DEPTH)
_claim = partial(Claim, sweeps=("recall",), statuses=frames.UNPRUNED)
_SHARE = (
    "share of validation queries that is right at the end, at the best of the learning rates for each seed and setting "
    f"(a diverged network: 0; {SOLVED:g} at most, which ends a trial)"
)
PAPER = Paper(
    "recall",
    "Arora et al. 2023, Zoology; Okpekpe and Orvieto 2025, Revisiting associative recall",
    "The abstracts were read, of the second paper both versions; the recurrent models there are gated convolutions and "
    "state-space models, here GRUs, which are classic recurrent cells: claims about them are carried over by us.",
    (
        _claim(
            1,
            "Attention of two blocks recalls more than a recurrent cell of the same width.",
            Basis.ABSTRACT,
            f"With the most pairs, two blocks less one layer of GRU: {_SHARE}, mean over widths; sign test over seeds, "
            "without a bound. Arora et al. compare gated convolutions of 20 times the parameters.",
            measure=attention_recalls_more,
            shuffled=_NETWORKS,
        ),
        _claim(
            2,
            "A single block of attention does not recall; two blocks do better.",
            Basis.ABSTRACT,
            "Two blocks less one above 0, and one block nearer to guessing by place than to all right (midpoint "
            f"ours): {_SHARE}, mean over widths and over {ASSOCIATED} pairs or more; sign tests over seeds.",
            measure=one_block_fails,
            shuffled=_NETWORKS,
        ),
        _claim(
            3,
            "A single layer of recurrent cells recalls what a single block of attention does not.",
            Basis.ABSTRACT,
            f"One layer of GRU less one block of attention: {_SHARE}, mean over widths and over {ASSOCIATED} pairs or "
            "more; sign test over seeds, without a bound.",
            measure=one_layer_recalls,
            shuffled=_NETWORKS,
        ),
        _claim(
            4,
            "Recurrent cells gain more by width than by depth, attention more by depth than by width.",
            Basis.ABSTRACT,
            "The widest network of one layer less the narrowest of two, for GRUs; the reverse for attention: "
            f"{_SHARE}, mean over {ASSOCIATED} pairs or more; sign tests over seeds, without a bound.",
            measure=width_or_depth,
            shuffled=(WIDTH, DEPTH),
        ),
        _claim(
            5,
            "The choice of the learning rate matters more for recurrent cells than for attention.",
            Basis.ABSTRACT,
            "At the width and number of pairs with most learning rates, which differ by factors of about 3: share of "
            "rates at which a seed's share of right queries is nearer to all right than to guessing by place (midpoint "
            "ours), two blocks of attention less one layer of GRU, above 0; and that of the GRU above 0, or its rate "
            "could not matter; sign tests over seeds. The best rate of either counts for nothing: all rates do.",
            measure=rates_matter_more,
            shuffled=_NETWORKS,
        ),
    ),
)
