"""How many labels does a trained ReLU network of each width hold, beside what theorems say of the worst and best case?

Random labels of Gaussian inputs, with one and with two hidden layers, and at equal hidden weights with three, four and
five; and points of a line whose labels alternate, which no network with fewer linear pieces can hold: one hidden layer
of d units has d + 1 of them, two have (d + 1)^2. Each seed's largest set is found by bisection of thirty sizes, each a
quarter larger. Expected: random labels held grow like the parameters, or like d^2 with two hidden layers and
like d with one, above the d^2/4 that a construction holds of any set; on the line training stays below that, and beyond
the pieces nothing is ever held. (After Yun et al. 2019, whose theorems were read in secondary sources; they speak of
existence, the questions about training are ours.)
Seeds 0 to 9 were a first run, whose largest sets were too small; 10 to 21 a second, on grids of steps up to 1.75, too
coarse for a factor of two. New ones decide: 23 networks x 12 seeds x 5 sizes, at most 3,000 steps each, 4.1M member
steps if no set were fitted early.
"""

from memsweep import CapacitySearch, Sweep, logspace

WIDTHS = (8, 12, 16, 24, 32)
EQUAL_PARAMETERS = {3: 17, 4: 14, 5: 12}
"""Hidden layers -> width with as many hidden weights, about 576, as two layers of 24 units."""

SWEEP = Sweep(
    "memorizer_width",
    base={
        "data.validation_examples": 0,
        "model.family": "mlp",
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.01,
        "optimizer.batch_size": 128,
        "stop.fit": 1.0,
        "stop.steps": 3000,
        "stop.measure_steps": 100,
    },
    axes={
        (
            *("data.task", "data.label_scheme", "data.input_dim", "data.classes"),
            *("model.depth", "model.width"),
        ): [
            *(("gaussian", "random", 4, 2, depth, width) for depth in (1, 2) for width in WIDTHS),
            *(("gaussian", "random", 4, 2, depth, width) for depth, width in EQUAL_PARAMETERS.items()),
            *(("alternating", "task", 0, 0, depth, width) for depth in (1, 2) for width in WIDTHS),
        ],
        "data.examples": [round(size) for size in logspace(0.6, 3.6, 30)],
    },
    seeds=range(22, 34),
    search=CapacitySearch(share=0.5, tuned=()),
)
