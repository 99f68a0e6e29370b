"""Inputs and labels of a trial: the examples of its training, validation and test sets.

A trial's data depends only on `data.*` and on its streams `inputs`, `labels` and `noise`. `pools.py` reads the
examples, `splits.py` selects them, `noise.py` corrupts them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isqrt

import numpy as np

from memsweep.data import custom, files, given, noise, own_noise, pools, regression, sequences, splits, subsets, texts
from memsweep.data.cache import SharedCache
from memsweep.data.form import Form
from memsweep.data.noise import Array
from memsweep.data.pools import facts_of
from memsweep.data.splits import Key, Split, digest
from memsweep.data.texts import DataError, data_folder
from memsweep.spec import contents
from memsweep.spec.config import TrialConfig
from memsweep.spec.contents import has_content, is_function
from memsweep.spec.fields.probe_rules import UNROLLED
from memsweep.spec.options import TARGET_TASKS, TASKS
from memsweep.spec.seeds import generator

CROPPED_PIXELS = 2
"""Pixels that a convolutional network crops at each side of an image."""
SMALLEST_SIDES = {"cnn": 11, "resnet": 4}
"""Family of networks that read images -> smallest side in pixels: cnn crops and pools twice, resnet halves twice."""


@dataclass(frozen=True, eq=False)
class TrialData:
    """The data of one trial. Arrays are read-only, because trials of one split share them."""

    inputs: Array  # [N, D] float32, after corruption
    labels: Array  # [N] int64, the labels trained on, after corruption
    true_labels: Array  # [N] int64, before corruption
    corrupted: Array  # [N] bool, the label or the inputs really changed
    held_out_inputs: Array  # [V + S, D] float32, validation first, then test; never corrupted
    held_out_labels: Array  # [V + S] int64
    validation_count: int  # V
    source_index: Array  # [N] int64, row of the task's pool, where official test sets follow training sets
    classes: int  # K
    class_labels: tuple[int | str, ...]  # [K] labels of a user's task; (): they are 0...K-1
    input_range: float  # largest minus smallest input of the task: 1 for images, before any corruption
    fingerprint: str  # 16 hexadecimal digits over all that training and evaluation read
    targets: Array  # [N, L * ...] for sequence tasks with targets, else [N, 0]; see sequences.py
    held_out_targets: Array  # [V + S, L * ...]
    source: str  # fingerprint of the data that the examples are taken from, as `source` returns it
    weights: Array  # [N] float32, of the examples' losses in training; [0]: all are 1
    split: object = field(default=None, repr=False)  # keeps the split alive, so that its trials share its arrays
    pool: TrialData | None = field(default=None, repr=False)  # of a trial on a subset: the data that it is drawn from
    places: Array = field(default_factory=lambda: np.empty(0, np.int64))  # [N] int64, of its examples in the pool

    @property
    def nbytes(self) -> int:
        """Bytes of the largest arrays: inputs, labels and targets."""
        targets = self.targets.nbytes + self.held_out_targets.nbytes
        return self.inputs.nbytes + self.held_out_inputs.nbytes + 3 * self.labels.nbytes + targets


_TRIALS: SharedCache[TrialData] = SharedCache()


def load(config: TrialConfig) -> TrialData:
    """Returns the data of one trial. Raises DataError.

    While a reference to it exists, trials with the same data get the same object, and trials of the same split get the
    same arrays: trials that differ only in label noise share their inputs.

    >>> data = load(TrialConfig.of({"data.noise_kind": "labels", "data.noise_fraction": 0.5}))
    >>> data.inputs.shape, data.held_out_inputs.shape, data.classes
    ((1000, 64), (500, 64), 10)
    """
    read = custom.own_of(config), own_noise.own_of(config)
    streams = ("inputs", "labels", "noise", *("order",) * (config.data.subset_fraction < 1))
    key = (config.data, read, *map(config.stream_seed, streams), data_folder())
    return _TRIALS.get(key, lambda: _load(config))


def shape(config: TrialConfig) -> tuple[int, int]:
    """Returns (D, K) of a trial; reads no dataset, but calls a user's task for its pool.  Raises DataError.

    >>> shape(TrialConfig.of({"data.task": "cifar10"}))
    (3072, 10)
    """
    data, seed, root = splits.key_of(config)
    facts = facts_of(data, seed, root)
    chosen = {"task": facts.classes, "random": config.data.classes or facts.classes, "unique": data.examples}
    return facts.inputs, chosen[config.data.label_scheme]


def renumbers_labels(config: TrialConfig) -> bool:
    """Returns whether a trial trains on labels of a user's task that are not 0...K-1, and are therefore renumbered.

    Protocol 1 kept these labels, and K was the largest label plus 1.
    """
    if not is_custom(config) or config.data.label_scheme == "unique" or config.data.classes:
        return False
    return bool(facts_of(*splits.key_of(config)).custom.class_labels)


def is_custom(config: TrialConfig) -> bool:
    """Returns whether a trial's task is a user's function, named by an import path."""
    return is_function(config.data.task)


def can_change(config: TrialConfig) -> bool:
    """Returns whether a trial's data may change over time; data of all other tasks is drawn or has a checksum.

    The checksum of a file of the user's is part of the trial.
    """
    return is_custom(config) or config.data.task == "characters"


def split_name(config: TrialConfig) -> str:
    """Returns 16 hexadecimal digits that identify a trial's split: its data fields and the seed of `inputs`."""
    data, seed, _ = splits.key_of(config)
    return hashlib.blake2b(repr((data, seed)).encode(), digest_size=8).hexdigest()


