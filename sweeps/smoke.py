"""Does everything work? Twelve small trainings, seconds in all."""

from memsweep import Sweep

SWEEP = Sweep(
    "smoke",
    base={
        "data.task": "digits",
        "data.examples": 200,
        "data.validation_examples": 100,
        "data.noise_kind": "labels",
        "model.width": 16,
        "model.depth": 1,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 50,
        "optimizer.epochs": 10,
    },
    axes={"data.noise_fraction": (0.0, 0.5), "regularization.weight_decay": (0.0, 0.01)},
    seeds=range(3),
)
