"""The question of `exposure` at larger sizes, for GPUs: up to 8.97 million parameters, 64 tokens and 64 repeats.

Networks and tokens are those of `paper/string_capacity`; the training set has more bits than they hold. (Carlini et al.
2023 have models of 125 million to 6 billion parameters, trained on text.) Exposure is by rank among 65,535 unseen
strings: 16 bits at most.
"""

from memsweep import Sweep

CANARIES, REPEATS = 16, (1, 2, 4, 8, 16, 32, 64)

SWEEP = Sweep(
    "exposure",
    base={
        "data.task": "strings",
        "data.vocabulary": 2048,
        "data.examples": 128000,
        "data.validation_examples": 65535,
        "data.repeats": tuple(repeats for repeats in REPEATS for _ in range(CANARIES)),
        "model.family": "transformer",
        "model.heads": 4,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.001,
        "optimizer.schedule": "cosine",
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 512,
        "stop.steps": 8000,
        "stop.measure_steps": 4000,
        "probes": ("exposure",),
        "probe_steps": (0,),
    },
    axes={
        ("model.width", "model.depth"): [(64, 8), (128, 8), (256, 10)],
        "data.sequence_length": (16, 32, 64),
    },
    seeds=range(12),
)
