"""Which examples are memorized: right where they are trained on, and wrong where they are held out?

Networks of five widths on 240 random subsets of 490 out of 700 digits, with true labels and with a fifth of them wrong.
The score of an example is the share of networks that give its label back after training on it, less that of networks
that never saw it. Expected: wrong labels score near 1; of true ones most score near 0 and a few higher, repeatably; and
the wider the network, the less true ones are memorized. (After Feldman and Zhang 2020, and Lukasik et al. 2023 for
widths, of which the abstracts were read. All subsets share a pool: seeds of inputs and noise are fixed, and each
subset has its own first weights and order.) 10 settings x 240 subsets x 1,000 steps, 2.4M member steps.
"""

from memsweep import Sweep

SWEEP = Sweep(
    "memorization",
    base={
        "data.task": "digits",
        "data.examples": 490,
        "data.subset_fraction": 0.7,
        "data.validation_examples": 0,
        "data.test_examples": 400,
        "data.noise_kind": "wrong_labels",
        "model.family": "mlp",
        "model.depth": 1,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 49,
        "stop.steps": 1000,
        "stop.measure_steps": 1000,
        "seeds.inputs": 0,
        "seeds.noise": 0,
        "probes": ("memorization",),
    },
    axes={
        "data.noise_fraction": (0.0, 0.2),
        "model.width": (8, 16, 32, 64, 128),
    },
    seeds=range(240),
)
