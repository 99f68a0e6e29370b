"""How few units a layer still fit all of 128 random labels, as classes, input dimension and nonlinearity change?

Three blocks, each with its own grid of widths, in steps of a quarter to a third. Classes: two and three hidden layers,
trained on squares of one-hot answers. Input dimension: one hidden layer, Gaussian inputs, so in general position.
Nonlinearity: two hidden layers. Expected, if trained networks need what constructions do: the least width rises less
steeply with the classes where a third layer can tell them apart; it falls like 1 / D with the input dimension; and
hard-tanh, each unit of which is two ReLUs, needs between half as many units as ReLU and as many. (After Yun et al.
2019, whose theorems were read in secondary sources; they speak of existence, the questions about training are ours.)
"""

from memsweep import Sweep

EXAMPLES = 128
BY_CLASSES = (8, 10, 13, 16, 20, 25, 32, 40)
BY_DIMENSION = {4: (16, 21, 28, 37, 50, 67, 90), 8: (8, 11, 14, 19, 25, 33, 44), 16: (4, 5, 7, 9, 12, 16, 21)}
BY_ACTIVATION = (6, 8, 10, 12, 15, 19, 24, 30)

SWEEP = Sweep(
    "least_width",
    base={
        "data.task": "gaussian",
        "data.examples": EXAMPLES,
        "data.label_scheme": "random",
        "data.validation_examples": 0,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.01,
        "optimizer.batch_size": 128,
        "stop.fit": 1.0,
        "stop.steps": 3000,
        "stop.measure_steps": 100,
    },
    axes={
        (
            *("optimizer.objective", "data.classes", "data.input_dim"),
            *("model.activation", "model.depth", "model.width"),
        ): [
            *(
                ("squared", classes, 4, "relu", depth, width)
                for classes in (2, 4, 8)
                for depth in (2, 3)
                for width in BY_CLASSES
            ),
            *(("cross_entropy", 2, dim, "relu", 1, width) for dim, widths in BY_DIMENSION.items() for width in widths),
            *(
                ("cross_entropy", 2, 4, activation, 2, width)
                for activation in ("relu", "leaky_relu", "hardtanh")
                for width in BY_ACTIVATION
            ),
        ],
    },
    seeds=range(12),
)
