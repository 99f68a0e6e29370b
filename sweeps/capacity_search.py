"""How many random labels can a network of each width memorize? Found by bisection, with a fifth of a grid's trials.

The same question as `capacity`: Gaussian inputs, fair coins for labels, the best of two learning rates. Each seed's
largest set is found among thirty sizes, a fifth more each. Expected: it grows about linearly with the parameters.
"""

from memsweep import CapacitySearch, Sweep, logspace

INPUTS, CLASSES = 32, 2

SWEEP = Sweep(
    "capacity_search",
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
        "model.width": (4, 8, 16, 32),
        "data.examples": [round(size) for size in logspace(1.6, 3.8, 30)],
        "optimizer.learning_rate": (0.003, 0.01),
    },
    seeds=range(10),
    search=CapacitySearch(share=0.5, tuned=("optimizer.learning_rate",)),
)
