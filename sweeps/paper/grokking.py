"""The question of `grokking` nearer the paper's size, for GPUs: modulo 97, a transformer of two blocks, 100,000 steps.

(Power et al. 2022: width 128, four heads, AdamW with rate 0.001 and betas 0.9 and 0.98, weight decay 1 or none, batches
of 512 or half of the training set. There the answer is read after the tokens of `a o b =`, here after two steps that
carry a and b; training shares and wrong labels are a grid of ours.)
"""

from memsweep import Sweep

PAIRS = 97 * 97
DECAYS = (0.0, 0.1, 1.0)
WIDTHS = (64, 128, 256)

SWEEP = Sweep(
    "grokking",
    base={
        "data.task": "modular",
        "data.modulus": 97,
        "data.validation_examples": 2000,
        "data.sequence_length": 2,
        "model.family": "transformer",
        "model.depth": 2,
        "model.heads": 4,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.001,
        "optimizer.betas": (0.9, 0.98),
        "optimizer.batch_size": 512,
        "optimizer.schedule": "warmup:1+constant",
        "stop.steps": 100_000,
        "stop.measure_steps": 100,
    },
    axes={
        ("data.noise_kind", "data.noise_fraction", "model.width", "data.examples", "regularization.weight_decay"): [
            *(
                ("none", 0.0, width, int(share * PAIRS), decay)
                for width in WIDTHS
                for share in (0.3, 0.4, 0.5, 0.7)
                for decay in DECAYS
            ),
            *(("wrong_labels", 0.1, 128, int(0.7 * PAIRS), decay) for decay in (0.0, 1.0, 3.0)),
        ],
    },
    seeds=range(12),
)
