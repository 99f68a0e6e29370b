"""Where does a linear network stop fitting random labels?

Gaussian points with fair-coin labels, more and more of them, by a linear classifier with bias; 200 labellings of each
size. Expected: half are fitted at two points a weight, bias included, and the transition sharpens with the number of
inputs (Cover 1965, of which the abstract and the formula in secondary sources were read). Training may miss a labelling
that is separable by a hair, so that shares are lower bounds.
"""

from memsweep import Sweep

POINTS_A_WEIGHT = (1.5, 1.8, 2.0, 2.2, 2.5)

SWEEP = Sweep(
    "cover",
    base={
        "data.task": "gaussian",
        "data.label_scheme": "random",
        "data.classes": 2,
        "data.validation_examples": 0,
        "model.family": "mlp",
        "model.depth": 0,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.1,
        "optimizer.batch_size": 200,
        "stop.fit": 1.0,
        "stop.steps": 2000,
        "stop.measure_steps": 100,
    },
    axes={
        ("data.input_dim", "data.examples"): [
            (inputs, round(ratio * (inputs + 1))) for inputs in (9, 49) for ratio in POINTS_A_WEIGHT
        ],
    },
    seeds=range(200),
)
