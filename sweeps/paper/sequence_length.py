"""The question of `sequence_length` at larger sizes, for GPUs: copying, adding and recall over up to 800 steps.

(Choi 2018 is known by its abstract alone, so that none of these sizes is the paper's; such lengths are what copying and
adding have been asked for in the literature.) PRU-style cells are reconstructed.
"""

from memsweep import Sweep

TASKS = [
    # task, length, symbols or pairs, tokens, probes
    *(("copy", length, 10, 8, ("positions", "readouts")) for length in (50, 100, 200, 400, 800)),
    *(("adding", length, 0, 0, ()) for length in (50, 100, 200, 400, 800)),
    *(("recall", length, length // 8, length + 2, ("positions",)) for length in (64, 128, 256)),
]
CELLS = ("rnn", "irnn", "lstm", "gru", "pru_a", "pru_b", "pru_c", "pru_d", "pru_a+plus_out")

SWEEP = Sweep(
    "sequence_length",
    base={
        "data.examples": 50000,
        "data.validation_examples": 2000,
        "model.family": "recurrent",
        "model.depth": 1,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.001,
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 64,
        "stop.solve": "task",
        "stop.steps": 50000,
        "stop.measure_steps": 500,
    },
    axes={
        ("data.task", "data.sequence_length", "data.items", "data.vocabulary", "probes"): TASKS,
        "model.cell": CELLS,
        "model.width": (64, 128, 256),
    },
    seeds=range(12),
)
