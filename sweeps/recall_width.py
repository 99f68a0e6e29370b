"""Which width recalls two, four and eight pairs of key and value, by recurrent cells and by attention?

Multi-query associative recall (Arora et al. 2023): pairs, then each key again. A cell must carry all pairs in a state
of its width; attention reads them where they stand. Expected: the least width of cells grows with the pairs, that of
attention does not. Each width has several learning rates, of which the best counts. A trial ends when it has solved
its task.
"""

from memsweep import Sweep

PAIRS = (2, 4, 8)
NETWORKS = [("recurrent", "gru", 1), ("recurrent", "lstm", 1), ("transformer", "none", 2)]

SWEEP = Sweep(
    "recall_width",
    base={
        "data.task": "recall",
        "data.examples": 4000,
        "data.validation_examples": 250,
        "optimizer.name": "adamw",
        "optimizer.clip": 1.0,
        "optimizer.batch_size": 32,
        "stop.solve": "task",
        "stop.steps": 2000,
        "stop.measure_steps": 250,
    },
    axes={
        ("data.items", "data.sequence_length", "data.vocabulary"): [(pairs, 4 * pairs, 40) for pairs in PAIRS],
        ("model.family", "model.cell", "model.depth"): NETWORKS,
        "model.width": (8, 16, 32, 64),
        "optimizer.learning_rate": (0.003, 0.01, 0.03),
    },
    seeds=range(12),
)
