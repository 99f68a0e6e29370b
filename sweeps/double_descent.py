"""Does test error rise and fall again as networks grow, and where? With noise, weight decay, time and examples.

500 digits, a fifth of their labels wrong, by MLPs with a hidden layer of 4 to 256 units, each trained for 3,000 steps.
Expected: test error falls, rises to a peak where the training set is just fitted, and falls again in wider networks;
without wrong labels there is no peak, with weight decay a lower one, and with fewer examples it lies at smaller widths.
(After Nakkiran et al. 2019, of which the abstract and summaries were read; residual networks on CIFAR there.) A pilot
of seeds 100 and 101 over 5,000 steps had a test error of 0.19 at width 8, 0.25 at 24 and 0.19 at 256; with SGD of a
high rate the narrowest networks were too bad for a dip. Seeds 0 to 3 choose where the others are measured. 36 settings
x 16 seeds x 3,000 steps, 1.7M member steps.
"""

from memsweep import Sweep

WIDTHS = (4, 6, 8, 12, 16, 24, 32, 64, 256)
BLOCKS = ((0.2, 0.0, 500), (0.0, 0.0, 500), (0.2, 0.3, 500), (0.2, 0.0, 250))
"""Noise fraction, weight decay and examples: the block in the middle, and one change of each field."""

SWEEP = Sweep(
    "double_descent",
    base={
        "data.task": "digits",
        "data.validation_examples": 600,
        "data.test_examples": 697,
        "data.noise_kind": "wrong_labels",
        "model.family": "mlp",
        "model.depth": 1,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.003,
        "optimizer.batch_size": 50,
        "stop.steps": 3000,
        "stop.measure_steps": 50,
    },
    axes={
        ("data.noise_fraction", "regularization.weight_decay", "data.examples"): BLOCKS,
        "model.width": WIDTHS,
    },
    seeds=range(16),
)
