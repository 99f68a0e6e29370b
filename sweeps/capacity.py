"""How many random labels can a network of each width memorize?

Expected: each width fits every set up to some size and none far above it, and that size grows about linearly with the
number of parameters. Inputs are Gaussian, labels fair coins: nothing can be generalized, what is fitted is memorized.
Narrow networks fall short of that: one example on which all ReLU units are off can never be fitted again. Set sizes are
multiples of the parameters; capacity is a maximum over ways to train, so two learning rates are tried.
"""

from memsweep import Sweep

INPUTS, CLASSES = 32, 2
LABELS_A_PARAMETER = (0.2, 0.5, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5)


def parameters(width: int) -> int:
    return (INPUTS + 1) * width + (width + 1) * width + (width + 1) * CLASSES


SWEEP = Sweep(
    "capacity",
    base={
        "data.task": "gaussian",
        "data.input_dim": INPUTS,
        "data.label_scheme": "random",
        "data.classes": CLASSES,
        "data.validation_examples": 0,
        "model.family": "mlp",
        "model.depth": 2,
        "optimizer.name": "adamw",
        "optimizer.batch_size": 128,
        "stop.fit": 1.0,
        "stop.steps": 6000,
        "stop.measure_steps": 100,
    },
    axes={
        ("model.width", "data.examples"): [
            (width, round(ratio * parameters(width)))
            for width in (4, 8, 12, 16, 24, 32)
            for ratio in LABELS_A_PARAMETER
        ],
        "optimizer.learning_rate": (0.003, 0.01),
    },
    seeds=range(5),
)
