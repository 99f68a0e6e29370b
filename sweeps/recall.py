"""How many pairs does a network recall, by width, depth and learning rate: recurrent cells against attention?

D pairs of key and value, then each key once more: which value has it? Four steps a pair; 7 keys, 8 values. Transformers
of one and two blocks, GRUs of one and two layers. A single pair needs no key: every network should be right. Expected
with more pairs: two blocks of attention recall, one does not, and a GRU recalls more than one block and less than two;
a GRU gains by width, attention by depth. (After Arora et al. 2023 and Okpekpe and Orvieto 2025, whose recurrent models
are no GRUs.) Whether a GRU's rate matters more is open: with two pairs in wide networks there are RATES beyond both
ends of what either learns at.

Seeds 1000 and 1001 were a pilot: among 14 tokens, two blocks of 32 units recall two pairs after 1,000 steps and three
after 2,000, at rate 0.001; among 16, a GRU of 16 units has 90 % of two pairs right after 3,000, at 0.01 and 0.03. 27
settings at three rates and 6 more x 12 seeds x at most 3,000 steps: 3.1M member steps at most, and fewer by what is
solved before.
"""

from memsweep import Sweep

ATTENTION, CELLS = ("transformer", "none"), ("recurrent", "gru")
NETWORKS = [
    # family, cell, depth, width
    *((*ATTENTION, 2, width) for width in (8, 16, 32)),
    *((*ATTENTION, 1, width) for width in (16, 32)),
    *((*CELLS, 1, width) for width in (8, 16, 32)),
    (*CELLS, 2, 16),
]
TUNED = (0.001, 0.003, 0.01)
"""Learning rates of all networks."""
RATES = (0.0003, 0.03, 0.1)
"""Further learning rates."""

SWEEP = Sweep(
    "recall",
    base={
        "data.task": "recall",
        "data.vocabulary": 16,
        "data.examples": 4000,
        "data.validation_examples": 500,
        "optimizer.name": "adamw",
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 32,
        "stop.solve": "task",
        "stop.steps": 3000,
        "stop.measure_steps": 500,
    },
    axes={
        (
            *("model.family", "model.cell", "model.depth", "model.width"),
            *("data.items", "data.sequence_length", "optimizer.learning_rate"),
        ): [
            *((*network, pairs, 4 * pairs, rate) for network in NETWORKS for pairs in (1, 2, 3) for rate in TUNED),
            *((*network, 2, 8, rate) for network in ((*ATTENTION, 2, 32), (*CELLS, 1, 32)) for rate in RATES),
        ],
    },
    seeds=range(12),
)