def source(config: TrialConfig) -> str:
    """Returns the fingerprint of the data that a trial's examples are taken from; "" if it cannot change.

    Raises DataError.
    """
    if config.data.task == "characters":
        return texts.text(data_folder()).fingerprint
    return facts_of(*splits.key_of(config)).custom.fingerprint if is_custom(config) else ""


def origin(config: TrialConfig) -> str:
    """Returns the names of the files that a trial's data comes from; only for data that can change."""
    if config.data.task == "characters":
        return str(texts.text(data_folder()).path)
    return custom.origin(*splits.key_of(config)[:2])


def repeat_problems(trials: Iterable[TrialConfig]) -> list[str]:
    """Returns one sentence per user's task or noise among these trials that returns other data when called again.

    The first and the last split of each task are built twice.
    """
    keys_of: dict[str, dict[Key, None]] = {}
    for trial in trials:
        if is_custom(trial):
            keys_of.setdefault(trial.data.task, {})[splits.key_of(trial)] = None
    ends = [key for keys in keys_of.values() for key in dict.fromkeys((next(iter(keys)), next(reversed(keys))))]
    problems = (custom.repeat_problem(data, seed) for data, seed, _ in ends)
    return list(dict.fromkeys(filter(None, [*problems, *_noise_problems(trials)])))


def _noise_problems(trials: Iterable[TrialConfig]) -> Iterator[str | None]:
    """Yields a problem of each user's noise among these trials, called twice for the first trial of each."""
    firsts: dict[tuple[object, ...], TrialConfig] = {}
    for trial in trials:
        if own_noise.is_own(trial):
            firsts.setdefault((trial.data.task, trial.data.noise_kind, own_noise.own_of(trial)), trial)
    for trial in map(subsets.whole, firsts.values()):
        split = splits.load(splits.key_of(trial))
        labels, _, classes = _labels(split, trial)
        yield own_noise.repeat_problem(split.inputs, labels, classes, trial)


