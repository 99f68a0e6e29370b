"""The question of `string_capacity` at the size of a public rerun of Morris et al. (2025), for GPUs.

The rerun (memcap-results) trained GPT-2 of 0.54, 1.86 and 8.44 million parameters on random strings of 64 tokens out of
2,048, in single precision, with AdamW at 0.001 and a cosine schedule, batches of 512 and 8,000 steps. Its largest
network (width 256, 10 blocks, 4 heads) held 99.5 % of the bits of 16,000 strings, 1.31 a parameter; widths and depths
of the other two are inferred from their numbers of parameters. Read-outs are not tied to embeddings here, which adds
2,048 weights a unit of width, and the first token of a string counts too, which the rerun leaves out.
Morris et al. have batches of 2,048 and a million steps.
"""

from memsweep import Sweep

NETWORKS = [
    # width, blocks, numbers of strings
    (64, 8, (512, 1000, 2000, 4000, 8000, 16000)),
    (128, 8, (2000, 4000, 8000, 16000, 32000, 64000)),
    (256, 10, (8000, 16000, 32000, 64000, 128000, 256000)),
]

SWEEP = Sweep(
    "string_capacity",
    base={
        "data.task": "strings",
        "data.sequence_length": 64,
        "data.vocabulary": 2048,
        "data.validation_examples": 1000,
        "model.family": "transformer",
        "model.heads": 4,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.001,
        "optimizer.schedule": "cosine",
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 512,
        "stop.steps": 8000,
        "stop.measure_steps": 1000,
    },
    axes={
        ("model.width", "model.depth", "data.examples"): [
            (width, blocks, strings) for width, blocks, sizes in NETWORKS for strings in sizes
        ]
    },
    seeds=range(12),
)
