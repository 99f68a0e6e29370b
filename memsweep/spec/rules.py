"""What is wrong between fields of a trial that are each right: one sentence a problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from memsweep.spec.options import (
    CELLS,
    NOISE_KINDS,
    PROTOCOL,
    REPEATED_PROBES,
    SEQUENCE_FAMILIES,
    SOLVABLE_TASKS,
    SYNTHETIC_TASKS,
    TARGET_TASKS,
    TASK_SIZES,
    TASKS,
)

if TYPE_CHECKING:
    from memsweep.spec.config import TrialConfig


READ = frozenset(
    [
        *(f"data.{name}" for name in ("task", "validation_examples", "test_examples", "input_dim", "label_scheme")),
        *(f"data.{name}" for name in ("noise_kind", "noise_fraction", "sequence_length", "classes", "vocabulary")),
        *("data.items", "model.family", "model.depth", "model.cell", "model.activation", "model.initialization"),
        *(f"regularization.{name}" for name in ("dropout", "input_dropout", "input_noise", "hidden_noise")),
        *(f"regularization.{name}" for name in ("label_smoothing", "adversarial", "penalty", "penalty_strength")),
        *("optimizer.name", "optimizer.momentum", "optimizer.clip", "optimizer.truncation", "optimizer.objective"),
        *("stop.solve", "probes", "probe_steps", "protocol"),
    ]
)
"""Fields that `cross_problems` looks at; others go together with everything."""
TOLD_APART = 4
"""Whole numbers from here on are alike to `cross_problems`, and so are all fractions above 0."""


def kind(name: str, value: Any) -> Any:
    """What `cross_problems` makes of a field's value: values of a kind are right, or wrong, with the same others."""
    if name not in READ:
        return None
    if isinstance(value, float):
        return value > 0
    return min(value, TOLD_APART) if isinstance(value, int) and name != "protocol" else value


FEW_ROWS, FEW_COLUMNS = 3, 12
"""Matrices of so many are small to the library's products in single precision."""


class Mend(NamedTuple):
    """A change of the numbers of some configurations, which fields alone single out."""

    reason: str  # what is mended, for people
    fields: tuple[str, ...]  # dotted names that `concerns` reads; no lists, which tables hold as text
    concerns: Callable[..., bool]  # of the values of `fields`, in their order


def _is_uneven_mlp(
    family: str,
    task: str,
    input_dim: int,
    scheme: str,
    classes: int,
    examples: int,
    width: int,
    depth: int,
    rows: int,
    dtype: str,
) -> bool:
    """Whether an MLP on a task of ours has a layer that is uneven."""
    if family != "mlp" or ":" in task:
        return False
    inputs, of_task = TASK_SIZES.get(task, (input_dim, 0))
    outputs = {"task": of_task, "random": classes or of_task, "unique": examples}[scheme]
    return has_uneven_layer(inputs, outputs, width, depth, rows, dtype)


def has_uneven_layer(inputs: int, outputs: int, width: int, depth: int, rows: int, dtype: str) -> bool:
    """Whether an MLP has a layer that is uneven."""
    return any(is_uneven(i, o, rows, dtype) for i, o in pairwise([inputs, *[width] * depth, outputs]))


UNEVEN = "products of layers whose rounding depended on a trial's company"
MENDS: tuple[Mend, ...] = (
    Mend(
        UNEVEN,
        (
            *("model.family", "data.task", "data.input_dim", "data.label_scheme", "data.classes", "data.examples"),
            *("model.width", "model.depth", "optimizer.batch_size", "compute.dtype"),
        ),
        _is_uneven_mlp,
    ),
)
"""What sets protocol 2 apart from 1. What only a user's code or data can say is in `run/policy/protocols.py`."""


def is_uneven(inputs: int, outputs: int, rows: int, dtype: str) -> bool:
    """Whether a linear layer's products, forwards or backwards, may round with a member's company on a CPU.

    The library takes another kernel for a product with one column of one member than of several. And it rounds small
    products (in double precision, all) by whether a member's matrix begins at a multiple of 16 bytes: which of them
    was measured, and is no promise of its.
    """
    if outputs == 1:
        return True
    if dtype == "float64":
        return inputs * outputs % 2 == 1 or rows * inputs % 2 == 1
    is_weight_small = 5 <= inputs <= FEW_COLUMNS or outputs <= FEW_ROWS
    is_batch_small = min(inputs, outputs) <= FEW_COLUMNS or rows <= FEW_ROWS
    return bool(inputs * outputs % 4 and is_weight_small) or bool(rows * inputs % 4 and is_batch_small)


