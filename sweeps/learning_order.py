"""Are all examples equally hard, as noise is, or are some learned first, as real ones are?

One epoch on the same data from 100 first weights, each with an order of examples of its own: how often is each training
example right afterwards? Expected: on real data many are nearly always right and some nearly never; with random labels
less so; noise inputs are as hard as each other. (After Arpit et al. 2017, section 3.1 and figure 1: 100 runs of 1,000
examples as there; MNIST and an MLP of 4,096 units there, digits here. The size of its training set, learning rate and
batch size of that experiment are not known.)
"""

from memsweep import Sweep

SWEEP = Sweep(
    "learning_order",
    base={
        "data.task": "digits",
        "data.examples": 1000,
        "data.validation_examples": 0,
        "model.family": "mlp",
        "model.width": 256,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "optimizer.batch_size": 10,
        "optimizer.epochs": 1,
        "seeds.inputs": 0,
        "seeds.labels": 0,
        "seeds.noise": 0,
        "probes": ("examples",),
    },
    axes={
        ("data.noise_kind", "data.noise_fraction"): [("none", 0.0), ("gaussian_inputs", 1.0), ("labels", 1.0)],
    },
    seeds=range(100),
)
