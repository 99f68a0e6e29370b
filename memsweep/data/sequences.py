"""Sequence tasks: inputs that a network reads step by step, and targets at some of the steps.

Definitions follow the literature where it was available; our own choices are marked "ours". A task with labels can also
be read step by step: D inputs as T steps of D / T numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from math import factorial
from typing import NamedTuple

import numpy as np

from memsweep.data.form import Form
from memsweep.data.noise import Array
from memsweep.data.texts import REGIONS, DataError, Text, data_folder, text
from memsweep.spec.config import TrialConfig
from memsweep.spec.fields.groups import Data
from memsweep.spec.options import GAP_POWER, SEQUENCE_FAMILIES
from memsweep.spec.seeds import generator

NOT_ASKED = -1
"""Target of a step without an answer."""
TOLERANCE = 0.1
"""Largest error of a number that counts as right; its square is the mean squared error that solves a task (ours)."""
BLOCK_ROWS = 512
"""Rows drawn at a time, where a row needs as many random numbers as there are tokens."""
VOCABULARIES = {"copy": 8, "recall": 8192, "strings": 2048}
ITEMS = {"copy": 10, "recall": 4, "composition": 3}
"""Sizes for data.vocabulary = 0 and data.items = 0: those of the literature, except 4 pairs to recall and 3 items to
permute, the fewest for which the order of permutations matters."""
MOST_PERMUTED = 5
"""Most items of `composition`: their 120 permutations are a token each."""


class Solved(NamedTuple):
    """The threshold at which a task counts as solved, on validation data."""

    measure: str  # "accuracy" of all targets, at least; or "squared_error", mean of a target, below
    threshold: float


class Task(NamedTuple):
    """A task with targets other than a single label."""

    form: Callable[[Data], Form]
    rules: Callable[[Data], Iterator[str]]  # yields a sentence per rule that these fields break
    draw: Callable[[Data, str, int, int], tuple[Array, Array]]  # (data, part, seed, rows) -> inputs, targets
    solved: Solved | None = None


def form(data: Data, inputs: int, classes: int, targets: int = 0) -> Form:
    """Returns the form of a trial's examples.

    inputs, classes: D and K of a task with labels.  targets: real numbers of an example of a user's task; 0: a label.
    """
    if data.task in TARGET_TASKS:
        return TARGET_TASKS[data.task].form(data)
    steps = max(data.sequence_length, 1)
    given = 1 if data.task == "random_sequences" else steps
    form = Form(data.sequence_length, inputs // given, given_steps=given, outputs=classes)
    return form._replace(kind="values", outputs=targets, targets=targets, is_graded=False) if targets else form


def problems(config: TrialConfig, inputs: int) -> list[str]:
    """Returns one sentence per rule of sequences that a trial breaks.  inputs: D of a task with labels."""
    data, length = config.data, f"data.sequence_length = {config.data.sequence_length}"
    if data.task in TARGET_TASKS:
        return list(TARGET_TASKS[data.task].rules(data))
    if data.sequence_length < 1 and (config.model.family in SEQUENCE_FAMILIES or data.task == "random_sequences"):
        return [f"{length}: sequences have 1 step or more."]
    if data.sequence_length and data.task != "random_sequences" and inputs % data.sequence_length:
        return [f"{length}: must divide the {inputs} inputs of task {data.task!r} into equal steps; use a divisor."]
    return []


def draw(data: Data, part: str, seed: int, rows: int) -> tuple[Array, Array]:
    """Returns inputs [rows, D] float32 and targets [rows, L * ...] of `train`, `validation` or `test`.

    Targets are int64 tokens, with NOT_ASKED at steps without an answer, or float32 numbers. Each part has separate
    sub-streams, and rows are drawn one after another, so that sets of different sizes are nested.
    """
    inputs, targets = TARGET_TASKS[data.task].draw(data, part, seed, rows)
    return inputs.astype(np.float32), targets


def is_solved(data: Data, counts: Mapping[str, float]) -> bool:
    """Returns whether these counts on validation data meet the task's threshold; False for a task without a threshold.

    counts: target_correct_count and target_count; squared_error_sum for tasks whose targets are numbers.
    """
    solved = TARGET_TASKS[data.task].solved if data.task in TARGET_TASKS else None
    if solved is None or not counts["target_count"]:
        return False
    if solved.measure == "accuracy":
        return counts["target_correct_count"] >= solved.threshold * counts["target_count"]
    return counts["squared_error_sum"] < solved.threshold * counts["target_count"]


def vocabulary(data: Data) -> int:
    """Returns the number of tokens (V): data.vocabulary or the task's default; 0 without a vocabulary."""
    return data.vocabulary or VOCABULARIES.get(data.task, 0)


