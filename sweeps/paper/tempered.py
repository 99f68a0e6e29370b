"""The question of `tempered` on larger data, for GPUs: CIFAR-10 and residual networks.

(Mallinar et al. 2022 study deep networks on image data; sizes, rates and numbers of examples here are ours.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "tempered",
    base={
        "data.task": "cifar10",
        "data.validation_examples": 5000,
        "data.test_examples": 10000,
        "data.noise_kind": "wrong_labels",
        "model.family": "resnet",
        "model.width": 32,
        "model.depth": 2,
        "model.norm": "batch",
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.05,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 125,
        "optimizer.epochs": 400,
        "stop.fit": 1.0,
    },
    axes={
        "data.examples": (5000, 15000, 45000),
        "data.noise_fraction": (0.0, 0.1, 0.2, 0.3, 0.4),
    },
    seeds=range(12),
)