def protocol_of(values: Mapping[str, Any]) -> int:
    """The protocol of this version's numbers: 2 where a mend concerns these dotted fields, else 1."""
    return PROTOCOL if any(mend.concerns(*(values[name] for name in mend.fields)) for mend in MENDS) else 1


def cross_problems(config: TrialConfig) -> list[str]:
    """What is wrong between fields that are each right."""
    data, problems = config.data, []
    if data.noise_fraction > 0 and data.noise_kind == "none":
        problems.append(
            f"data.noise_fraction = {data.noise_fraction}, but data.noise_kind = 'none': "
            f"choose one of {', '.join(NOISE_KINDS[1:])}."
        )
    if data.task in SYNTHETIC_TASKS:
        if data.label_scheme == "task":
            problems.append(
                f"data.task = {data.task!r} has no labels of its own: use data.label_scheme = 'random' or 'unique'."
            )
        if data.input_dim == 0:
            problems.append(f"data.task = {data.task!r} has no width of its own: set data.input_dim to 1 or more.")
        if data.label_scheme == "random" and data.classes < 2:
            problems.append(f"data.task = {data.task!r} has no classes of its own: set data.classes to 2 or more.")
    if data.label_scheme == "task" and data.classes != 0:
        problems.append(f"data.classes = {data.classes}: label_scheme 'task' uses the task's own classes; leave it 0.")
    if data.label_scheme == "unique" and data.classes != 0:
        problems.append("data.classes: label_scheme 'unique' has as many classes as examples; leave it 0.")
    if data.label_scheme == "unique" and (data.validation_examples or data.test_examples):
        problems.append(
            "data.label_scheme = 'unique' gives each example its own class, so nothing can be validated or tested: "
            "set data.validation_examples and data.test_examples to 0."
        )
    problems += sequence_problems(config)
    if config.model.family == "cnn" and config.model.depth != 2:
        problems.append(f"model.depth = {config.model.depth}: family 'cnn' has two convolutions; leave it 2.")
    if config.model.initialization == "memorizer" and (
        config.model.family != "mlp" or config.model.depth not in (1, 3) or config.model.activation != "relu"
    ):
        problems.append(
            "model.initialization = 'memorizer' is made for model.family 'mlp' with model.activation 'relu' and "
            "model.depth 1 (inputs in general position) or 3 (any inputs)."
        )
    if config.model.initialization == "interpolating" and config.model.family != "mlp":
        problems.append("model.initialization = 'interpolating' is made for model.family 'mlp'.")
    problems += objective_problems(config)
    r = config.regularization
    if r.penalty_strength and r.penalty == "none":
        problems.append(
            f"regularization.penalty_strength = {r.penalty_strength}, but regularization.penalty = 'none': "
            "name your function, such as my_lab.penalties:l1."
        )
    if config.optimizer.name == "adamw" and config.optimizer.momentum:
        problems.append("optimizer.momentum: AdamW has none; use optimizer.betas.")
    problems += probe_problems(config)
    if config.protocol is not None and config.protocol > PROTOCOL:
        problems.append(f"protocol = {config.protocol}: this version knows protocols up to {PROTOCOL}.")
    return problems


def objective_problems(config: TrialConfig) -> list[str]:
    """What needs cross-entropy."""
    named, probes = f"optimizer.objective = {config.optimizer.objective!r}", {"loss_sensitivity", "class_sensitivity"}
    if config.optimizer.objective == "cross_entropy":
        return []
    problems = []
    if config.data.task in TARGET_TASKS:
        problems.append(f"{named}: task {config.data.task!r} has a loss of its own; leave it 'cross_entropy'.")
    if config.regularization.label_smoothing or config.regularization.adversarial:
        problems.append(f"{named}: regularization.label_smoothing and adversarial must be 0.")
    if unasked := sorted(probes & set(config.probes)):
        problems.append(f"probes: {unasked[0]} is about cross-entropy; leave optimizer.objective 'cross_entropy'.")
    return problems


