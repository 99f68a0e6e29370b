"""How many bits do recurrent cells and a small transformer hold, by their parameters?

Two definitions. Cells label random bits, shown at the first of five steps, at the last: bits by the share of N labels
that is right (Collins et al. 2017). A transformer and an LSTM tell random strings token by token: bits by code length
(Morris et al. 2025). Expected: bits grow linearly with parameters, cells differ little at equal parameters, and a small
budget stays below the literature's 5 and 3.6 bits a parameter, which are maxima over thousands of tuned runs. PRU-style
cells are reconstructed: of Choi (2018) only the abstract could be read.
"""

from memsweep import Sweep

BITS_SHOWN, LABELS_A_PARAMETER = 16, (1.0, 1.5, 2.0, 3.0, 4.0)
BLOCKS = {"rnn": (1, 1), "gru": (3, 3), "lstm": (4, 4), "pru_a": (4, 3), "pru_a+plus_out": (4, 3)}
"""Cell -> blocks of weights that read inputs, and that read the state."""

TOKENS, STEPS, STRINGS = 16, 8, (64, 128, 256, 512)


def parameters(cell: str, width: int) -> int:
    """Of the cell and its read-out of two classes."""
    inputs, states = BLOCKS[cell]
    plus = width * width + width if "+" in cell else 0
    return width * (inputs * (BITS_SHOWN + 1) + states * width) + plus + 2 * (width + 1)


FIELDS = (
    *("data.task", "data.label_scheme", "data.classes", "data.input_dim", "data.sequence_length", "data.vocabulary"),
    *("model.family", "model.cell", "model.width", "data.examples", "optimizer.batch_size"),
)
LABELS = [
    (
        "random_sequences",
        "random",
        2,
        BITS_SHOWN,
        5,
        0,
        "recurrent",
        cell,
        width,
        round(parameters(cell, width) * r),
        128,
    )
    for cell in BLOCKS
    for width in (4, 8, 16)
    for r in LABELS_A_PARAMETER
]
CODES = [
    ("strings", "task", 0, 0, STEPS, TOKENS, family, cell, width, examples, 32)
    for family, cell in (("attention", "none"), ("recurrent", "lstm"))
    for width in (8, 16)
    for examples in STRINGS
]

SWEEP = Sweep(
    "sequence_capacity",
    base={
        "data.validation_examples": 0,
        "model.depth": 1,
        "optimizer.name": "adamw",
        "optimizer.clip": 1.0,
        "stop.fit": 1.0,
        "stop.steps": 2500,
        "stop.measure_steps": 250,
    },
    axes={FIELDS: [*LABELS, *CODES], "optimizer.learning_rate": (0.01, 0.03)},
    seeds=range(3),
)
