"""The question of `recall_width` at the sizes of Arora et al. (2023), for GPUs.

Their lengths and pairs, 8,192 tokens, widths 64 to 512, four learning rates from 1e-4 to 1e-2, batches of 512 down to
128, two layers; 64 epochs of 100,000 examples there, as here, unless the task is solved before.
"""

from memsweep import Sweep

RATES = (0.0001, 0.00046, 0.0022, 0.01)

SWEEP = Sweep(
    "recall_width",
    base={
        "data.task": "recall",
        "data.vocabulary": 8192,
        "data.examples": 100000,
        "data.validation_examples": 3000,
        "model.depth": 2,
        "optimizer.name": "adamw",
        "optimizer.schedule": "cosine",
        "optimizer.clip": 1.0,
        "optimizer.epochs": 64,
        "stop.solve": "task",
    },
    axes={
        ("data.sequence_length", "data.items", "optimizer.batch_size"): [
            (64, 4, 512),
            (128, 8, 512),
            (256, 16, 256),
            (512, 64, 128),
        ],
        ("model.family", "model.cell"): [("recurrent", "gru"), ("recurrent", "lstm"), ("transformer", "none")],
        "model.width": (64, 128, 256, 512),
        "optimizer.learning_rate": RATES,
    },
    seeds=range(12),
)
