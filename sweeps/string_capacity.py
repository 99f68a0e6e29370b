"""How many bits of random strings does a transformer hold, and where is its loss on unseen strings largest?

A GPT-2 of two blocks is trained by AdamW and a cosine schedule on sets of half a bit to six bits a parameter (Morris et
al. 2025: 3.6 bits a parameter, after a million steps of far larger networks). Expected: small sets are held whole;
beyond the capacity, which is proportional to parameters, no more bits are held, and the loss on unseen strings, which
is largest about there, falls towards that of guessing: double descent, on data from which nothing generalizes. A pilot
on other seeds held half a bit a parameter whole, one bit at most, and less of larger sets: 2,000 steps are few.
15 settings x 10 seeds x 2,000 steps: 0.3M member steps.
"""

from memsweep import Sweep

TOKENS, STEPS, BLOCKS = 16, 8, 2
WIDTHS = (4, 6, 8)
RATIOS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Bits of all tokens a parameter; a network can hold less of them, as it must leave open which string comes."""


def parameters(width: int) -> int:
    """Of embeddings, positions, blocks, the last normalization and the read-out."""
    return (2 * TOKENS + 1 + STEPS) * width + TOKENS + BLOCKS * (12 * width**2 + 13 * width) + 2 * width


SIZES = [(width, round(ratio * parameters(width) / (STEPS * 4))) for width in WIDTHS for ratio in RATIOS]
"""A string has 8 tokens of 4 bits."""

SWEEP = Sweep(
    "string_capacity",
    base={
        "data.task": "strings",
        "data.sequence_length": STEPS,
        "data.vocabulary": TOKENS,
        "data.validation_examples": 64,
        "model.family": "transformer",
        "model.depth": BLOCKS,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.01,
        "optimizer.schedule": "cosine",
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 10,
        "stop.steps": 2000,
        "stop.measure_steps": 500,
    },
    axes={("model.width", "data.examples"): SIZES},
    seeds=range(10),
)
