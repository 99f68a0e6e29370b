"""The question of `recall` near the size of Zoology's sweep, for GPUs: 4 to 64 pairs among 8,192 tokens.

(Arora et al. 2023, by the official configuration: 100,000 sequences, 64 epochs, widths 64 to 512, four rates from
0.0001 to 0.01, two blocks of attention. There blocks have no dense layers and other networks have four layers; GRUs,
single blocks, seeds and one size of batches for all lengths, 256 for their 512 to 128, are ours.)
"""

from memsweep import Sweep, log2

SWEEP = Sweep(
    "recall",
    base={
        "data.task": "recall",
        "data.vocabulary": 8192,
        "data.examples": 100_000,
        "data.validation_examples": 3000,
        "optimizer.name": "adamw",
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 256,
        "optimizer.epochs": 64,
        "stop.solve": "task",
        "stop.measure_steps": 1000,
    },
    axes={
        ("model.family", "model.cell", "model.depth"): [
            ("transformer", "none", 1),
            ("transformer", "none", 2),
            ("recurrent", "gru", 1),
            ("recurrent", "gru", 2),
        ],
        "model.width": log2(64, 512),
        ("data.items", "data.sequence_length"): [(4, 64), (8, 128), (16, 256), (64, 512)],
        "optimizer.learning_rate": [10.0 ** (-4 + 2 * step / 3) for step in range(4)],
    },
    seeds=range(12),
)
