"""The question of `loss_sensitivity` on MNIST, for GPUs: 2 layers of 16 units and 1,000 digits, of 28x28 pixels.

(Arpit et al. 2017, section 3.2, downscales them to 14x14. Learning rate, batch size and steps are not known.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "loss_sensitivity",
    base={
        "data.task": "mnist",
        "data.examples": 1000,
        "data.validation_examples": 0,
        "model.family": "mlp",
        "model.width": 16,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "optimizer.batch_size": 50,
        "optimizer.epochs": 200,
    },
    axes={
        ("data.noise_kind", "data.noise_fraction"): [("none", 0.0), ("gaussian_inputs", 1.0)],
        ("data.label_scheme", "probes"): [
            ("task", ("loss_sensitivity", "class_sensitivity")),
            ("unique", ("loss_sensitivity",)),
        ],
    },
    seeds=range(12),
)
