"""Do networks that learn end up alike, and networks that memorize each in their own way?

Networks differ by first weights and order of examples alone, and are asked about the same inputs: with true labels,
with more and more random ones, and with random ones only, which they share (a noise seed of LABELLINGS) or have each of
their own (noise seed: the replicate's). Expected: with true labels predictions, last hidden layers and input gradients
are more alike than with random ones, and the wider the more; first layers hardly differ in this.

(In the spirit of Gu & Tresp 2019, "one way to learn, N ways to memorize", of which the abstract alone could be read:
data, networks and measures are ours. Groups of networks that share one random labelling, PWCCA and widths are those of
Morcos, Raghu & Bengio 2018, sections 3.1 and 3.2, who compare convolutional networks on CIFAR-10, in groups of 5, on
training inputs; here they are MLPs on digits, 96 a group, on validation inputs, each trained until it fits its labels.)
Seeds 0 to 23 were a first run, which left claim 6 undecided; 24 to 119 a second, with one random labelling instead of
four, bounds of ours in claims 1, 4, 6 and 10, and no trend test. New ones decide: 14 settings x 96 seeds, at most 400
epochs of 6 steps each, 3.2M member steps if no network fitted early, about a quarter of it in the second run.
"""

from memsweep import Sweep

LABELLINGS = tuple(range(1_000_000, 1_000_004))
"""Seeds of the random labels that networks share; no replicate's. Partly random labels are of the first."""
WIDTH = 64

SWEEP = Sweep(
    "similarity",
    base={
        "data.task": "digits",
        "data.examples": 300,
        "data.validation_examples": 500,
        "model.family": "mlp",
        "model.depth": 3,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.05,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 50,
        "optimizer.epochs": 400,
        "stop.fit": 1.0,
        "seeds.inputs": 0,
        "seeds.labels": 0,
        "probes": ("examples", "representations"),
        "probe_steps": (0,),
    },
    axes={
        ("data.noise_kind", "data.noise_fraction", "seeds.noise", "model.width"): [
            *(("none", 0.0, LABELLINGS[0], width) for width in (16, 32, WIDTH, 128, 256)),
            *(("labels", fraction, LABELLINGS[0], WIDTH) for fraction in (0.2, 0.4, 0.6, 0.8)),
            *(("labels", 1.0, labelling, WIDTH) for labelling in LABELLINGS),
            ("labels", 1.0, None, WIDTH),
        ],
    },
    seeds=range(120, 216),
)
