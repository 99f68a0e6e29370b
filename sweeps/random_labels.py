"""Does a network fit random labels and noise inputs with the settings that fit true ones, and how does it then test?

Digits with more and more random labels, and Gaussian inputs in their place, by an MLP with far more parameters than
labels, trained until every label is fitted. Expected: all are fitted; random labels take more epochs than true ones,
Gaussian inputs fewer than random labels; test error rises with the share of random labels up to guessing. (After Zhang
et al. 2017; theirs are CIFAR-10 and ImageNet with convolutional networks and larger MLPs. Random labels are uniform
over the classes, so that a tenth of them stays true.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "random_labels",
    base={
        "data.task": "digits",
        "data.examples": 500,
        "data.validation_examples": 100,
        "data.test_examples": 1000,
        "model.family": "mlp",
        "model.width": 128,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.05,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 50,
        "stop.fit": 1.0,
        "stop.steps": 3000,
        "stop.measure_steps": 10,
    },
    axes={
        ("data.noise_kind", "data.noise_fraction"): [
            ("none", 0.0),
            *(("labels", fraction) for fraction in (0.2, 0.4, 0.6, 0.8, 1.0)),
            ("gaussian_inputs", 1.0),
            ("random_pixels", 1.0),
        ],
    },
    seeds=range(15),
)
