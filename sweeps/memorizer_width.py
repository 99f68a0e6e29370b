"""How many labels does a trained ReLU network of each width hold, beside what theorems say of the worst and best case?

Random labels of Gaussian inputs, with one and with two hidden layers, and at equal hidden weights with three, four and
five; and points of a line whose labels alternate, which no network with fewer linear pieces can hold: one hidden layer
of d units has d + 1 of them, two have (d + 1)^2. Expected: random labels held grow like d^2 with two hidden layers and
like d with one, above the d^2/4 that a construction holds of any set; on the line training stays below that, and beyond
the pieces nothing is ever held. (After Yun et al. 2019, whose theorems were read in secondary sources; they speak of
existence, the questions about training are ours.) Seeds 0 to 9 were a first run, whose largest sets were too small: the
narrowest networks held all of them; twelve new ones decide.
"""

from memsweep import Sweep

WIDTHS = (8, 12, 16, 24, 32)
RANDOM = {1: (2, 2.8, 4, 5.6, 8, 11), 2: (0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)}
EQUAL_PARAMETERS = {3: 17, 4: 14, 5: 12}
"""Hidden layers -> width with as many hidden weights, about 576, as two layers of 24 units."""


def alternating_sizes(depth: int, width: int) -> tuple[int, ...]:
    """Up to the first that is impossible."""
    if depth == 1:
        return (width // 4, width // 2, width, width + 3)
    return (width // 2, width**2 // 8, width**2 // 4, width**2 // 2, (width + 1) ** 2 + 2)


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
            *("model.depth", "model.width", "data.examples"),
        ): [
            *(
                ("gaussian", "random", 4, 2, depth, width, round(ratio * width**depth))
                for depth, ratios in RANDOM.items()
                for width in WIDTHS
                for ratio in ratios
            ),
            *(
                ("gaussian", "random", 4, 2, depth, width, round(ratio * 24**2))
                for depth, width in EQUAL_PARAMETERS.items()
                for ratio in RANDOM[2]
            ),
            *(
                ("alternating", "task", 0, 0, depth, width, examples)
                for depth in (1, 2)
                for width in WIDTHS
                for examples in alternating_sizes(depth, width)
            ),
        ],
    },
    seeds=range(10, 22),
)
