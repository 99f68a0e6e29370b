"""The question of `memorizer_width` at larger sizes, for GPUs: up to 256 units a layer.

(Yun et al. 2019 state theorems for all sizes and train few networks; these sizes are ours.)
"""

from memsweep import Sweep

WIDTHS = (32, 64, 128, 256)
RATIOS = {1: (2, 2.8, 4, 5.6, 8, 11, 16), 2: (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)}

SWEEP = Sweep(
    "memorizer_width",
    base={
        "data.task": "gaussian",
        "data.label_scheme": "random",
        "data.input_dim": 4,
        "data.classes": 2,
        "data.validation_examples": 0,
        "model.family": "mlp",
        "optimizer.name": "adamw",
        "optimizer.batch_size": 128,
        "stop.fit": 1.0,
        "stop.steps": 100000,
        "stop.measure_steps": 1000,
    },
    axes={
        ("model.depth", "model.width", "data.examples"): [
            (depth, width, round(ratio * width**depth))
            for depth, ratios in RATIOS.items()
            for width in WIDTHS
            for ratio in ratios
        ],
        "optimizer.learning_rate": (0.001, 0.003, 0.01),
    },
    seeds=range(12),
)
