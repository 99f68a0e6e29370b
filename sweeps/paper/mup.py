"""The question of `mup` for GPUs: a transformer that composes permutations, widths 128 to 2,048.

(Yang et al. 2022: transformers on text, widths 128 to 8,192, Adam; depth, heads and rates here are ours.)
"""

from memsweep import Sweep, log2

SWEEP = Sweep(
    "mup",
    base={
        "data.task": "composition",
        "data.items": 4,
        "data.sequence_length": 32,
        "data.examples": 50_000,
        "data.validation_examples": 1000,
        "model.family": "transformer",
        "model.depth": 2,
        "model.heads": 4,
        "optimizer.name": "adamw",
        "optimizer.batch_size": 128,
        "stop.steps": 2000,
        "stop.measure_steps": 500,
    },
    axes={
        "model.parametrization": ("standard", "mup"),
        "model.width": log2(128, 2048),
        "optimizer.learning_rate": [2.0**power for power in range(-15, -4)],
    },
    seeds=range(12),
)
