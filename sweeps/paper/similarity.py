"""The question of `similarity` on CIFAR-10 with convolutional networks, for GPUs: 100 epochs of minibatches of 32.

(Data, epochs, minibatches, optimizer and groups that share a labelling are those of Morcos, Raghu & Bengio 2018, figure
3; the network is the small AlexNet of Arpit et al. 2017 instead of their 11 convolutions, and a group has 24 networks
instead of 5. What Gu & Tresp 2019 used is not known.)
"""

from memsweep import Sweep

LABELLING = 1_000_000
"""Seed of the random labels that networks share; no replicate's."""
WIDTH = 200

SWEEP = Sweep(
    "similarity",
    base={
        "data.task": "cifar10",
        "data.examples": 45000,
        "data.validation_examples": 5000,
        "model.family": "cnn",
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.001,
        "optimizer.batch_size": 32,
        "optimizer.epochs": 100,
        "seeds.inputs": 0,
        "seeds.labels": 0,
        "probes": ("examples", "representations"),
        "probe_steps": (0,),
    },
    axes={
        ("data.noise_kind", "data.noise_fraction", "seeds.noise", "model.width"): [
            *(("none", 0.0, LABELLING, width) for width in (50, 100, WIDTH, 400)),
            *(("labels", fraction, LABELLING, WIDTH) for fraction in (0.2, 0.4, 0.6, 0.8, 1.0)),
            ("labels", 1.0, None, WIDTH),
        ],
    },
    seeds=range(24),
)