def items(data: Data) -> int:
    """Returns the number of items: data.items or the task's default; 0 without items."""
    return data.items or ITEMS.get(data.task, 0)


# copy: symbols, blanks, a delimiter; the answer repeats the symbols in order (Hochreiter & Schmidhuber 1997; Arjovsky
# et al. 2016). Only the copied symbols are targets, so that guessing costs ln V nats per symbol.


def _copy_form(data: Data) -> Form:
    symbols, count = vocabulary(data), items(data)
    return Form(data.sequence_length, 1, symbols + 2, data.sequence_length, "tokens", count, symbols, count)


def _copy_rules(data: Data) -> Iterator[str]:
    count, shortest = items(data), 2 * items(data) + 1
    if data.sequence_length < shortest:
        yield (
            f"data.sequence_length = {data.sequence_length}: copying data.items = {count} symbols takes "
            f"{shortest} steps or more: the symbols, a delimiter, and the symbols again."
        )
    if vocabulary(data) < 2:
        yield f"data.vocabulary = {data.vocabulary}: copying needs 2 symbols or more."


def _copy(data: Data, part: str, seed: int, rows: int) -> tuple[Array, Array]:
    symbols, count = vocabulary(data), items(data)
    symbol_tokens = generator(seed, f"inputs/{part}").integers(symbols, size=(rows, count))
    inputs = np.full((rows, data.sequence_length), symbols)  # blanks
    inputs[:, :count] = symbol_tokens
    inputs[:, -count - 1] = symbols + 1  # the delimiter, then as many blanks as symbols
    return inputs, symbol_tokens


# adding: numbers, one of them marked in each half; the target is the sum of the two marked numbers (Hochreiter &
# Schmidhuber 1997). The constant answer 1 has a mean squared error of 1/6.


def _adding_form(data: Data) -> Form:
    return Form(data.sequence_length, 2, 0, data.sequence_length, "values", 1, 1, 1)


def _adding_rules(data: Data) -> Iterator[str]:
    if data.sequence_length < 2:
        yield f"data.sequence_length = {data.sequence_length}: adding marks a number in each half; use 2 or more steps."
    yield from _no_vocabulary(data)


def _adding(data: Data, part: str, seed: int, rows: int) -> tuple[Array, Array]:
    steps, half = data.sequence_length, data.sequence_length // 2
    numbers = generator(seed, f"inputs/{part}").random((rows, steps))
    places = generator(seed, f"inputs/{part}/marks").random((rows, 2))
    marked = np.stack([places[:, 0] * half, half + places[:, 1] * (steps - half)], axis=1).astype(int)
    marks = np.zeros((rows, steps))
    np.put_along_axis(marks, marked, 1.0, axis=1)
    total = np.take_along_axis(numbers, marked, axis=1).sum(axis=1, keepdims=True)
    return np.stack([numbers, marks], axis=2).reshape(rows, 2 * steps), total.astype(np.float32)


# recall: key-value pairs, then each key once more at a later step, where its value is the target (multi-query
# associative recall, Arora et al. 2023; gaps are drawn as in their published generator).


def _recall_form(data: Data) -> Form:
    tokens, pairs = vocabulary(data), items(data)
    return Form(
        data.sequence_length, 1, tokens, data.sequence_length, "tokens", data.sequence_length - 2 * pairs, tokens, pairs
    )


