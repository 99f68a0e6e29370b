"""The user's code that `tests/stored/2026-11-28` was made with: `memsweep launch tests/stored_code.py`."""

import torch
from torch import nn

from memsweep import Sweep


class FrozenFeatures(nn.Module):
    """Random features that are not trained, under a read-out that is."""

    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.features = nn.Linear(input_dim, model.width).requires_grad_(False)
        self.readout = nn.Linear(model.width, classes)

    def forward(self, inputs):
        return self.readout(torch.relu(self.features(inputs)))


def labels_from_1(config, rng):
    """Four classes with the labels 1 to 4."""
    inputs = rng.standard_normal((80, 6))
    return inputs, 1 + inputs[:, :4].argmax(axis=1)


FROZEN, SKIPPING = "tests.stored_code:FrozenFeatures", "tests.stored_code:labels_from_1"
SWEEP = Sweep(
    "mends",
    {
        "data.examples": 40,
        "data.validation_examples": 20,
        "data.noise_kind": "labels",
        "data.noise_fraction": 0.5,
        "model.depth": 1,
        "optimizer.batch_size": 20,
        "optimizer.epochs": 3,
    },
    axes={
        ("data.task", "model.family", "model.width"): [
            ("digits", "mlp", 8),
            ("digits", "mlp", 1),
            ("digits", FROZEN, 8),
            (SKIPPING, "mlp", 8),
        ]
    },
)
