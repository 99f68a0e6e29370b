"""The question of `noise_capacity` at the paper's size, for GPUs: MNIST, 50,000 examples, 4,096 units, 1,000 epochs.

(Arpit et al. 2017, sections 2 and 3.3, figures 5 and 6; widths, numbers of examples, noise fractions and batch size are
not known, and chosen here.)
"""

from memsweep import Sweep, log2

NUMBER, WIDTH = 50000, 4096
FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)

SWEEP = Sweep(
    "noise_capacity",
    base={
        "data.task": "mnist",
        "data.validation_examples": 10000,
        "model.family": "mlp",
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "optimizer.batch_size": 100,
        "optimizer.epochs": 1000,
        "stop.fit": 1.0,
    },
    axes={
        ("model.width", "data.examples"): [
            *((width, NUMBER) for width in log2(256, 8192)),
            *((WIDTH, number) for number in (1000, 2500, 5000, 10000, 25000)),
        ],
        ("data.noise_kind", "data.noise_fraction"): [
            ("none", 0.0),
            *((kind, fraction) for kind in ("gaussian_inputs", "labels") for fraction in FRACTIONS),
        ],
    },
    seeds=range(12),
)
