"""Does noise ask for more units and more time than real data does?

Training until every example is right, on data of which a part is noise, at several widths and numbers of examples.
Expected: with noise the best validation accuracy needs more units; fewer units or more examples lengthen the fitting of
noise more than that of real data; random labels take longer than true ones. (After Arpit et al. 2017, section 3.3 and
figures 5 and 6: MNIST with up to 50,000 examples, and 4,096 units, there; digits here. Its widths, noise fractions and
batch sizes are not known. Momentum and a larger learning rate are ours, so that noise is fitted in a few minutes.)
Seeds 0 to 11 were a first run, which left claims 5 and 7 undecided; twice as many new ones decide.
"""

from memsweep import Sweep, log2

NUMBER, WIDTH = 1000, 64
"""Examples at which widths vary, and width at which examples do."""
FRACTIONS = (0.4, 0.8, 1.0)

SWEEP = Sweep(
    "noise_capacity",
    base={
        "data.task": "digits",
        "data.validation_examples": 500,
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
        ("model.width", "data.examples"): [
            *((width, NUMBER) for width in log2(16, 256)),
            *((WIDTH, number) for number in (250, 500)),
        ],
        ("data.noise_kind", "data.noise_fraction"): [
            ("none", 0.0),
            *((kind, fraction) for kind in ("gaussian_inputs", "labels") for fraction in FRACTIONS),
        ],
    },
    seeds=range(12, 36),
)
