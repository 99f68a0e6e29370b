"""How much weight decay keeps a network from memorizing wrong labels, at each level of label noise?

The network has 128 hidden units and can fit its 300 digits with any labels. Noise replaces a label by one of the nine
wrong ones. For the last quarter of training the learning rate is a tenth, so that final errors differ little from step
to step.
Expected: below some decay all wrong labels are memorized, and test error grows with noise. Within a decade of decay the
network changes to ignoring them, and test error stays low. Far above that decay nothing is learned. The more labels are
wrong, the more decay it takes.
"""

from memsweep import Sweep, linspace, logspace

SWEEP = Sweep(
    "memorization_map",
    base={
        "data.task": "digits",
        "data.examples": 300,
        "data.validation_examples": 500,
        "data.test_examples": 997,
        "data.noise_kind": "wrong_labels",
        "model.family": "mlp",
        "model.width": 128,
        "model.depth": 1,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.schedule": "step:60:0.1",
        "optimizer.batch_size": 30,
        "optimizer.epochs": 80,
        "stop.measure_steps": 100,
    },
    axes={
        "data.noise_fraction": linspace(0, 0.8, 9),
        "regularization.weight_decay": logspace(-3.5, -1, 11),
    },
    seeds=range(5),
)
