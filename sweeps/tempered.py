"""What do wrong labels cost a network that fits them all, and one that is stopped in time?

MLPs with 128 hidden units on digits, trained until every label is fitted; errors on true labels are measured every 20
steps. Expected: where all labels are fitted, test error grows in proportion to the wrong labels, with more examples too
(tempered: neither harmless nor ruinous); stopped where validation error is least, it hardly grows (benign). (After
Mallinar et al. 2022, of which the abstract was read.) 15 settings x 12 seeds x at most 6,000 steps, and a tenth of that
where fitting is fast: about 0.3M member steps.
"""

from memsweep import Sweep

SWEEP = Sweep(
    "tempered",
    base={
        "data.task": "digits",
        "data.validation_examples": 797,
        "data.noise_kind": "wrong_labels",
        "model.family": "mlp",
        "model.width": 128,
        "model.depth": 1,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 50,
        "stop.fit": 1.0,
        "stop.steps": 6000,
        "stop.measure_steps": 20,
    },
    axes={
        "data.examples": (250, 500, 1000),
        "data.noise_fraction": (0.0, 0.1, 0.2, 0.3, 0.4),
    },
    seeds=range(12),
)
