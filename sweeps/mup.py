"""At which learning rate does a network of each width train best, in the standard parametrization and in muP?

Digits, two hidden layers, AdamW, a fixed number of steps, training loss at the end. Expected: in the standard
parametrization the best rate falls as the network gets wider, so that a rate found at 32 units is too large at 512; in
muP it stays, and wider networks do better at the same rate. (After Yang et al. 2022, whose figure compares
transformers of widths 128 to 8,192.) 100 settings x 12 seeds x 100 steps, 0.12M member steps. Seeds 1000 and 1001 were
a pilot, which chose the rates and the number of steps.
"""

from memsweep import Sweep, log2

SWEEP = Sweep(
    "mup",
    base={
        "data.task": "digits",
        "data.examples": 1000,
        "data.validation_examples": 500,
        "model.family": "mlp",
        "model.depth": 2,
        "optimizer.name": "adamw",
        "optimizer.batch_size": 50,
        "stop.steps": 100,
        "stop.measure_steps": 100,
    },
    axes={
        "model.parametrization": ("standard", "mup"),
        "model.width": log2(32, 512),
        "optimizer.learning_rate": [2.0**power for power in range(-12, -2)],
    },
    seeds=range(12),
)