def remarks(trials: Iterable[TrialConfig]) -> list[str]:
    """Returns remarks on the pools of users' tasks among these trials, from one pool per task."""
    custom_trials = [trial for trial in trials if is_custom(trial) or has_content(trial.data.task)]
    firsts = {trial.data.task: trial for trial in reversed(custom_trials)}
    sentences = [text for trial in reversed(firsts.values()) for text in facts_of(*splits.key_of(trial)).custom.remarks]
    images = {(trial.data.task, trial.model.family): trial for trial in custom_trials if reads_images(trial)}
    for (task, family), trial in images.items():
        channels, side, _ = image_of(trial)
        if channels > 1 and not facts_of(*splits.key_of(trial)).shape:
            sentences.append(
                f"data.task = {task!r}: model.family = {family!r} reads inputs channel first, as [R, {channels}, "
                f"{side}, {side}]: of images [R, {side}, {side}, {channels}] return images.transpose(0, 3, 1, 2), "
                "flattened."
            )
    return sentences


def form(config: TrialConfig) -> Form:
    """Returns the form of a trial's examples as a network reads them step by step."""
    form = sequences.form(config.data, *shape(config), target_count(config))
    return form._replace(has_weights=has_weights(config))


def has_weights(config: TrialConfig) -> bool:
    """Returns whether a user's task weights the losses of training examples.  Raises DataError."""
    return is_custom(config) and facts_of(*splits.key_of(config)).has_weights


def target_count(config: TrialConfig) -> int:
    """Returns how many real numbers a user's task has instead of a label; 0: labels.  Raises DataError."""
    if config.data.task in TASKS or config.data.label_scheme != "task":
        return 0
    return facts_of(*splits.key_of(config)).targets


