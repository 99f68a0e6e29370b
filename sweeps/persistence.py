"""Does each dimension of a trained cell's state keep to itself from one step to the next?

Copying four symbols for a fixed budget, by an LSTM, a GRU, a tanh RNN and PRU-style cells (reconstructed: of Choi 2018
only the abstract could be read), of two widths; then the Jacobian of the state by the one before, with gates held.
Expected: nothing off its diagonal for PRU-style cells, which are built so, and a good part of it for the others.
"""

from memsweep import Sweep

SWEEP = Sweep(
    "persistence",
    base={
        "data.task": "copy",
        "data.sequence_length": 10,
        "data.items": 4,
        "data.vocabulary": 4,
        "data.examples": 1000,
        "data.validation_examples": 100,
        "model.family": "recurrent",
        "model.depth": 1,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.01,
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 32,
        "stop.steps": 200,
        "stop.measure_steps": 100,
        "probes": ("jacobians",),
    },
    axes={
        "model.cell": ("lstm", "gru", "rnn", "pru_a", "pru_b", "pru_c", "pru_d"),
        "model.width": (8, 16),
    },
    seeds=range(12),
)
