"""Of settings drawn at random, how many diverge, with gates and without?

Random bits, labelled after ten steps, by SGD with momentum and without clipping: twelve learning rates, one drawn from
each twelfth of five decades, each with twelve first weights. Expected: cells with gates diverge less often. (After
Collins et al. 2017, who drew a thousand settings of all hyper-parameters; neither their ranges nor what they call
divergence is known.)
"""

from random import Random

from memsweep import Sweep

RATES, LOWEST, HIGHEST = 12, -3, 2
"""How many, and powers of ten between which they are drawn."""

draws = Random(0)
POWERS = [LOWEST + (HIGHEST - LOWEST) * (i + draws.random()) / RATES for i in range(RATES)]

SWEEP = Sweep(
    "trainability",
    base={
        "data.task": "random_sequences",
        "data.label_scheme": "random",
        "data.classes": 2,
        "data.input_dim": 16,
        "data.sequence_length": 10,
        "data.examples": 128,
        "data.validation_examples": 0,
        "model.family": "recurrent",
        "model.depth": 1,
        "model.width": 32,
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 32,
        "stop.steps": 200,
        "stop.measure_steps": 100,
    },
    axes={
        "model.cell": ("rnn", "irnn", "gru", "lstm"),
        "optimizer.learning_rate": [round(10**power, 5) for power in POWERS],
    },
    seeds=range(12),
)
