"""The question of `regularization` at the paper's size, for GPUs: CIFAR-10, a convolutional network of 200 channels.

(Arpit et al. 2017, section 5 and figures 10 and 11; strengths span the paper's ranges, whose steps, epochs and batch
size are not known, and chosen here.)
"""

from memsweep import Sweep, logspace

STRENGTHS = {
    "regularization.dropout": (0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
    "regularization.input_dropout": (0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
    "regularization.input_noise": (0.1, 0.3, 0.8, 1.5, 3.0, 5.0),
    "regularization.hidden_noise": (0.03, 0.06, 0.1, 0.15, 0.2, 0.3),
    "regularization.weight_decay": logspace(-5, 0, 6),
}
NONE = dict.fromkeys(STRENGTHS, 0.0)
ONE_AT_A_TIME = [NONE, *({**NONE, name: strength} for name, values in STRENGTHS.items() for strength in values)]

SWEEP = Sweep(
    "regularization",
    base={
        "data.task": "cifar10",
        "data.examples": 45000,
        "data.validation_examples": 5000,
        "data.test_examples": 10000,
        "data.noise_kind": "labels",
        "model.family": "cnn",
        "model.width": 200,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 100,
        "optimizer.epochs": 300,
    },
    axes={
        "data.noise_fraction": (0.0, 1.0),
        tuple(STRENGTHS): [tuple(strengths.values()) for strengths in ONE_AT_A_TIME],
    },
    seeds=range(12),
)
