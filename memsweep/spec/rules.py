"""Constraints that span several fields of a trial; `cross_problems` returns one sentence per violation."""

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
"""Fields that `cross_problems` reads; all other fields combine freely."""
TOLD_APART = 4
"""`cross_problems` treats all whole numbers from this value on alike, and all fractions above 0."""


def kind(name: str, value: Any) -> Any:
    """Returns the equivalence class of a field's value: `cross_problems` treats values of the same class alike."""
    if name not in READ:
        return None
    if isinstance(value, float):
        return value > 0
    return min(value, TOLD_APART) if isinstance(value, int) and name != "protocol" else value


FEW_ROWS, FEW_COLUMNS = 3, 12
"""Matrices up to this size take the library's small-matrix kernels in single precision."""


class Mend(NamedTuple):
    """A fix that changed the numbers of some configurations, which are identified by their fields."""

    reason: str  # what was fixed, for people
    fields: tuple[str, ...]  # dotted names that `concerns` reads; no list fields, which tables store as text
    concerns: Callable[..., bool]  # takes the values of `fields`, in their order


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
    """Returns whether the model is an MLP on a built-in task and has an uneven layer; see `is_uneven`."""
    if family != "mlp" or ":" in task:
        return False
    inputs, of_task = TASK_SIZES.get(task, (input_dim, 0))
    outputs = {"task": of_task, "random": classes or of_task, "unique": examples}[scheme]
    return has_uneven_layer(inputs, outputs, width, depth, rows, dtype)


def has_uneven_layer(inputs: int, outputs: int, width: int, depth: int, rows: int, dtype: str) -> bool:
    """Returns whether an MLP has an uneven layer; see `is_uneven`.

    inputs, outputs: of the network.  rows: batch size.  dtype: float32 or float64.
    """
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
"""Differences between protocols 1 and 2. Checks that need a user's code or data are in `run/policy/protocols.py`."""


def is_uneven(inputs: int, outputs: int, rows: int, dtype: str) -> bool:
    """Returns whether the rounding of a linear layer's products on a CPU may depend on the other members of its pack.

    For products with one column the library uses one kernel for a single member and another for several members. For
    small products (in double precision: for all) rounding depends on whether a member's matrix begins at a multiple of
    16 bytes. The affected sizes were measured; the library does not document them.
    inputs, outputs: of the layer.  rows: batch size.  dtype: float32 or float64.
    """
    if outputs == 1:
        return True
    if dtype == "float64":
        return inputs * outputs % 2 == 1 or rows * inputs % 2 == 1
    is_weight_small = 5 <= inputs <= FEW_COLUMNS or outputs <= FEW_ROWS
    is_batch_small = min(inputs, outputs) <= FEW_COLUMNS or rows <= FEW_ROWS
    return bool(inputs * outputs % 4 and is_weight_small) or bool(rows * inputs % 4 and is_batch_small)


def protocol_of(values: Mapping[str, Any]) -> int:
    """Returns the protocol of this version's numbers: PROTOCOL if a mend concerns these dotted fields, else 1."""
    return PROTOCOL if any(mend.concerns(*(values[name] for name in mend.fields)) for mend in MENDS) else 1


def cross_problems(config: TrialConfig) -> list[str]:
    """Returns one sentence per violated constraint between fields; each field alone is valid already."""
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
    """Returns one sentence per setting that needs the cross-entropy objective and does not have it."""
    named, probes = f"optimizer.objective = {config.optimizer.objective!r}", {"loss_sensitivity", "class_sensitivity"}
    if config.optimizer.objective == "cross_entropy":
        return []
    problems = []
    if config.data.task in TARGET_TASKS:
        problems.append(f"{named}: task {config.data.task!r} has a loss of its own; leave it 'cross_entropy'.")
    if config.regularization.label_smoothing or config.regularization.adversarial:
        problems.append(f"{named}: regularization.label_smoothing and adversarial must be 0.")
    if unsupported := sorted(probes & set(config.probes)):
        problems.append(f"probes: {unsupported[0]} is about cross-entropy; leave optimizer.objective 'cross_entropy'.")
    return problems


def sequence_problems(config: TrialConfig) -> list[str]:
    """Returns one sentence per violated constraint on sequence tasks and sequence models."""
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
    """Returns one sentence per requirement of a probe that the trial does not meet."""
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
