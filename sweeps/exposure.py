"""How exposed are strings by their number of repeats, by the width of the transformer and by their length?

Eight random strings each are in the training set 1, 2, 4, 8 and 16 times, among others that are there once. Exposure
(Carlini et al. 2019) is by rank among 1,023 other random strings: 10 bits at most, 1.44 by chance. Expected, after
Carlini et al. (2023), who measured extraction from large models: it rises with repeats, with the network's size, and
with the length of the string. The training set has more bits than the networks hold, except the shortest strings in the
widest network. 9 settings x 10 seeds x 500 steps: 45,000 member steps.
"""

from memsweep import Sweep

CANARIES, REPEATS = 8, (1, 2, 4, 8, 16)

SWEEP = Sweep(
    "exposure",
    base={
        "data.task": "strings",
        "data.vocabulary": 16,
        "data.examples": 1000,
        "data.validation_examples": 1023,
        "data.repeats": tuple(repeats for repeats in REPEATS for _ in range(CANARIES)),
        "model.family": "transformer",
        "model.depth": 2,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.003,
        "optimizer.schedule": "cosine",
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 50,
        "stop.steps": 500,
        "stop.measure_steps": 500,
        "probes": ("exposure",),
        "probe_steps": (0,),
    },
    axes={"model.width": (8, 16, 32), "data.sequence_length": (4, 8, 16)},
    seeds=range(10),
)
