"""Rules between a trial's probes or subset and its other fields."""

from __future__ import annotations

from collections.abc import Sequence

from memsweep.spec.fields.rule import Rule, zero
from memsweep.spec.options import OWN_PROBE, PROBES, REPEATED_PROBES, SEQUENCE_FAMILIES, TARGET_TASKS

UNROLLED = {"class_sensitivity", "loss_sensitivity"}
"""Probes that differentiate through all steps of training."""

ALLOWED = (
    f"must be names among {', '.join(PROBES)}, or import paths such as my_lab:entropy, whose names are in lower case "
    "and differ, since each names a table"
)


def are_allowed(probes: Sequence[str]) -> bool:
    """Returns whether these are names of probes and import paths of a user's."""
    names = [path.partition(":")[2] for path in {*probes} - {*PROBES}]
    return all(name in PROBES or OWN_PROBE.fullmatch(name) for name in probes) and len({*names}) == len(names)


PROBE_RULES = (
    Rule(
        ("probe_steps", "probes"),
        lambda steps, probes: bool(steps) and not any(name in REPEATED_PROBES or ":" in name for name in probes),
        f"only {', '.join(REPEATED_PROBES)} and probes of yours are measured before the end; name one in probes.",
    ),
    Rule(
        ("probes", "optimizer.objective"),
        lambda probes, objective: bool(UNROLLED & set(probes)) and objective != "cross_entropy",
        "sensitivities need cross-entropy; leave optimizer.objective at cross_entropy.",
    ),
    Rule(
        ("probes", "data.task"),
        lambda probes, task: "critical_samples" in probes and task in TARGET_TASKS,
        "critical_samples need predicted labels, and the task has targets; leave them out.",
    ),
    Rule(
        ("probes", "model.family", "model.depth", "data.label_scheme"),
        lambda probes, family, depth, scheme: (
            "permutations" in probes and (family in SEQUENCE_FAMILIES or depth == 0 or scheme == "unique")
        ),
        "permutations need classes, and hidden layers of a network that reads no steps; leave them out.",
    ),
    Rule(
        ("probes", "data.task", "model.family"),
        lambda probes, task, family: (
            "representations" in probes and (task in TARGET_TASKS or family not in ("mlp", "cnn"))
        ),
        "representations need a network of the families mlp and cnn, which predicts labels; leave them out.",
    ),
    Rule(
        ("probes", "data.task", "model.family"),
        lambda probes, task, family: "readouts" in probes and not (family == "recurrent" and task == "copy"),
        "readouts need a recurrent network and the task copy; leave them out.",
    ),
    Rule(
        ("probes", "model.family", "data.sequence_length", "data.validation_examples"),
        lambda probes, family, length, count: (
            "jacobians" in probes and not (family == "recurrent" and length >= 2 and count)
        ),
        "jacobians need a recurrent network, 2 steps or more and validation data; set these fields.",
    ),
    Rule(
        ("probes", "data.task"),
        lambda probes, task: "positions" in probes and task not in TARGET_TASKS,
        "positions need a task with several answers per example; leave them out.",
    ),
    Rule(
        ("probes", "data.task", "data.repeats", "data.validation_examples"),
        lambda probes, task, repeats, count: "exposure" in probes and not (task == "strings" and repeats and count),
        "exposure ranks strings that data.repeats counts among unseen ones; set data.task to strings, and data.repeats "
        "and data.validation_examples.",
    ),
    Rule(
        ("probes", "model.family", "optimizer.name"),
        lambda probes, family, name: bool(UNROLLED & set(probes)) and (family != "mlp" or name != "sgd"),
        "sensitivities need an mlp that is trained by sgd; set model.family and optimizer.name.",
    ),
    Rule(
        ("probes", "model.norm"),
        lambda probes, norm: bool(UNROLLED & set(probes)) and norm != "none",
        "sensitivities need a network without normalization; set model.norm to none.",
    ),
    Rule(
        ("probes", "model.parametrization"),
        lambda probes, parametrization: bool(UNROLLED & set(probes)) and parametrization != "standard",
        "sensitivities need one rate for all layers; set model.parametrization to standard.",
    ),
    Rule(
        ("probes", "compute.autocast"),
        lambda probes, autocast: bool(UNROLLED & set(probes)) and autocast != "none",
        "sensitivities are computed without autocast; set compute.autocast to none.",
    ),
    *(
        Rule(
            (name, "data.subset_fraction"),
            lambda value, share: bool(value) and share < 1,
            f"places in a training set and subsets exclude each other; set {name} to (), or data.subset_fraction to 1.",
        )
        for name in ("data.repeats", "data.noise_examples")
    ),
    Rule(
        ("data.label_scheme", "data.subset_fraction"),
        lambda scheme, share: scheme == "unique" and share < 1,
        "a subset lacks classes of its pool; set data.subset_fraction to 1.",
    ),
    Rule(
        ("probes", "data.subset_fraction"),
        lambda probes, share: "memorization" in probes and share == 1,
        "memorization compares networks with and without an example; set data.subset_fraction below 1, such as 0.7.",
    ),
    Rule(
        ("probes", "data.task"),
        lambda probes, task: "memorization" in probes and task in TARGET_TASKS,
        "memorization needs predicted labels, and the task has targets; leave it out.",
    ),
    *zero(
        (
            *("optimizer.momentum", "optimizer.clip", "regularization.dropout", "regularization.input_dropout"),
            *("regularization.input_noise", "regularization.hidden_noise", "regularization.label_smoothing"),
            *("regularization.adversarial", "regularization.penalty_strength", "model.frozen_layers"),
            "optimizer.averaging",
        ),
        "probes",
        lambda probes: bool(UNROLLED & set(probes)),
        "sensitivities need plain SGD, at most with weight decay",
    ),
)
