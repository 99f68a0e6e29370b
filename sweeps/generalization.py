"""How do generalization and memorization change with label noise, and does weight decay prevent the memorizing?

Expected: without noise all settings generalize. As the noise fraction grows, weak decays fit more and more wrong labels
and lose test accuracy, while strong ones recover true labels that they were never given.
"""

from memsweep import Sweep, linspace, logspace

SWEEP = Sweep(
    "generalization",
    base={
        "data.task": "digits",
        "data.examples": 1000,
        "data.validation_examples": 500,
        "data.test_examples": 297,
        "data.noise_kind": "labels",
        "model.family": "mlp",
        "model.width": 32,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 100,
        "optimizer.epochs": 30,
    },
    axes={
        "data.noise_fraction": linspace(0, 0.95, 20),
        "regularization.weight_decay": (0.0, *logspace(-6, -2, 9)),
    },
    seeds=range(5),
)
