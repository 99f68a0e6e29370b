"""The question of `random_labels` at the paper's size, for GPUs: CIFAR-10, one hidden layer of 512 units.

(Zhang et al. 2017: an MLP among its networks; batch size and budget are not known, and chosen here.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "random_labels",
    base={
        "data.task": "cifar10",
        "data.examples": 49000,
        "data.validation_examples": 1000,
        "data.test_examples": 10000,
        "model.family": "mlp",
        "model.width": 512,
        "model.depth": 1,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 128,
        "optimizer.epochs": 1000,
        "stop.fit": 1.0,
    },
    axes={
        ("data.noise_kind", "data.noise_fraction"): [
            ("none", 0.0),
            *(("labels", fraction) for fraction in (0.2, 0.4, 0.6, 0.8, 1.0)),
            ("gaussian_inputs", 1.0),
            ("random_pixels", 1.0),
        ],
    },
    seeds=range(15),
)
