"""Allowed names and numbers of a trial's fields."""

from __future__ import annotations

import re

PROTOCOL = 3
"""The newest protocol, of configurations whose numbers a fix changed (`mends.MENDS`, `policy/protocols.py`). All other
configurations have protocol 1."""

SYNTHETIC_TASKS = ("gaussian", "bits", "random_sequences")
TARGET_TASKS = ("copy", "adding", "recall", "strings", "reconstruction", "characters", "composition")
"""Sequence tasks with targets other than a single label."""
SOLVABLE_TASKS = ("copy", "adding", "recall", "reconstruction")
IMAGE_TASKS = ("digits", "mnist5k", "mnist", "fashion_mnist", "cifar10")
TASKS = (*IMAGE_TASKS, "alternating", "modular", *SYNTHETIC_TASKS, *TARGET_TASKS)
OPERATIONS = ("add", "subtract", "multiply", "divide", "squares")
"""Of the task modular: a + b, a - b, a b, a / b where b has an inverse, and a^2 + b^2, modulo p."""
MODULUS = 31
"""Modulus (p) of the task modular where data.modulus is 0."""
GAP_POWER = 0.01
"""Gaps between pairs and queries of the task recall have weights gap ** (GAP_POWER - 1), as in the generator of Arora
et al. (2023)."""
TASK_SIZES = {
    **{"digits": (64, 10), "mnist5k": (784, 10), "mnist": (784, 10), "fashion_mnist": (784, 10)},
    **{"cifar10": (3072, 10), "alternating": (1, 2)},
}
"""(D, K) of tasks that define both."""
LABEL_SCHEMES = ("task", "random", "unique")
LABEL_NOISE = ("labels", "wrong_labels", "confusion", "next_class", "swapped_pairs", "second_labels")
NOISE_KINDS = ("none", *LABEL_NOISE, "gaussian_inputs", "shuffled_pixels", "random_pixels", "added_noise")
SEQUENCE_FAMILIES = ("recurrent", "attention", "transformer")
FAMILIES = ("mlp", "cnn", "resnet", *SEQUENCE_FAMILIES)
NORMS = ("none", "layer", "batch", "group")
PLUS = ("plus_out", "plus_cand", "plus_state")
_PRU = tuple(f"pru_{kind}{plus}" for kind in "abcd" for plus in ("", *(f"+{name}" for name in PLUS)))
CELLS = ("rnn", "irnn", "ugrnn", "gru", "lstm", *(cell for cell in _PRU if cell != "pru_b+plus_state"))
"""All cells except pru_b+plus_state, whose gates would read y and nothing that is fed back."""
ACTIVATIONS = ("relu", "tanh", "gelu", "sigmoid", "identity", "leaky_relu", "hardtanh")
INITIALIZATIONS = ("default", "he", "glorot", "orthogonal", "memorizer", "interpolating")
OPTIMIZERS = ("sgd", "nesterov", "sam", "rmsprop", "adam", "adamw", "muon")
ADAM_LIKE = ("adam", "adamw")
PARAMETRIZED = ("sgd", "nesterov", *ADAM_LIKE)
"""Optimizers whose rates the parametrization mup knows."""
PARAMETRIZATIONS = ("standard", "mup")
WITHOUT_MOMENTUM = ("adam", "adamw")
"""Optimizers that use `optimizer.betas` instead of `optimizer.momentum`."""
OBJECTIVES = ("cross_entropy", "squared")
DTYPES = ("float32", "float64")
AUTOCASTS = ("none", "bfloat16")
MATMULS = ("highest", "high", "medium")
PROBES = (
    "class_sensitivity",
    "critical_samples",
    "examples",
    "exposure",
    "jacobians",
    "loss_sensitivity",
    "memorization",
    "permutations",
    "positions",
    "readouts",
    "representations",
    "states",
    "weights",
)
KEEPS = NOTHING, WEIGHTS, STATE = ("nothing", "weights", "state")
"""What a sweep or a launch keeps of its trials: nothing, the probe `weights`, or the probes `weights` and `states`."""
STATES = "states"
REPEATED_PROBES: tuple[str, ...] = ("critical_samples", "exposure", "permutations", "representations", "weights")
"""Probes that also run at probe_steps; the other probes run once, at the end."""
SHARES = {
    "train_accuracy": ("train_correct_count", "train_count"),
    "validation_accuracy": ("validation_correct_count", "validation_count"),
    "memorized_share": ("memorized_count", "label_changed_count"),
    "recovered_share": ("recovered_count", "label_changed_count"),
    "train_target_accuracy": ("train_target_correct_count", "train_target_count"),
    "validation_target_accuracy": ("validation_target_correct_count", "validation_target_count"),
    "train_squared_error": ("train_squared_error_sum", "train_target_count"),
    "validation_squared_error": ("validation_squared_error_sum", "validation_target_count"),
    "train_loss_nats": ("train_loss_sum_nats", "train_count"),
    "validation_loss_nats": ("validation_loss_sum_nats", "validation_count"),
}
"""Common ratios of a measurement -> (sum, count) columns."""
SHARES_AT_END = {
    "test_accuracy": ("test_correct_count", "test_count"),
    "test_target_accuracy": ("test_target_correct_count", "test_target_count"),
    "test_squared_error": ("test_squared_error_sum", "test_target_count"),
    "test_loss_nats": ("test_loss_sum_nats", "test_count"),
}
"""The same ratios on test data, which is evaluated only at the end."""
STREAMS = ("inputs", "labels", "noise", "init", "order")

LIMIT = 2**63
"""Whole numbers from this value on overflow int64 columns."""
IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
OTHER_CODE = "_of_other_code"
"""End of the name of a table that holds the rows of code which no sweep accepts."""
OWN_PROBE = re.compile(rf"[A-Za-z_][\w.]*:(?!\w*{OTHER_CODE}$)[a-z][a-z0-9_]{{0,59}}", re.ASCII)
"""Import path of a user's probe; its name is part of the name of a table."""
