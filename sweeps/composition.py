"""Can cells whose dimensions keep to themselves compose permutations, which move what is stored?

Permutations of four things, one a step; at every step the cell tells which one all so far make. By an LSTM, by pru_a,
whose candidate does not read the state but whose gates do, and by pru_b, whose recurrence is elementwise
(reconstructed: of Choi 2018 only the abstract could be read). Expected: the LSTM does best, pru_b worst, the more so
the longer the sequence. With three things an LSTM and pru_a are soon right always (pilot). No trial ends early.
"""

from memsweep import Sweep

SWEEP = Sweep(
    "composition",
    base={
        "data.task": "composition",
        "data.items": 4,
        "data.examples": 2000,
        "data.validation_examples": 250,
        "model.family": "recurrent",
        "model.depth": 1,
        "model.width": 32,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.01,
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 32,
        "stop.steps": 500,
        "stop.measure_steps": 100,
    },
    axes={"model.cell": ("lstm", "pru_a", "pru_b"), "data.sequence_length": (4, 8, 12)},
    seeds=range(12),
)
