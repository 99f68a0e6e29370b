"""Which cells bridge longer sequences, and how fast do they learn to?

Copying four symbols, adding two marked numbers and recalling the values of two keys, over growing lengths, by an LSTM,
a GRU, PRU-style cells (reconstructed: of Choi 2018 only the abstract could be read), and a tanh RNN, wider, so that it
has about the parameters of the gated cells. Expected: steps to solve grow with length; wider cells reach further,
gated ones further than the RNN. Whether a PRU does better than an LSTM is the question, at equal width and at equal
parameters. A trial ends when it has solved its task. Lengths and budget are sized for two cores; what no cell solves
so soon is left out. With a cluster, change LENGTHS, CELLS and launch with `--set stop.steps=20000`.
"""

from memsweep import Sweep

LENGTHS = {"copy": (10, 20), "adding": (10, 20, 40), "recall": (10, 20)}
TASKS = [
    # task, length, symbols or pairs, tokens, rate, probes; recall needs more tokens than steps, and learns slowly
    *(("copy", length, 4, 4, 0.01, ("positions", "readouts")) for length in LENGTHS["copy"]),
    *(("adding", length, 0, 0, 0.01, ()) for length in LENGTHS["adding"]),
    *(("recall", length, 2, length + 2, 0.03, ("positions",)) for length in LENGTHS["recall"]),
]
CELLS = [
    *((cell, width) for cell in ("lstm", "gru", "pru_a", "pru_b", "pru_a+plus_out") for width in (16, 32)),
    *(("rnn", width) for width in (32, 64)),
]

SWEEP = Sweep(
    "sequence_length",
    base={
        "data.examples": 2000,
        "data.validation_examples": 250,
        "model.family": "recurrent",
        "model.depth": 1,
        "optimizer.name": "adamw",
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 32,
        "stop.solve": "task",
        "stop.steps": 600,
        "stop.measure_steps": 100,
    },
    axes={
        (
            *("data.task", "data.sequence_length", "data.items", "data.vocabulary", "optimizer.learning_rate"),
            "probes",
        ): TASKS,
        ("model.cell", "model.width"): CELLS,
    },
    seeds=range(12),
)
