"""Does the training loss depend on a few examples, as on real data, or on all of them, as on noise?

The derivative of the loss with respect to each training input, through all of training. Expected: on real digits a few
examples carry high sensitivity (a larger Gini coefficient), on random inputs nearly all do, whether the labels are the
ten classes or a class for each example; and classes depend mostly on their own inputs, on real data more on those of
others too. (After Arpit et al. 2017, section 3.2: 2 layers of 16 units and 1,000 digits as there, which have 8x8 pixels
here and 14x14 there. Learning rate, batch size, steps and the number of random inputs are not known, and chosen here.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "loss_sensitivity",
    base={
        "data.task": "digits",
        "data.examples": 1000,
        "data.validation_examples": 0,
        "model.family": "mlp",
        "model.width": 16,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.2,
        "optimizer.batch_size": 50,
        "optimizer.epochs": 40,
        "stop.measure_steps": 100,
    },
    axes={
        ("data.noise_kind", "data.noise_fraction"): [("none", 0.0), ("gaussian_inputs", 1.0)],
        ("data.label_scheme", "probes"): [
            ("task", ("loss_sensitivity", "class_sensitivity")),
            ("unique", ("loss_sensitivity",)),
        ],
    },
    seeds=range(12),
)
