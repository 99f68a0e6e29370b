"""The question of `learning_order` on MNIST, for GPUs: two layers of 4,096 units, learning rate 0.01, 100 runs.

(Arpit et al. 2017, sections 2 and 3.1; the size of the training set and the batch size are not known.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "learning_order",
    base={
        "data.task": "mnist",
        "data.examples": 1000,
        "data.validation_examples": 0,
        "model.family": "mlp",
        "model.width": 4096,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "optimizer.batch_size": 10,
        "optimizer.epochs": 1,
        "seeds.inputs": 0,
        "seeds.labels": 0,
        "seeds.noise": 0,
        "probes": ("examples",),
    },
    axes={
        ("data.noise_kind", "data.noise_fraction"): [("none", 0.0), ("gaussian_inputs", 1.0), ("labels", 1.0)],
    },
    seeds=range(100),
)
