"""The question of `critical_samples` at the paper's size, for GPUs: MNIST, two layers of 4,096 units, 1,000 epochs.

(Arpit et al. 2017, section 2 and figure 7; validation sets, batch size and the steps at which critical samples are
sought are not known, and chosen here.)
"""

from memsweep import Sweep

FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)

SWEEP = Sweep(
    "critical_samples",
    base={
        "data.task": "mnist",
        "data.examples": 50000,
        "data.validation_examples": 10000,
        "model.family": "mlp",
        "model.width": 4096,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "optimizer.batch_size": 100,
        "optimizer.epochs": 1000,
        "probes": ("critical_samples",),
        "probe_steps": (0, 500, 2500, 10000, 50000, 150000, 300000, 400000),
    },
    axes={
        ("data.noise_kind", "data.noise_fraction"): [
            ("none", 0.0),
            *((kind, fraction) for kind in ("gaussian_inputs", "labels") for fraction in FRACTIONS),
        ],
    },
    seeds=range(12),
)
