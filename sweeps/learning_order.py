"""Are all examples equally hard, as noise is, or are some learned first, as real ones are?

One epoch on the same data from 100 first weights, each with an order of examples of its own: how often is each training
example right afterwards? Expected: on real data many are nearly always right and some nearly never; with random labels
less so; noise inputs are as hard as each other. (After Arpit et al. 2017, section 3.1 and figure 1: 100 runs of 1,000
examples as there; MNIST and an MLP of 4,096 units there, 5,000 digits of MNIST and 256 units here, at the
paper's learning rate. The size of its training set and its batch size are not known.)
Seeds 0 to 99 were a first run, on images of 8x8 pixels at a rate of 0.1; other runs and other examples decide: 3
settings x 100 runs x 100 steps, 0.03M member steps.
"""

from memsweep import Sweep

SWEEP = Sweep(
    "learning_order",
    base={
        "data.task": "mnist5k",
        "data.examples": 1000,
        "data.validation_examples": 0,
        "model.family": "mlp",
        "model.width": 256,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "optimizer.batch_size": 10,
        "optimizer.epochs": 1,
        "seeds.inputs": 1,
        "seeds.labels": 1,
        "seeds.noise": 1,
        "probes": ("examples",),
    },
    axes={
        ("data.noise_kind", "data.noise_fraction"): [("none", 0.0), ("gaussian_inputs", 1.0), ("labels", 1.0)],
    },
    seeds=range(100, 200),
)
