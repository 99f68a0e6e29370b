"""Does noise ask for more units and more time than real data does?

Training until every example is right, on data of which a part is noise, at several widths and numbers of examples.
Expected: with noise the best validation accuracy needs more units; fewer units or more examples lengthen the fitting of
noise more than that of real data; random labels take longer than true ones. (After Arpit et al. 2017, section 3.3 and
figures 5 and 6: MNIST with up to 50,000 examples, and 4,096 units, there; 5,000 digits of MNIST here. Its widths, noise
fractions and batch sizes are not known. Momentum and a larger learning rate are ours, so that noise is fitted in a few
minutes.) Seeds 0 to 11 were a first run, which left claims 5 and 7 undecided, 12 to 35 a second, which did too, both on
images of 8x8 pixels with 500 validation examples and at most 1,000 others. New ones decide: 49 settings x 24 seeds,
1.3M member steps in all by two pilots of a review.
"""

from memsweep import Sweep, log2

NUMBER, WIDTH = 1000, 64
"""Examples at which widths vary, and width at which examples do."""
VALIDATION, FEW = 2000, 500
"""Validation examples where widths vary, for a precise best accuracy, and where most examples are trained on."""
FRACTIONS = (0.4, 0.8, 1.0)

SWEEP = Sweep(
    "noise_capacity",
    base={
        "data.task": "mnist5k",
        "model.family": "mlp",
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 100,
        "optimizer.epochs": 150,
        "stop.fit": 1.0,
    },
    axes={
        ("model.width", "data.examples", "data.validation_examples"): [
            *((width, NUMBER, VALIDATION) for width in log2(16, 256)),
            *((WIDTH, number, FEW) for number in (250, 4000)),
        ],
        ("data.noise_kind", "data.noise_fraction"): [
            ("none", 0.0),
            *((kind, fraction) for kind in ("gaussian_inputs", "labels") for fraction in FRACTIONS),
        ],
    },
    seeds=range(36, 60),
)
