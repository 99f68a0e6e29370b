"""Has a network learned, memorized, or both? And when?

A linear classifier of the last hidden layer tells the labels, and permuted labels, on noisy copies of the training set:
with real labels better than with permuted ones where the network has learned, with permuted ones better than the class
alone allows where its features tell examples apart. Along training, for an MLP and a convolutional network, with real
labels, noisy ones, and inputs that are all Gaussian noise; and by width and with dropout. Expected: both at once;
memorization moves with training, and learning is found with noise inputs too. Untrained networks and the inputs
themselves tell examples apart too: it is the change that counts.

(After Chaibub Neto 2018, of whom the abstract could be read: MLPs and convolutional networks, images, a shallow
classifier, shuffled labels, validation sets that share structure with the training set, epochs, Gaussian noise inputs.
The procedure is a reconstruction from the same author's work of 2019 on repeated measurements. Data, sizes, copies,
ridge classifier and steps are ours, as are the axes of label noise, width and dropout. All ten digits, a part of
MNIST.)
Seeds 0 to 11 were a first run, whose tests untrained networks passed and whose p-values of memorization were not
calibrated; twice as many new ones decide: 13 settings x 24 seeds x 300 steps, 0.09M member steps.
"""

from memsweep import Sweep

SWEEP = Sweep(
    "permutation",
    base={
        "data.task": "mnist5k",
        "data.examples": 300,
        "data.validation_examples": 300,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.05,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 50,
        "optimizer.epochs": 50,
        "stop.measure_steps": 100,
        "probes": ("permutations",),
        "probe_steps": (0, 3, 10, 20, 40, 80, 150, 220),
    },
    axes={
        (*("model.family", "model.width", "regularization.dropout", "data.noise_kind", "data.noise_fraction"),): [
            *(("mlp", 64, 0.0, "labels" if fraction else "none", fraction) for fraction in (0.0, 0.25, 0.5, 0.75, 1.0)),
            ("mlp", 64, 0.0, "gaussian_inputs", 1.0),
            ("mlp", 64, 0.5, "labels", 0.5),
            *(("mlp", width, 0.0, "labels", 1.0) for width in (16, 32, 128)),
            *(("cnn", 16, 0.0, kind, fraction) for kind, fraction in (("none", 0.0), ("labels", 1.0))),
            ("cnn", 16, 0.0, "gaussian_inputs", 1.0),
        ],
    },
    seeds=range(12, 36),
)
