"""The question of `adversarial_training` at the paper's size, for GPUs: CIFAR-10, a network of 200 channels.

(Arpit et al. 2017, section 5: dropout of 0.03 to 0.5 with weights of 0.2 to 0.7; which were combined, epochs and batch
size are not known, and chosen here: the middle weight. Others: `--set regularization.adversarial=0.2`, in a results
folder of their own, for what is compared is the strength of dropout.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "adversarial_training",
    base={
        "data.task": "cifar10",
        "data.examples": 45000,
        "data.validation_examples": 5000,
        "data.test_examples": 10000,
        "data.noise_kind": "labels",
        "model.family": "cnn",
        "model.width": 200,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 100,
        "optimizer.epochs": 300,
        "regularization.adversarial": 0.45,
    },
    axes={
        "data.noise_fraction": (0.0, 1.0),
        "regularization.dropout": (0.03, 0.1, 0.2, 0.3, 0.5),
    },
    seeds=range(12),
)
