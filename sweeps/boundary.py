"""Where does weight decay keep a network from memorizing wrong labels? The line in noise and decay, not the plane.

Digits with some labels redrawn, as in `generalization`. Of the wrong labels, a share is memorized, where guessing would
fit a tenth; the search asks where it crosses a quarter, on a grid of 33 x 33 points that it refines from 5 x 5.
Expected: below some decay more of the wrong labels are memorized, above it fewer, whatever the noise; and the more
labels are wrong, the more decay it takes, since fewer true ones speak against them.
"""

from memsweep import BoundarySearch, Sweep, linspace, logspace

SWEEP = Sweep(
    "boundary",
    base={
        "data.task": "digits",
        "data.examples": 500,
        "data.validation_examples": 200,
        "data.noise_kind": "labels",
        "model.family": "mlp",
        "model.width": 64,
        "model.depth": 1,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 50,
        "optimizer.epochs": 40,
    },
    axes={
        "data.noise_fraction": linspace(0.04, 1, 33),
        "regularization.weight_decay": logspace(-5, -1, 33),
    },
    seeds=range(5),
    search=BoundarySearch(
        "data.noise_fraction", "regularization.weight_decay", objective="memorized_share", level=0.25, coarse=8
    ),
)
