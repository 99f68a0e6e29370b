"""The question of `construction` on images, as many as their training sets have: MNIST, ten classes, 50,000 labels.

(Yun et al. 2019 tell of no such experiment in what could be read; theorems hold for any distinct inputs, and images are
what readers ask about. Labels are random: what is held is the set, not its meaning.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "construction",
    base={
        "data.task": "mnist",
        "data.label_scheme": "random",
        "data.validation_examples": 0,
        "model.family": "mlp",
        "model.depth": 3,
        "model.initialization": "memorizer",
        "optimizer.learning_rate": 0.0,
        "optimizer.batch_size": 1,
        "stop.steps": 1,
    },
    axes={
        ("data.examples", "model.width"): [(root**2, 2 * root) for root in (32, 64, 100, 150, 222)],
        "compute.dtype": ("float64", "float32"),
    },
    seeds=range(10),
)
