"""The question of `learning_curves` at the paper's size, for GPUs: MNIST, two layers of 4,096 units, 1,000 epochs.

(Arpit et al. 2017, sections 2 and 4.2, figure 7; the numbers of examples and the batch size are not known.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "learning_curves",
    base={
        "data.task": "mnist",
        "data.examples": 50000,
        "data.validation_examples": 10000,
        "data.test_examples": 10000,
        "model.family": "mlp",
        "model.width": 4096,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "optimizer.batch_size": 100,
        "optimizer.epochs": 1000,
    },
    axes={
        ("data.noise_kind", "data.noise_fraction"): [
            ("none", 0.0),
            *((kind, fraction) for kind in ("labels", "gaussian_inputs") for fraction in (0.2, 0.4, 0.6, 0.8)),
        ],
    },
    seeds=range(12),
)
