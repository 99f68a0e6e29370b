"""Are patterns learned before noise is memorized?

Expected: with label noise, validation accuracy peaks while few of the wrong labels are fitted, and falls as they are;
the more noise, the deeper. Without noise it does not fall. With noise inputs accuracy is lower, the more there are.
(After Arpit et al. 2017, section 4.2 and figure 7, on digits; a network wide enough, and trained long enough, to fit
all.)
Seeds 0 to 11 were a first run, whose trends were rank correlations of each seed, and too few for a claim of 13 parts to
be contradicted. Twice as many new ones decide, by a trend test over seeds: 9 settings x 24 seeds x 1,500 steps, 0.32M
member steps.
"""

from memsweep import Sweep

SWEEP = Sweep(
    "learning_curves",
    base={
        "data.task": "digits",
        "data.examples": 1000,
        "data.validation_examples": 500,
        "data.test_examples": 297,
        "model.family": "mlp",
        "model.width": 256,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.05,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 100,
        "optimizer.epochs": 150,
    },
    axes={
        ("data.noise_kind", "data.noise_fraction"): [
            ("none", 0.0),
            *((kind, fraction) for kind in ("labels", "gaussian_inputs") for fraction in (0.2, 0.4, 0.6, 0.8)),
        ],
    },
    seeds=range(12, 36),
)
