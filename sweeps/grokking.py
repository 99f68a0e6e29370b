"""How long after they fit their training examples do networks generalize, by weight decay, width and training share?

Addition modulo 31, one hidden layer, squared loss, AdamW. Expected: with enough weight decay, networks fit within a
hundred steps and generalize up to a factor of ten and more of steps later; the fewer of the 961 pairs are trained on,
the later; without weight decay hardly at all. Of labels a tenth of which are wrong, all are memorized at first; strong
weight decay makes the network give them back. (After Power et al. 2022 and Doshi et al. 2023, whose tables have 97 x 97
pairs.) 22 settings x 12 seeds x 3,000 steps, 0.8M member steps. Seeds 1000 to 1002 were pilots, which chose the loss,
the rate and the sizes.
"""

from memsweep import Sweep

DECAYS, FEW_DECAYS = (0.0, 0.3, 1.0), (0.0, 0.3)
PAIRS = (400, 480, 560)

SWEEP = Sweep(
    "grokking",
    base={
        "data.task": "modular",
        "data.modulus": 31,
        "data.validation_examples": 300,
        "model.family": "mlp",
        "model.depth": 1,
        "optimizer.name": "adamw",
        "optimizer.objective": "squared",
        "optimizer.learning_rate": 0.01,
        "optimizer.betas": (0.9, 0.98),
        "optimizer.batch_size": 128,
        "stop.steps": 3000,
        "stop.measure_steps": 10,
    },
    axes={
        ("data.noise_kind", "data.noise_fraction", "model.width", "data.examples", "regularization.weight_decay"): [
            *(("none", 0.0, 128, pairs, decay) for pairs in PAIRS for decay in DECAYS),
            *(("none", 0.0, width, pairs, 1.0) for width in (64, 256) for pairs in PAIRS),
            *(("none", 0.0, width, PAIRS[1], decay) for width in (64, 256) for decay in FEW_DECAYS),
            *(("wrong_labels", 0.1, 128, 640, decay) for decay in (0.0, 1.0, 3.0)),
        ],
    },
    seeds=range(12),
)
