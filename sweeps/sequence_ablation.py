"""Which recurrent matrices of an LSTM matter, and what does a layer after its state give?

Copying, adding and recall with a fixed budget and two learning rates, by an LSTM and by PRU-style cells that lack more
and more of its recurrence: pru_c (the candidate reads its own dimension of h alone), pru_a (none of h), pru_b (nor do
the gates). pru_a+plus_out has the LSTM's parameters within 1 %; a wider pru_a has those of pru_a+plus_out within 5 %.
Expected, if the argument of Choi (2018) holds: pru_a does no worse than the LSTM, and the layer helps. All cells are
reconstructed, since only the paper's abstract could be read; tasks, sizes and the budget are ours.
No trial ends early, so that values at the end can be compared.
Seeds 0 to 11 were a first run, which left claims 3 and 9 undecided; twice as many new ones decide: 72 settings x 24
seeds x 300 steps, 0.52M member steps.
"""

from memsweep import Sweep

WIDTH, WIDER = 32, 36
TASKS = [
    # task, length, symbols or pairs, tokens
    *(("copy", length, 4, 4) for length in (10, 20)),
    *(("adding", length, 0, 0) for length in (10, 20)),
    *(("recall", length, 2, length + 2) for length in (10, 16)),
]

SWEEP = Sweep(
    "sequence_ablation",
    base={
        "data.examples": 2000,
        "data.validation_examples": 250,
        "model.family": "recurrent",
        "model.depth": 1,
        "optimizer.name": "adamw",
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 32,
        "stop.steps": 300,
        "stop.measure_steps": 100,
    },
    axes={
        ("data.task", "data.sequence_length", "data.items", "data.vocabulary"): TASKS,
        ("model.cell", "model.width"): [
            *((cell, WIDTH) for cell in ("lstm", "pru_c", "pru_a", "pru_b", "pru_a+plus_out")),
            ("pru_a", WIDER),
        ],
        "optimizer.learning_rate": (0.01, 0.03),
    },
    seeds=range(12, 36),
)
