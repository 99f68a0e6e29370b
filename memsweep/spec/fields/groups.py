"""The groups of a trial's fields: every field with its default, meaning and allowed values."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from memsweep.spec.fields.field_spec import checked, choice, number
from memsweep.spec.fields.schedules import ALLOWED, is_schedule
from memsweep.spec.options import (
    ACTIVATIONS,
    AUTOCASTS,
    CELLS,
    DTYPES,
    FAMILIES,
    IMPORT_PATH,
    INITIALIZATIONS,
    LABEL_SCHEMES,
    LIMIT,
    MATMULS,
    NOISE_KINDS,
    NORMS,
    OBJECTIVES,
    OPTIMIZERS,
    PARAMETRIZATIONS,
    TASKS,
)

SUM_ERROR = 1e-6
"""Largest distance of a row of probabilities from the sum 1: their decimals are rounded."""


def is_stochastic(matrix: tuple[float, ...]) -> bool:
    """Returns whether these are rows of a square matrix of probabilities, or nothing.

    >>> is_stochastic((0.9, 0.1, 0.2, 0.8)), is_stochastic((0.9, 0.2, 0.2, 0.8)), is_stochastic((1.0, 0.0))
    (True, False, False)
    """
    size = math.isqrt(len(matrix))
    rows = [matrix[i * size : (i + 1) * size] for i in range(size)]
    is_square = size * size == len(matrix)
    return is_square and all(min(row) >= 0 and abs(sum(row) - 1) <= SUM_ERROR for row in rows)


@dataclass(frozen=True)
class Data:
    """Task, sizes, labels and noise of the data."""

    task: str = choice("digits", TASKS, "where inputs and labels come from", or_path="my_lab.nets:MyNet", or_file=True)
    examples: int = number(1000, "training examples (N)", 1)
    validation_examples: int = number(500, "validation examples, never corrupted")
    test_examples: int = number(0, "test examples, never corrupted, used once at the end")
    input_dim: int = number(0, "inputs of an example (D); 0: the task's number")
    label_scheme: str = choice(
        "task", LABEL_SCHEMES, "task: the task's labels; random: uniform over the classes; unique: a class an example"
    )
    noise_kind: str = choice(
        "none", NOISE_KINDS, "what is done to a fraction of the training examples", or_path="my_lab.noise:flip"
    )
    noise_fraction: float = number(0.0, "probability that a training example is corrupted", 0, 1)
    noise_matrix: tuple[float, ...] = checked(
        (),
        "confusion: a row of probabilities of the given class for each true class",
        "must be K rows of K numbers in [0, 1], each row with the sum 1",
        is_stochastic,
    )
    noise_covariance: tuple[float, ...] = checked(
        (),
        "added_noise: covariance of what is added to inputs: one variance, D variances, or D rows of D numbers",
        "must be finite numbers",
        lambda value: all(map(math.isfinite, value)),
    )
    noise_label: str = checked(
        "",
        "second_labels: column or array of a file or given data that holds other labels, such as people's",
        "must be a name",
        lambda value: True,
    )
    noise_examples: tuple[int, ...] = checked(
        (),
        "numbers from 0 of the training examples that may be corrupted; empty: all",
        "must be whole numbers of 0 or more, each once",
        lambda value: len(set(value)) == len(value) and all(0 <= item < LIMIT for item in value),
    )
    repeats: tuple[int, ...] = checked(
        (),
        "how often the first training examples occur, after noise; their copies take the places of the last ones",
        "must be whole numbers of 1 or more",
        lambda value: all(1 <= item < LIMIT for item in value),
    )
    subset: tuple[int, ...] = checked(
        (),
        "rows of the task's data, from 0, that are the training examples, in this order; empty: drawn rows",
        "must be whole numbers of 0 or more, each once",
        lambda value: len(set(value)) == len(value) and all(0 <= item < LIMIT for item in value),
    )
    subset_fraction: float = checked(
        1.0,
        "share of a pool of data.examples / share examples that the training examples are drawn from, by stream order",
        "must lie in (0, 1]",
        lambda value: 0 < value <= 1,
    )
    sequence_length: int = number(0, "time steps of an example (T); 0: no sequence")
    classes: int = number(0, "classes (K); 0: the task's number")
    vocabulary: int = number(0, "tokens (V) of copy, recall, strings; 0: the task's number")
    items: int = number(0, "symbols to copy, pairs to recall, items to permute; 0: the task's number")
    label: str = checked("label", "column or array of a file that holds the labels", "must be a name", bool)
    split: str = checked(
        "",
        "column or array of a file that holds train, validation or test; empty: none",
        "must be a name",
        lambda value: True,
    )
    content: str = checked(
        "",
        "hash of the content of the file or folder; empty: the hash of its content now",
        "must be 16 hexadecimal digits, or empty",
        lambda value: re.fullmatch("[0-9a-f]{16}|", value) is not None,
    )


@dataclass(frozen=True)
class Model:
    """Architecture and first weights of the network."""

    family: str = choice("mlp", FAMILIES, "kind of network", or_path="my_lab.nets:MyNet")
    width: int = number(
        32, "units of a hidden layer (H); cnn: channels of a convolution; resnet: of the first convolution", 1
    )
    depth: int = number(
        2,
        "hidden layers; 0: a linear classifier; cnn: its two convolutions, so only 2; resnet: residual blocks in each "
        "of three stages; transformer: blocks of attention and two dense layers",
    )
    heads: int = number(1, "attention heads of family transformer, a divisor of model.width", 1)
    norm: str = choice("none", NORMS, "normalization before the nonlinearities of mlp and after convolutions of resnet")
    parametrization: str = choice(
        "standard",
        PARAMETRIZATIONS,
        "how first weights and rates of mlp and transformer depend on the width; mup: maximal update parametrization",
    )
    base_width: int = number(32, "width at which mup is the standard parametrization", 1)
    frozen_layers: int = number(0, "first hidden layers of an mlp that keep their first weights, as random features")
    cell: str = choice("none", ("none", *CELLS), "recurrent cell of family recurrent; PRU-style ones are reconstructed")
    gate_bias: float = number(1.0, "first bias of the gate that keeps a recurrent state", -100, 100)
    activation: str = choice("relu", ACTIVATIONS, "nonlinearity of hidden layers")
    initialization: str = choice(
        "default",
        INITIALIZATIONS,
        "first weights; default: torch's default of each layer; memorizer: weights that hold the training labels; "
        "interpolating: torch's defaults, and a read-out whose outputs on the training set are one-hot",
    )
    perturbation: float = number(0.0, "L2 norm of a random step that the first weights are moved by")


@dataclass(frozen=True)
class Regularization:
    """Regularizers of training; 0 or none: unused."""

    dropout: float = number(0.0, "probability of dropping a hidden unit", 0, 1, below=True)
    input_dropout: float = number(0.0, "probability of dropping an input", 0, 1, below=True)
    input_noise: float = number(0.0, "standard deviation of Gaussian noise added to inputs")
    hidden_noise: float = number(0.0, "standard deviation of Gaussian noise added to hidden units")
    weight_decay: float = number(0.0, "weight decay, as torch.optim defines it for the optimizer")
    label_smoothing: float = number(0.0, "share of the target spread over all classes", 0, 1, below=True)
    adversarial: float = number(0.0, "weight of the loss on critical samples of the batch, found by LASS", 0, 1)
    penalty: str = checked(
        "none",
        "a user's function that is added to the loss",
        "must be none or an import path such as my_lab.penalties:l1",
        lambda value: value == "none" or IMPORT_PATH.fullmatch(value) is not None,
    )
    penalty_strength: float = number(0.0, "factor of the penalty")


@dataclass(frozen=True)
class Optimizer:
    """Update rule, its rates, batch size, epochs and objective."""

    name: str = choice("sgd", OPTIMIZERS, "update rule", or_path="torch.optim:Adagrad")
    learning_rate: float = number(0.1, "learning rate")
    momentum: float = number(0.0, "momentum of sgd, nesterov, sam, rmsprop and muon", 0, 1, below=True)
    betas: tuple[float, ...] = checked(
        (0.9, 0.999),
        "decay rates of the moments of adam and adamw, and of muon outside of matrices",
        "must be two numbers in [0, 1)",
        lambda value: len(value) == 2 and all(0 <= beta < 1 for beta in value),
    )
    alpha: float = number(0.99, "decay rate of rmsprop's mean of squares", 0, 1, below=True)
    radius: float = number(0.05, "distance at which sam takes its gradient")
    clip: float = number(0.0, "largest norm of a member's gradient; 0: no clipping")
    batch_size: int = number(100, "examples of a step (B)", 1)
    epochs: int = number(30, "passes over the training set", 1)
    truncation: int = number(0, "steps of a sequence that gradients flow back through, in blocks; 0: all of them")
    objective: str = choice(
        "cross_entropy",
        OBJECTIVES,
        "loss of labels; squared: mean over classes of the squared distance from one-hot answers",
        or_path="my_lab.losses:hinge",
    )
    averaging: float = number(
        0.0,
        "decay of an exponential moving average of the weights, which is what is measured; 0: the weights themselves",
        0,
        1,
        below=True,
    )
    schedule: str = checked("constant", "learning rate over time", ALLOWED, is_schedule)


@dataclass(frozen=True)
class Compute:
    """Precision of the computation."""

    dtype: str = choice("float32", DTYPES, "precision of weights and activations")
    matmul: str = choice(
        "highest", MATMULS, "float32 products: highest: in float32; high: may use tf32; medium: may use bf16"
    )
    autocast: str = choice(
        "none", AUTOCASTS, "type in which torch.autocast runs a network's products, in training and evaluation"
    )


@dataclass(frozen=True)
class Stop:
    """Stopping rules, budget and measurement interval."""

    fit: float = number(0.0, "share of training examples at which a trial has fitted and ends; 0: never", 0, 1)
    solve: str = choice(
        "never", ("never", "task"), "task: a trial ends when its validation data meets its sequence task's threshold"
    )
    steps: int = number(0, "budget in steps; 0: optimizer.epochs")
    measure_steps: int = number(0, "steps between measurements; 0: an epoch")


@dataclass(frozen=True)
class Seeds:
    """Seeds of the random streams; None: the trial's seed."""

    inputs: int | None = number(None, "which examples are drawn, and synthetic inputs")
    labels: int | None = number(None, "random labels")
    noise: int | None = number(None, "which examples are corrupted, and how")
    init: int | None = number(None, "first weights")
    order: int | None = number(None, "order of examples, and the random numbers of regularizers")