def image_shape(input_dim: int, family: str = "cnn") -> tuple[int, int]:
    """Returns (channels, side) of an example as a square image, channel first.

    Raises DataError if input_dim is not that of a square image with 1 or 3 channels that the family can read.

    >>> image_shape(784), image_shape(3072)
    ((1, 28), (3, 32))
    """
    for channels in (1, 3):  # no number is both n * n and 3 * n * n
        side = isqrt(input_dim // channels)
        if channels * side * side == input_dim and side >= SMALLEST_SIDES[family]:
            return channels, side
    raise DataError(
        f"model.family = {family!r} with {input_dim} inputs: needs square images with sides of "
        f"{SMALLEST_SIDES[family]} pixels or more, in 1 or 3 channels; use mnist5k, mnist, fashion_mnist, cifar10, or "
        "a task with 784 or 3072 inputs."
    )


def reads_images(config: TrialConfig) -> bool:
    """Returns whether a trial's network reads its inputs as images."""
    return config.model.family in SMALLEST_SIDES


def image_of(config: TrialConfig) -> tuple[int, int, int]:
    """Returns (channels, height, width) of a trial's examples as images.  Raises DataError if they are no images."""
    facts = facts_of(*splits.key_of(config))
    family = config.model.family
    if len(facts.shape) != 3:
        channels, side = image_shape(facts.inputs, family)
        return channels, side, side
    channels, height, width = facts.shape
    if min(height, width) < SMALLEST_SIDES[family]:
        raise DataError(
            f"model.family = {family!r} with images of {width}x{height} pixels: needs sides of "
            f"{SMALLEST_SIDES[family]} pixels or more; use larger images."
        )
    return channels, height, width


def check(config: TrialConfig) -> list[str]:
    """Returns one sentence per reason why this trial's data can't be loaded; reads each dataset once per process."""
    if config.data.task in TARGET_TASKS and (broken := sequences.problems(config, 0)):
        return broken  # before anything is drawn
    if problems := list(splits.problems(*splits.key_of(config))):
        return problems + subsets.remarks(config)
    input_dim, classes = shape(config)
    problems += sequences.problems(config, input_dim)
    if target_count(config):
        problems += regression.problems(config)
    elif has_content(config.data.task) and config.data.label_scheme == "task" and classes < 2:
        problems.append(f"data.task = {config.data.task!r}: all labels are equal; needs 2 classes or more.")
    if has_weights(config) and (unrolled := UNROLLED & {*config.probes}):
        problems.append(
            f"probes = {', '.join(sorted(unrolled))}: differentiate a loss without weights, and data.task = "
            f"{config.data.task!r} returns weights; leave them out."
        )
    if sentence := noise.problem(classes, input_dim, config):
        problems.append(sentence)
    if reads_images(config):
        try:
            image_of(config)
        except DataError as error:
            problems.append(str(error))
    return problems


def forget() -> None:
    """Clears all caches, so that files are read and users' tasks are called again: they may have changed."""
    for cached in (pools.facts_of, pools.pool_of_files, custom.pool_of_user, texts.text):
        cached.cache_clear()
    contents.forget()
    files.forget()
    given.forget()
    _TRIALS.clear()
    splits.forget()


def _load(config: TrialConfig) -> TrialData:
    if config.data.subset_fraction < 1:
        return subsets.taken(load(subsets.whole(config)), config)
    split = splits.load(splits.key_of(config))
    true_labels, held_out_labels, classes = _labels(split, config)
    if sentence := noise.problem(classes, split.inputs.shape[1], config):
        raise DataError(sentence)
    if own_noise.is_own(config):
        inputs, labels, corrupted = own_noise.corrupt(split.inputs, true_labels, classes, config)
    else:
        inputs, labels, corrupted = noise.corrupt(split.inputs, true_labels, classes, config, split.second_labels)
    targets, source_index, weights = split.targets, split.source_index, split.weights
    if (order := noise.repeated(config.data)) is not None:
        weights = weights[order] if weights.size else weights
        inputs, labels, true_labels, corrupted, targets, source_index = (
            array[order] for array in (inputs, labels, true_labels, corrupted, targets, source_index)
        )
    for array in (inputs, labels, true_labels, corrupted, held_out_labels, targets, source_index, weights):
        array.flags.writeable = False
    validation_count = config.data.validation_examples
    digests = [split.inputs_digest if inputs is split.inputs else digest(inputs), split.held_out_digest]
    digests += [digest(array) for array in (labels, true_labels, corrupted, held_out_labels)]
    held_out_targets = split.held_out_targets
    if config.data.task not in TASKS and config.data.label_scheme != "task":  # labels in place of targets
        targets, held_out_targets = targets[:, :0], held_out_targets[:, :0]
    if targets.size:
        digests += [digest(array) for array in (targets, held_out_targets)]
    digests += [digest(weights)] if weights.size else []
    class_labels = split.class_labels if config.data.label_scheme == "task" else ()
    text = ":".join([*digests, str(validation_count), str(classes), *([str(class_labels)] if class_labels else [])])
    return TrialData(
        inputs=inputs,
        labels=labels,
        true_labels=true_labels,
        corrupted=corrupted,
        held_out_inputs=split.held_out_inputs,
        held_out_labels=held_out_labels,
        validation_count=validation_count,
        source_index=source_index,
        classes=classes,
        class_labels=class_labels,
        input_range=split.input_range,
        fingerprint=hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
        targets=targets,
        held_out_targets=held_out_targets,
        source=split.source,
        weights=weights,
        split=split,
    )


def _labels(split: Split, config: TrialConfig) -> tuple[Array, Array, int]:
    """Returns labels before corruption [N], labels of held-out examples [V + S], and K."""
    data, seed = config.data, config.stream_seed("labels")
    if data.label_scheme == "task":
        return split.labels, split.held_out_labels, split.classes
    if data.label_scheme == "unique":
        return np.arange(data.examples), split.held_out_labels, data.examples
    classes = data.classes or split.classes
    parts = {"train": data.examples, "validation": data.validation_examples, "test": data.test_examples}
    train, *held_out = (generator(seed, f"labels/{part}").integers(classes, size=rows) for part, rows in parts.items())
    return train, np.concatenate(held_out), classes