def sequence_problems(config: TrialConfig) -> list[str]:
    """What does not go together with sequences, or without them."""
    data, model, optimizer, problems = config.data, config.model, config.optimizer, []
    family, is_recurrent = f"model.family = {model.family!r}", model.family == "recurrent"
    reads_steps = model.family in SEQUENCE_FAMILIES or ":" in model.family
    if is_recurrent != (model.cell != "none"):
        problems.append(
            f"{family} needs a model.cell: one of {', '.join(CELLS)}."
            if is_recurrent
            else f"model.cell = {model.cell!r}: {family} has no cell; use 'recurrent', or leave it 'none'."
        )
    if data.sequence_length and data.task in TASKS and not reads_steps:
        problems.append(f"data.sequence_length = {data.sequence_length}: {family} reads no steps; use 0, or recurrent.")
    if data.task in TARGET_TASKS:
        if not reads_steps:
            problems.append(f"data.task = {data.task!r} is read step by step: {family} must be recurrent or attention.")
        if data.label_scheme != "task" or data.noise_kind != "none":
            problems.append(
                f"data.task = {data.task!r} has targets of its own: "
                "leave data.label_scheme 'task' and data.noise_kind 'none'."
            )
        if data.input_dim and data.task != "reconstruction":
            problems.append(f"data.input_dim = {data.input_dim}: task {data.task!r} has its own inputs; leave it 0.")
        r, tokens = config.regularization, data.task not in ("adding", "reconstruction")
        if tokens and (r.input_dropout or r.input_noise or r.adversarial):
            problems.append(
                f"data.task = {data.task!r} reads tokens: "
                "regularization.input_dropout, input_noise and adversarial must be 0."
            )
        if not tokens and (r.label_smoothing or r.adversarial):
            problems.append(
                f"data.task = {data.task!r} asks for numbers: regularization.label_smoothing and adversarial must be 0."
            )
    elif data.vocabulary or data.items:
        problems.append(f"data.vocabulary and data.items: task {data.task!r} has none; leave them 0.")
    if model.family in SEQUENCE_FAMILIES:
        if model.depth < 1:
            problems.append(f"model.depth = {model.depth}: {family} has 1 layer or more.")
        for name, default in (("activation", "relu"), ("initialization", "default")):
            if getattr(model, name) != default:
                problems.append(f"model.{name} = {getattr(model, name)!r}: {family} has its own; leave it {default!r}.")
    if optimizer.truncation and not is_recurrent:
        problems.append(
            f"optimizer.truncation = {optimizer.truncation}: only family 'recurrent' has steps to cut; use 0."
        )
    if config.stop.solve != "never" and data.task not in SOLVABLE_TASKS:
        problems.append(
            f"stop.solve = {config.stop.solve!r}: only {', '.join(SOLVABLE_TASKS)} have a threshold; use never."
        )
    if config.stop.solve != "never" and not data.validation_examples:
        problems.append("stop.solve is about validation data: set data.validation_examples to 1 or more.")
    return problems


def probe_problems(config: TrialConfig) -> list[str]:
    """What probes ask of a trial."""
    data, optimizer, r, problems = config.data, config.optimizer, config.regularization, []
    if config.probe_steps and not set(config.probes) & set(REPEATED_PROBES):
        problems.append(
            f"probe_steps: only the probes {', '.join(REPEATED_PROBES)} are asked before the end; name one in probes."
        )
    if "critical_samples" in config.probes and data.task in TARGET_TASKS:
        problems.append(f"probes: critical_samples need predicted labels; task {data.task!r} asks for more.")
    if "permutations" in config.probes and (
        config.model.family in SEQUENCE_FAMILIES or config.model.depth == 0 or data.label_scheme == "unique"
    ):
        problems.append("probes: permutations are about classes, and hidden layers of a network that reads no steps.")
    if "representations" in config.probes and (data.task in TARGET_TASKS or config.model.family not in ("mlp", "cnn")):
        problems.append("probes: representations are those of the families mlp and cnn, which predict labels.")
    if "readouts" in config.probes and not (config.model.family == "recurrent" and data.task == "copy"):
        problems.append("probes: readouts are about what a recurrent network holds of the symbols of task 'copy'.")
    if "jacobians" in config.probes and not (
        config.model.family == "recurrent" and data.sequence_length >= 2 and data.validation_examples
    ):
        problems.append(
            "probes: jacobians are those of a recurrent network's state from one step to the next, on validation data: "
            "model.family must be recurrent, data.sequence_length 2 or more, data.validation_examples 1 or more."
        )
    if "positions" in config.probes and data.task not in TARGET_TASKS:
        problems.append(f"probes: task {data.task!r} has one answer an example, no positions.")
    changes = (optimizer.momentum, optimizer.clip, *(getattr(r, name) for name in _UNROLLED_WITHOUT))
    unrolled = sorted({"loss_sensitivity", "class_sensitivity"} & set(config.probes))
    if unrolled and (config.model.family != "mlp" or optimizer.name != "sgd" or any(changes)):
        problems.append(
            f"probes: {unrolled[0]} follows SGD back through training: model.family must be mlp, optimizer.name sgd, "
            "and momentum, clip and regularizers but weight_decay 0."
        )
    return problems


_UNROLLED_WITHOUT = (
    "dropout",
    "input_dropout",
    "input_noise",
    "hidden_noise",
    "label_smoothing",
    "adversarial",
    "penalty_strength",
)
