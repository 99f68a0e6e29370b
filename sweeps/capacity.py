"""How many random labels can a network of each width memorize?

Expected: each width fits every set up to some size and none far above it, and that size grows about linearly with the
number of parameters. Inputs are Gaussian, labels fair coins: nothing can be generalized, what is fitted is memorized.
"""

from memsweep import Sweep, log2

SWEEP = Sweep(
    "capacity",
    base={
        "data.task": "gaussian",
        "data.input_dim": 32,
        "data.label_scheme": "random",
        "data.classes": 2,
        "data.validation_examples": 0,
        "model.family": "mlp",
        "model.depth": 1,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.01,
        "optimizer.batch_size": 64,
        "stop.fit": 1.0,
        "stop.steps": 4000,
        "stop.measure_steps": 100,
    },
    axes={
        "model.width": log2(4, 32),
        "data.examples": (32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072),
    },
    seeds=range(5),
)
