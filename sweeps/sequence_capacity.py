"""How many bits do recurrent cells and a small transformer hold, by their parameters?

Two definitions. Cells label random bits, shown at the first of five steps (one cell: also of 1 and 10), at the last:
bits by the share of N labels that is right (Collins et al. 2017). A transformer and an LSTM tell random strings token
by token: bits by code length (Morris et al. 2025). Expected: bits grow linearly with parameters, cells differ little
at equal parameters, and a small budget, with the one learning rate that did best in a pilot, stays below the
literature's 5 and 3.6 bits a parameter, which are maxima over thousands of tuned runs. PRU-style cells are
reconstructed: of Choi (2018) only the abstract could be read.
Seeds 0 to 11 were a first run, which offered cells with gates exactly the 2 labels a parameter that a claim must
exceed, and other cells more. New ones decide: 120 sets of labels and 14 of strings x 12 seeds x 6,000 steps, at most
9.6M member steps (1.7M before).
"""

from memsweep import Sweep

BITS_SHOWN, STEPS_TO_LABEL = 16, 5
WIDTHS = (4, 8, 16)
BLOCKS = {"rnn": (1, 1), "irnn": (1, 1), "gru": (3, 3), "lstm": (4, 4), "pru_a": (4, 3), "pru_a+plus_out": (4, 3)}
"""Cell -> blocks of weights that read inputs, and that read the state."""
RATIOS = (1.0, 1.5, 2.0, 3.0, 4.5, 6.5)
"""Labels a parameter, the same for every cell, up to more than the 6 bits that a claim allows."""

TOKENS, STEPS, STRINGS = 16, 8, (64, 128, 256, 512)


def parameters(cell: str, width: int) -> int:
    """Of the cell and its read-out of two classes."""
    inputs, states = BLOCKS[cell]
    plus = width * width + width if "+" in cell else 0
    return width * (inputs * (BITS_SHOWN + 1) + states * width) + plus + 2 * (width + 1)


FIELDS = (
    *("data.task", "data.label_scheme", "data.classes", "data.input_dim", "data.sequence_length", "data.vocabulary"),
    *("model.family", "model.cell", "model.width", "data.examples", "optimizer.batch_size"),
    "optimizer.learning_rate",
)
NETWORKS = [
    *((cell, width, STEPS_TO_LABEL) for cell in BLOCKS for width in WIDTHS),
    *(("rnn", 16, steps) for steps in (1, 10)),
]
LABELS = [
    (
        *("random_sequences", "random", 2, BITS_SHOWN, steps, 0),
        *("recurrent", cell, width, round(parameters(cell, width) * ratio), 128, 0.01),
    )
    for cell, width, steps in NETWORKS
    for ratio in RATIOS
]
CODES = [
    ("strings", "task", 0, 0, STEPS, TOKENS, family, cell, width, examples, 32, rate)
    for family, cell, rate, sizes in (("attention", "none", 0.01, STRINGS), ("recurrent", "lstm", 0.03, STRINGS[1:]))
    for width in (8, 16)
    for examples in sizes
]

SWEEP = Sweep(
    "sequence_capacity",
    base={
        "data.validation_examples": 0,
        "model.depth": 1,
        "optimizer.name": "adamw",
        "optimizer.clip": 1.0,
        "stop.fit": 1.0,
        "stop.steps": 6000,
        "stop.measure_steps": 500,
    },
    axes={FIELDS: [*LABELS, *CODES]},
    seeds=range(12, 24),
)
