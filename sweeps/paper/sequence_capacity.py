"""The question of `sequence_capacity` at larger sizes, for GPUs.

Random bits, labelled after five steps, by cells of up to 64 units and five learning rates (Collins et al. 2017 took the
best of thousands of tuned runs; their ranges are not known); and random strings of 64 tokens out of 2,048, told by
transformers (Morris et al. 2025: their strings, layers and widths, batches of 2,048 and a million steps there).
"""

from memsweep import Sweep

BITS_SHOWN, STEPS_TO_LABEL = 64, 5
BLOCKS = {"rnn": (1, 1), "irnn": (1, 1), "gru": (3, 3), "lstm": (4, 4), "pru_a": (4, 3)}
"""Cell -> blocks of weights that read inputs, and that read the state."""


def parameters(cell: str, width: int) -> int:
    """Of the cell and its read-out of two classes."""
    inputs, states = BLOCKS[cell]
    return width * (inputs * (BITS_SHOWN + 1) + states * width) + 2 * (width + 1)


LABELS = [
    (
        *("random_sequences", "random", 2, BITS_SHOWN, STEPS_TO_LABEL, 0, "recurrent", cell, 1, width),
        *(round(parameters(cell, width) * ratio), 128, rate, 50000),
    )
    for cell in BLOCKS
    for width in (8, 16, 32, 64)
    for ratio in (1, 2, 3, 4, 6)
    for rate in (0.0003, 0.001, 0.003, 0.01, 0.03)
]
CODES = [
    ("strings", "task", 0, 0, 64, 2048, "attention", "none", depth, width, examples, 256, 0.001, 200000)
    for depth in (1, 2, 4)
    for width in (32, 64, 128)
    for examples in (256, 1024, 4096, 16384)
]

SWEEP = Sweep(
    "sequence_capacity",
    base={
        "data.validation_examples": 0,
        "optimizer.name": "adamw",
        "optimizer.clip": 1.0,
        "stop.fit": 1.0,
        "stop.measure_steps": 1000,
    },
    axes={
        (
            *("data.task", "data.label_scheme", "data.classes", "data.input_dim", "data.sequence_length"),
            *("data.vocabulary", "model.family", "model.cell", "model.depth", "model.width", "data.examples"),
            *("optimizer.batch_size", "optimizer.learning_rate", "stop.steps"),
        ): [*LABELS, *CODES]
    },
    seeds=range(5),
)
