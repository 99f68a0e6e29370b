"""Rules between fields of a trial, each as a row of a table: the fields, when they break the rule, rule and fix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from memsweep.spec.contents import has_content
from memsweep.spec.fields.probe_rules import PROBE_RULES
from memsweep.spec.fields.rule import Rule, zero
from memsweep.spec.options import (
    CELLS,
    FAMILIES,
    NOISE_KINDS,
    PARAMETRIZED,
    SEQUENCE_FAMILIES,
    SOLVABLE_TASKS,
    SYNTHETIC_TASKS,
    TARGET_TASKS,
    TASKS,
    WITHOUT_MOMENTUM,
)

NUMBER_TASKS = ("adding", "reconstruction")
"""Tasks whose inputs and targets are numbers; those of all other sequence tasks are tokens."""
TOKEN_TASKS = tuple(task for task in TARGET_TASKS if task not in NUMBER_TASKS)
_NORMS = {"mlp": ("none", "layer", "batch"), "resnet": ("none", "batch", "group")}


def _reads_steps(family: str) -> bool:
    """Returns whether a network may read an example step by step; a user's network may."""
    return family in SEQUENCE_FAMILIES or ":" in family


DATA_RULES = (
    Rule(
        ("data.noise_fraction", "data.noise_kind"),
        lambda fraction, kind: fraction > 0 and kind == "none",
        f"a fraction needs a kind of noise; set data.noise_kind to {', '.join(NOISE_KINDS[1:])}.",
    ),
    Rule(
        ("data.task", "data.label_scheme"),
        lambda task, scheme: task in SYNTHETIC_TASKS and scheme == "task",
        "the task has no labels; set data.label_scheme to random or unique.",
    ),
    Rule(
        ("data.task", "data.input_dim"),
        lambda task, input_dim: task in SYNTHETIC_TASKS and input_dim == 0,
        "the task has no default for the number of inputs; set data.input_dim to 1 or more.",
    ),
    Rule(
        ("data.task", "data.label_scheme", "data.classes"),
        lambda task, scheme, classes: task in SYNTHETIC_TASKS and scheme == "random" and classes < 2,
        "the task has no default for the number of classes; set data.classes to 2 or more.",
    ),
    Rule(
        ("data.label_scheme", "data.classes"),
        lambda scheme, classes: scheme != "random" and classes != 0,
        "only random labels have a number of classes to choose; set data.classes to 0.",
    ),
    Rule(
        ("data.label_scheme", "data.validation_examples", "data.test_examples"),
        lambda scheme, validation, test: scheme == "unique" and bool(validation or test),
        "each training example has a unique class, which no other example can have; set both counts to 0.",
    ),
)
FILE_RULES = tuple(
    Rule(
        ("data.task", name),
        lambda task, value, default=default: value != default and not has_content(task),
        f"only a file and given data have columns and a content; set {name} to {default!r}, or data.task to file:PATH.",
    )
    for name, default in (("data.label", "label"), ("data.split", ""), ("data.content", ""))
)
NOISE_RULES = (
    *(
        rule
        for kind, name in (
            ("confusion", "data.noise_matrix"),
            ("added_noise", "data.noise_covariance"),
            ("second_labels", "data.noise_label"),
        )
        for rule in (
            Rule(
                ("data.noise_kind", name),
                lambda noise, value, kind=kind: noise == kind and not value,
                f"the noise needs more; set {name}.",
            ),
            Rule(
                (name, "data.noise_kind"),
                lambda value, noise, kind=kind: bool(value) and noise not in (kind, "none"),
                f"only the noise {kind} uses it; set data.noise_kind to {kind}, or leave {name} out.",
            ),
        )
    ),
    Rule(
        ("data.task", "data.noise_label"),
        lambda task, name: bool(name) and not has_content(task),
        "only a file and given data have a second column of labels; set data.noise_label to ''.",
    ),
    Rule(
        ("data.noise_kind", "data.label_scheme"),
        lambda kind, scheme: kind == "second_labels" and scheme != "task",
        "second labels are of the task; set data.label_scheme to task.",
    ),
    Rule(
        ("data.noise_examples", "data.noise_kind"),
        lambda examples, kind: bool(examples) and ":" in kind,
        "a noise of yours chooses its examples itself; set data.noise_examples to ().",
    ),
    Rule(
        ("data.subset", "data.task"),
        lambda subset, task: bool(subset) and task in (*SYNTHETIC_TASKS, *TARGET_TASKS),
        "the examples of the task are drawn; set data.subset to ().",
    ),
)
SEQUENCE_RULES = (
    Rule(
        ("model.family", "model.cell"),
        lambda family, cell: family == "recurrent" and cell == "none",
        f"a recurrent network needs a cell; set model.cell to one of {', '.join(CELLS)}.",
    ),
    Rule(
        ("model.family", "model.cell"),
        lambda family, cell: family != "recurrent" and cell != "none",
        "only the family recurrent has a cell; set model.cell to none, or model.family to recurrent.",
    ),
    Rule(
        ("data.task", "data.sequence_length", "model.family"),
        lambda task, length, family: (
            bool(length)
            and (task in TASKS or has_content(task))
            and task not in TARGET_TASKS
            and not _reads_steps(family)
        ),
        "the network reads no steps; set data.sequence_length to 0, or model.family to recurrent, attention or "
        "transformer.",
    ),
    Rule(
        ("data.task", "model.family"),
        lambda task, family: task in TARGET_TASKS and not _reads_steps(family),
        "the task is read step by step; set model.family to recurrent, attention or transformer.",
    ),
    Rule(
        ("data.task", "data.label_scheme", "data.noise_kind"),
        lambda task, scheme, kind: task in TARGET_TASKS and (scheme != "task" or kind != "none"),
        "the task has targets, no labels; set data.label_scheme to task and data.noise_kind to none.",
    ),
    Rule(
        ("data.task", "data.input_dim"),
        lambda task, input_dim: bool(input_dim) and task in TARGET_TASKS and task != "reconstruction",
        "the task determines its inputs; set data.input_dim to 0.",
    ),
    *zero(
        ("regularization.input_dropout", "regularization.input_noise", "regularization.adversarial"),
        "data.task",
        lambda task: task in TOKEN_TASKS,
        "inputs of the task are tokens",
    ),
    *zero(
        ("regularization.label_smoothing", "regularization.adversarial"),
        "data.task",
        lambda task: task in NUMBER_TASKS,
        "targets of the task are numbers",
    ),
    *zero(
        ("data.vocabulary", "data.items"),
        "data.task",
        lambda task: task not in TARGET_TASKS,
        "the task has neither vocabulary nor items",
    ),
    *zero(("data.modulus",), "data.task", lambda task: task != "modular", "only the task modular has a modulus"),
    Rule(
        ("data.task", "data.operation"),
        lambda task, operation: operation != "add" and task != "modular",
        "only the task modular has an operation; set data.operation to add, or data.task to modular.",
    ),
    Rule(
        ("model.family", "model.depth"),
        lambda family, depth: family in SEQUENCE_FAMILIES and depth < 1,
        "the network has at least one layer; set model.depth to 1 or more.",
    ),
    Rule(
        ("model.family", "model.activation"),
        lambda family, activation: family in SEQUENCE_FAMILIES and activation != "relu",
        "the nonlinearities of the network are fixed; leave model.activation at relu.",
    ),
    Rule(
        ("model.family", "model.initialization"),
        lambda family, initialization: family in SEQUENCE_FAMILIES and initialization != "default",
        "the first weights of the network are fixed; leave model.initialization at default.",
    ),
    *zero(
        ("optimizer.truncation",),
        "model.family",
        lambda family: family != "recurrent",
        "only gradients of the family recurrent can be truncated",
    ),
    Rule(
        ("stop.solve", "data.task"),
        lambda solve, task: solve != "never" and task not in SOLVABLE_TASKS,
        f"the task has no threshold; set stop.solve to never, or data.task to {', '.join(SOLVABLE_TASKS)}.",
    ),
    Rule(
        ("stop.solve", "data.validation_examples"),
        lambda solve, count: solve != "never" and not count,
        "a task is solved on validation data; set data.validation_examples to 1 or more.",
    ),
)
MODEL_RULES = (
    Rule(
        ("model.family", "model.depth"),
        lambda family, depth: family == "cnn" and depth != 2,
        "the family cnn has two convolutions; set model.depth to 2.",
    ),
    Rule(
        ("model.family", "model.heads"),
        lambda family, heads: heads != 1 and family in FAMILIES and family != "transformer",
        "only the family transformer has heads; set model.heads to 1, or model.family to transformer.",
    ),
    Rule(
        ("model.family", "model.norm"),
        lambda family, norm: family in FAMILIES and norm not in _NORMS.get(family, ("none",)),
        "mlp has the normalizations layer and batch, resnet batch and group, all other networks a fixed one; set "
        "model.norm to none.",
    ),
    Rule(
        ("model.initialization", "model.norm"),
        lambda initialization, norm: initialization in ("memorizer", "interpolating") and norm != "none",
        "constructed weights are for networks without normalization; set model.norm to none.",
    ),
    *zero(
        ("model.frozen_layers",),
        "model.family",
        lambda family: family in FAMILIES and family != "mlp",
        "only layers of an mlp can be frozen",
    ),
    Rule(
        ("model.parametrization", "model.family", "model.depth"),
        lambda parametrization, family, depth: (
            parametrization == "mup" and family in FAMILIES and (family not in ("mlp", "transformer") or depth < 1)
        ),
        "mup is defined for an mlp with hidden layers and a transformer; set model.parametrization to standard.",
    ),
    Rule(
        ("model.parametrization", "model.initialization"),
        lambda parametrization, initialization: parametrization == "mup" and initialization not in ("default", "he"),
        "mup scales first weights whose variance is proportional to 1 / fan_in; set model.initialization to default or "
        "he.",
    ),
    Rule(
        ("model.parametrization", "optimizer.name"),
        lambda parametrization, name: parametrization == "mup" and name not in PARAMETRIZED,
        f"mup has rates for {', '.join(PARAMETRIZED)}; set optimizer.name to one of them.",
    ),
    Rule(
        ("model.parametrization", "model.family", "model.base_width"),
        lambda parametrization, family, width: parametrization != "mup" and family in FAMILIES and width != 32,
        "only mup has a base width; set model.base_width to 32, or model.parametrization to mup.",
    ),
)
TRAINING_RULES = (
    Rule(
        ("compute.autocast", "compute.dtype"),
        lambda autocast, dtype: autocast != "none" and dtype != "float32",
        "autocast lowers the precision of float32; set compute.dtype to float32, or compute.autocast to none.",
    ),
    Rule(
        ("compute.autocast", "model.family"),
        lambda autocast, family: autocast != "none" and family == "recurrent",
        "recurrent layers are computed without autocast; set compute.autocast to none.",
    ),
    Rule(
        ("model.initialization", "model.family", "model.depth", "model.activation"),
        lambda initialization, family, depth, activation: (
            initialization == "memorizer" and (family != "mlp" or depth not in (1, 3) or activation != "relu")
        ),
        "memorizing weights need an mlp with activation relu and depth 1 (inputs in general position) "
        "or 3 (any inputs); set model.family, model.activation and model.depth.",
    ),
    Rule(
        ("model.initialization", "model.family"),
        lambda initialization, family: initialization == "interpolating" and family != "mlp",
        "interpolating weights need an mlp; set model.family to mlp.",
    ),
    Rule(
        ("optimizer.objective", "data.task"),
        lambda objective, task: objective != "cross_entropy" and task in TARGET_TASKS,
        "the task determines its loss; leave optimizer.objective at cross_entropy.",
    ),
    *zero(
        ("regularization.label_smoothing", "regularization.adversarial"),
        "optimizer.objective",
        lambda objective: objective != "cross_entropy",
        "the regularizer is defined for cross-entropy",
    ),
    Rule(
        ("regularization.penalty_strength", "regularization.penalty"),
        lambda strength, penalty: bool(strength) and penalty == "none",
        "a strength needs a penalty; set regularization.penalty to a function, such as my_lab.penalties:l1.",
    ),
    *zero(
        ("optimizer.momentum",),
        "optimizer.name",
        lambda name: name in WITHOUT_MOMENTUM,
        "adam and adamw have no momentum but optimizer.betas",
    ),
    Rule(
        ("optimizer.momentum", "optimizer.name"),
        lambda momentum, name: name == "nesterov" and not momentum,
        "nesterov needs a momentum above 0, such as 0.9.",
    ),
)
RULES: tuple[Rule, ...] = (
    *DATA_RULES,
    *FILE_RULES,
    *NOISE_RULES,
    *SEQUENCE_RULES,
    *MODEL_RULES,
    *TRAINING_RULES,
    *PROBE_RULES,
)
READ = frozenset(name for rule in RULES for name in rule.fields)
"""Fields that rules read; all other fields combine freely."""
DISTINGUISHED = 4
"""Rules treat all whole numbers from this value on alike, and all fractions above 0."""


def problems(values: Mapping[str, Any], skipped: Iterable[str] = ()) -> list[str]:
    """Returns one sentence per rule that these values break.

    values: dotted field -> value.  skipped: fields without a valid value; rules that read them are not checked.
    """
    names = set(skipped)
    checked = RULES if not names else [rule for rule in RULES if not names & set(rule.fields)]
    return [sentence for rule in checked if (sentence := rule.problem(values))]


def kind(name: str, value: Any) -> Any:
    """Returns the equivalence class of a field's value: rules treat values of the same class alike."""
    if name not in READ:
        return None
    if isinstance(value, float):
        return value > 0
    return min(value, DISTINGUISHED) if isinstance(value, int) else value
