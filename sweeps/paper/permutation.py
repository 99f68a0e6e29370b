"""The question of `permutation` for GPUs: MNIST, an MLP of 512 units and a convolutional network of 200 channels.

(Of Chaibub Neto 2018 only the abstract could be read, so that the paper's own sizes are not known: these are ours.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "permutation",
    base={
        "data.task": "mnist",
        "data.examples": 10000,
        "data.validation_examples": 10000,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 100,
        "optimizer.epochs": 200,
        "probes": ("permutations",),
        "probe_steps": (0, 10, 100, 300, 1000, 3000, 6000, 10000),
    },
    axes={
        ("model.family", "model.width"): [("mlp", 512), ("cnn", 200)],
        ("data.noise_kind", "data.noise_fraction", "regularization.dropout"): [
            ("none", 0.0, 0.0),
            *(("labels", fraction, 0.0) for fraction in (0.25, 0.5, 0.75, 1.0)),
            ("labels", 0.5, 0.5),
            ("gaussian_inputs", 1.0, 0.0),
        ],
    },
    seeds=range(12),
)
