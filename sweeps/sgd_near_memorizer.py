"""Started beside weights that hold the data exactly, how far down does SGD go, and how far away?

The start is a network of one hidden layer whose read-out is solved for, so that its squared loss is zero, moved by a
random step of length rho; SGD without replacement, an example a step, at several rates, of which rate 0 tells the loss
to begin with. Runs are the longer the smaller rho is (2 epochs at the largest and 16 more for each tenfold smaller): at
a constant rate of descent, equal runs could only show the slope that the first loss has. Expected: a first loss like
rho^2, a tenth of it after two epochs, a least loss that falls faster than rho^3 (recalled of the theorem: rho^4), all
within 2 rho of where the loss is zero. (After Yun et al. 2019, whose rates could not be read; sizes are ours.)
Seeds 0 to 11 were a first run, which left the claim undecided; twice as many new ones decide.
"""

from memsweep import Sweep

RUNS = ((1.0, 2), (0.3, 10), (0.1, 18), (0.03, 26), (0.01, 34))
"""rho and epochs."""

SWEEP = Sweep(
    "sgd_near_memorizer",
    base={
        "data.task": "gaussian",
        "data.examples": 16,
        "data.input_dim": 128,
        "data.label_scheme": "random",
        "data.classes": 2,
        "data.validation_examples": 0,
        "model.depth": 1,
        "model.width": 128,
        "model.initialization": "interpolating",
        "optimizer.objective": "squared",
        "optimizer.batch_size": 1,
        "compute.dtype": "float64",
    },
    axes={
        ("model.perturbation", "optimizer.epochs"): RUNS,
        "optimizer.learning_rate": (0.0, 0.005, 0.0075, 0.01, 0.0125, 0.015),
    },
    seeds=range(12, 36),
)
