"""The question of `double_descent` near the paper's size, for GPUs: CIFAR-10 and residual networks of many widths.

(Nakkiran et al. 2019: widths of a ResNet18 up to 64 channels, trained with Adam for 4,000 epochs at 15 % wrong labels,
as summaries of its first figure say. Here three stages of two blocks, as in `resnet`; the rate and the batch size are
ours, and there is no augmentation.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "double_descent",
    base={
        "data.task": "cifar10",
        "data.validation_examples": 5000,
        "data.test_examples": 10000,
        "data.noise_kind": "wrong_labels",
        "model.family": "resnet",
        "model.depth": 2,
        "model.norm": "batch",
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.0001,
        "optimizer.batch_size": 125,
        "optimizer.epochs": 4000,
        "stop.measure_steps": 3600,
    },
    axes={
        ("data.noise_fraction", "regularization.weight_decay", "data.examples"): [
            *((noise, 0.0, 45000) for noise in (0.15, 0.0, 0.1, 0.2)),
            (0.15, 0.0005, 45000),
            (0.15, 0.0, 22500),
        ],
        "model.width": (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64),
    },
    seeds=range(16),
)
