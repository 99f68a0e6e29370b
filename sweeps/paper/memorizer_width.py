"""The question of `memorizer_width` at larger sizes, for GPUs: up to 256 units a layer.

(Yun et al. 2019 state theorems for all sizes and train few networks; these sizes are ours.)
"""

from memsweep import Sweep

WIDTHS = (32, 64, 128, 256)
RANDOM = {1: (2, 2.8, 4, 5.6, 8, 11, 16), 2: (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)}


def alternating_sizes(depth: int, width: int) -> tuple[int, ...]:
    """Up to the first that is impossible."""
    if depth == 1:
        return (width // 4, width // 2, width, width + 3)
    return (width // 2, width**2 // 8, width**2 // 4, width**2 // 2, (width + 1) ** 2 + 2)


SWEEP = Sweep(
    "memorizer_width",
    base={
        "data.validation_examples": 0,
        "model.family": "mlp",
        "optimizer.name": "adamw",
        "optimizer.batch_size": 128,
        "stop.fit": 1.0,
        "stop.steps": 100000,
        "stop.measure_steps": 1000,
    },
    axes={
        (
            *("data.task", "data.label_scheme", "data.input_dim", "data.classes"),
            *("model.depth", "model.width", "data.examples"),
        ): [
            *(
                ("gaussian", "random", 4, 2, depth, width, round(ratio * width**depth))
                for depth, ratios in RANDOM.items()
                for width in WIDTHS
                for ratio in ratios
            ),
            *(
                ("alternating", "task", 0, 0, depth, width, examples)
                for depth in RANDOM
                for width in WIDTHS
                for examples in alternating_sizes(depth, width)
            ),
        ],
        "optimizer.learning_rate": (0.001, 0.003, 0.01),
    },
    seeds=range(12),
)
