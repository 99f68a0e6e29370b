"""Does adversarial training, added to dropout, prevent more memorizing, at no cost to what is learned?

The set-up of `regularization`, with a part of the loss on critical samples beside dropout, on clean and on fully random
labels. (A reconstruction of Arpit et al. 2017, section 5, on MLPs and digits: the weight lies within the paper's 0.2
to 0.7, dropout goes a little beyond its 0.5; samples are sought in the paper's box, for 10 iterations, whose number it
does not tell.) A sweep of its own, for its searches make a step many times as long. A first run held dropout to 0.5,
with which a third of random labels is fitted here, while `regularization` gives dropout alone up to 0.9: then both had
0.6, on seeds 0 to 11, too few for the claim's 15 parts. New ones decide, those of `regularization`, with which they are
paired: 4 settings x 24 seeds x 1,200 steps, 0.12M member steps, each with ten iterations of a search.
"""

from memsweep import Sweep

STRENGTHS = ((0.5, 0.45), (0.6, 0.45))

SWEEP = Sweep(
    "adversarial_training",
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
        ("regularization.dropout", "regularization.adversarial"): STRENGTHS,
    },
    seeds=range(12, 36),
)
