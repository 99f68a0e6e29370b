"""Which regularizers prevent the memorizing of random labels, at no cost to what is learned from true ones?

Each regularizer at several strengths, one at a time, on clean and on fully random labels. Expected: without any, all
random labels are fitted; as a strength grows fewer are, and from some strength on clean accuracy falls too. The paper
found dropout the most effective single one. (A reconstruction of Arpit et al. 2017, section 5, on MLPs and digits: the
paper used convolutional networks on CIFAR-10. Strengths span the paper's ranges; hidden noise goes on beyond its 0.3.
Its dropout with adversarial training is a sweep of its own, adversarial_training.)
Seeds 0 to 11 were a first run: too few for a claim of 15 parts, at three caps, to be contradicted. New ones decide, at
one cap: 78 settings x 24 seeds x 1,200 steps, 2.2M member steps.
"""

from memsweep import Sweep, logspace

STRENGTHS = {
    "regularization.dropout": (0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9),
    "regularization.input_dropout": (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9),
    "regularization.input_noise": (0.1, 0.3, 0.5, 0.8, 1.2, 2.0, 5.0),
    "regularization.hidden_noise": (0.03, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0, 2.0),
    "regularization.weight_decay": logspace(-4, 0, 7),
}
NONE = dict.fromkeys(STRENGTHS, 0.0)
ONE_AT_A_TIME = [NONE, *({**NONE, name: strength} for name, values in STRENGTHS.items() for strength in values)]

SWEEP = Sweep(
    "regularization",
    base={
        "data.task": "digits",
        "data.examples": 1000,
        "data.validation_examples": 500,
        "data.test_examples": 297,
        "data.noise_kind": "labels",
        "model.family": "mlp",
        "model.width": 128,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 100,
        "optimizer.epochs": 120,
        "stop.measure_steps": 20,
    },
    axes={
        "data.noise_fraction": (0.0, 1.0),
        tuple(STRENGTHS): [tuple(strengths.values()) for strengths in ONE_AT_A_TIME],
    },
    seeds=range(12, 36),
)