def _recall_rules(data: Data) -> Iterator[str]:
    steps, tokens, pairs = data.sequence_length, vocabulary(data), items(data)
    if steps < 4 * pairs:
        yield (
            f"data.sequence_length = {steps}: recalling data.items = {pairs} pairs takes 4 steps a pair or more, "
            f"{4 * pairs} in all."
        )
    if steps % 2:
        yield f"data.sequence_length = {steps}: recall pairs steps, so their number must be even."
    if tokens <= steps:
        yield f"data.vocabulary = {tokens}: recall needs more tokens than steps, more than {steps}."
    elif pairs > tokens // 2 - 1:
        yield f"data.items = {pairs}: a vocabulary of {tokens} has {tokens // 2 - 1} keys; use that many pairs at most."


def _recall(data: Data, part: str, seed: int, rows: int) -> tuple[Array, Array]:
    steps, tokens, pairs = data.sequence_length, vocabulary(data), items(data)
    half, places = tokens // 2, (steps - 2 * pairs) // 2

    def chosen(purpose: str, low: int, high: int) -> Array:
        """Returns [rows, pairs] numbers in [low, high), without repetition within a row, in random order."""
        rng, drawn_rows = generator(seed, f"inputs/{part}/{purpose}"), np.empty((rows, pairs), np.int64)
        for begin in range(0, rows, BLOCK_ROWS):
            block = drawn_rows[begin : begin + BLOCK_ROWS]
            block[:] = low + rng.random((len(block), high - low), np.float32).argsort(axis=1)[:, :pairs]
        return drawn_rows

    keys, values = chosen("keys", 1, half), chosen("values", half, tokens)
    # the smallest of exponential times with these rates: draws places without replacement, with the rates as weights
    gaps = np.arange(1, places + 1)
    times = generator(seed, f"inputs/{part}/places").exponential(size=(rows, places)) / gaps ** (GAP_POWER - 1.0)
    offsets = 2 * np.argsort(times, axis=1)[:, :pairs]
    inputs, targets = np.zeros((rows, steps), int), np.full((rows, steps - 2 * pairs), NOT_ASKED)
    inputs[:, : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, values
    np.put_along_axis(inputs, 2 * pairs + offsets, keys, axis=1)
    np.put_along_axis(targets, offsets, values, axis=1)
    return inputs, targets


# strings: random tokens, each to be predicted from the tokens before it (Morris et al. 2025): nothing generalizes.


def _strings_form(data: Data) -> Form:
    tokens, steps = vocabulary(data), data.sequence_length
    return Form(steps, 1, tokens + 1, steps, "tokens", steps, tokens, steps)


def _strings_rules(data: Data) -> Iterator[str]:
    if data.sequence_length < 1:
        yield f"data.sequence_length = {data.sequence_length}: a string has 1 token or more."
    if vocabulary(data) < 2:
        yield f"data.vocabulary = {data.vocabulary}: random strings need 2 tokens or more."
    yield from _no_items(data)


def _strings(data: Data, part: str, seed: int, rows: int) -> tuple[Array, Array]:
    tokens = generator(seed, f"inputs/{part}").integers(vocabulary(data), size=(rows, data.sequence_length))
    begin = np.full((rows, 1), vocabulary(data))
    return np.concatenate([begin, tokens[:, :-1]], axis=1), tokens


# reconstruction: a random vector at the first step, which is the target at the last step (after Collins et al. 2017).


def _reconstruction_form(data: Data) -> Form:
    return Form(data.sequence_length, data.input_dim, 0, 1, "values", 1, data.input_dim, data.input_dim)


def _reconstruction_rules(data: Data) -> Iterator[str]:
    if data.sequence_length < 1:
        yield f"data.sequence_length = {data.sequence_length}: reconstruction takes 1 step or more."
    if data.input_dim < 1:
        yield "data.input_dim = 0: the task reconstruction has no default; set data.input_dim to 1 or more."
    yield from _no_vocabulary(data)


def _reconstruction(data: Data, part: str, seed: int, rows: int) -> tuple[Array, Array]:
    numbers = generator(seed, f"inputs/{part}").standard_normal((rows, data.input_dim), dtype=np.float32)
    return numbers, numbers


# characters: each character of a text, predicted from the characters before it. An example is a window of the text.


def _text() -> Text:
    return text(data_folder())


def _characters_form(data: Data) -> Form:
    tokens, steps = len(_text().characters), data.sequence_length
    return Form(steps, 1, tokens, steps, "tokens", steps, tokens, steps)


def _characters_rules(data: Data) -> Iterator[str]:
    try:
        shortest = min(len(_text().region(part)) for part in REGIONS)
    except DataError as error:
        yield str(error)
        return
    if not 1 <= data.sequence_length < shortest:
        yield (
            f"data.sequence_length = {data.sequence_length}: windows of this text have 1 to {shortest - 1} characters, "
            "within its validation and test regions too."
        )
    yield from _no_vocabulary(data)


def _characters(data: Data, part: str, seed: int, rows: int) -> tuple[Array, Array]:
    region, steps = _text().region(part), data.sequence_length
    begins = generator(seed, f"inputs/{part}").integers(len(region) - steps, size=(rows, 1))
    windows = region[begins + np.arange(steps + 1)]
    return windows[:, :-1], windows[:, 1:]


# composition: permutations of k items, a token each; the target at each step is the product of all permutations so far
# (the word problem of the symmetric group S_k). The network's state must be permuted at each step.


def _composition_form(data: Data) -> Form:
    steps, tokens = data.sequence_length, factorial(items(data))
    return Form(steps, 1, tokens, steps, "tokens", steps, tokens, steps)


def _composition_rules(data: Data) -> Iterator[str]:
    if data.sequence_length < 1:
        yield f"data.sequence_length = {data.sequence_length}: composition takes 1 permutation or more."
    if not 2 <= items(data) <= MOST_PERMUTED:
        yield f"data.items = {data.items}: composition permutes 2 to {MOST_PERMUTED} items; 0: {ITEMS[data.task]}."
    if data.vocabulary:
        yield f"data.vocabulary = {data.vocabulary}: composition has a token for each permutation; set it to 0."


def _composition(data: Data, part: str, seed: int, rows: int) -> tuple[Array, Array]:
    count = items(data)
    permutations = np.array(list(itertools.permutations(range(count))))  # [tokens, count], in lexical order
    digits = count ** np.arange(count)[::-1]
    codes = permutations @ digits  # ascending, like the permutations
    tokens = generator(seed, f"inputs/{part}").integers(len(permutations), size=(rows, data.sequence_length))
    placed, targets = np.tile(np.arange(count), (rows, 1)), np.empty_like(tokens)
    for step in range(data.sequence_length):
        placed = np.take_along_axis(permutations[tokens[:, step]], placed, axis=1)
        targets[:, step] = np.searchsorted(codes, placed @ digits)
    return tokens, targets


def _no_vocabulary(data: Data) -> Iterator[str]:
    if data.vocabulary:
        yield f"data.vocabulary = {data.vocabulary}: task {data.task!r} has a fixed vocabulary or none; set it to 0."
    yield from _no_items(data)


def _no_items(data: Data) -> Iterator[str]:
    if data.items:
        yield f"data.items = {data.items}: task {data.task!r} has no items; set it to 0."


TARGET_TASKS: dict[str, Task] = {
    "copy": Task(_copy_form, _copy_rules, _copy, Solved("accuracy", 0.99)),
    "adding": Task(_adding_form, _adding_rules, _adding, Solved("squared_error", 0.01)),
    "recall": Task(_recall_form, _recall_rules, _recall, Solved("accuracy", 0.99)),
    "strings": Task(_strings_form, _strings_rules, _strings),
    "characters": Task(_characters_form, _characters_rules, _characters),
    "composition": Task(_composition_form, _composition_rules, _composition),
    "reconstruction": Task(_reconstruction_form, _reconstruction_rules, _reconstruction, Solved("squared_error", 0.01)),
}
