"""The question of `memorization` nearer the papers' size, for GPUs: CIFAR-10, residual networks, 2,000 subsets of 70 %.

(Feldman and Zhang 2020 train 2,000 networks and more on random subsets of 70 % of each data set, as summaries say; the
networks, rates and widths here are ours.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "memorization",
    base={
        "data.task": "cifar10",
        "data.examples": 35000,
        "data.subset_fraction": 0.7,
        "data.validation_examples": 0,
        "data.test_examples": 10000,
        "data.noise_kind": "wrong_labels",
        "model.family": "resnet",
        "model.depth": 2,
        "model.norm": "batch",
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.05,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 250,
        "optimizer.epochs": 60,
        "stop.measure_steps": 8400,
        "seeds.inputs": 0,
        "seeds.noise": 0,
        "probes": ("memorization",),
    },
    axes={
        "data.noise_fraction": (0.0, 0.2),
        "model.width": (4, 8, 16, 32),
    },
    seeds=range(2000),
)
