"""How many real numbers does a cell hold, a unit?

A vector of 16 normal numbers is shown at the first of three steps and asked for at the last, by cells with fewer units
than numbers and with more. Expected: from 16 units on it comes back; below, what is lost is the part of the variance
that as many directions as units can't span, 1 - units / 16, and cells differ little. (After Collins et al. 2017, who
showed 64 numbers; their training is not known.)
"""

from memsweep import Sweep

NUMBERS = 16

SWEEP = Sweep(
    "reconstruction",
    base={
        "data.task": "reconstruction",
        "data.input_dim": NUMBERS,
        "data.sequence_length": 3,
        "data.examples": 2000,
        "data.validation_examples": 500,
        "model.family": "recurrent",
        "model.depth": 1,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.01,
        "optimizer.batch_size": 100,
        "stop.solve": "task",
        "stop.steps": 2000,
        "stop.measure_steps": 200,
    },
    axes={
        "model.cell": ("rnn", "gru", "lstm"),
        "model.width": (4, 8, 12, 16, 24),
    },
    seeds=range(12),
)
