"""How few units a layer still fit all of 128 random labels, as classes, input dimension and nonlinearity change?

Three blocks, each with grids of widths of its own, in steps of a tenth to a quarter. Classes: two and three hidden
layers, trained on squares of one-hot answers. Input dimension: one hidden layer, Gaussian inputs, so in general
position. Nonlinearity: two hidden layers. Expected, if trained networks need what constructions do: the least width
rises less steeply with the classes where a third layer can tell them apart; it falls like 1 / D with the input
dimension; and hard-tanh, each unit of which is two ReLUs, needs between half as many units as ReLU and as many. (After
Yun et al. 2019, whose theorems were read in secondary sources; they speak of existence, the questions about training
are ours.)
Seeds 0 to 11 were a first run, whose narrowest networks of one hidden layer fitted too often; twelve new ones decide.
"""

from memsweep import Sweep

EXAMPLES = 128
BY_CLASSES = {2: (8, 10, 13, 16, 20, 25), 4: (10, 13, 16, 20, 25, 32), 8: (16, 20, 25, 32, 40)}
BY_DIMENSION = {4: (12, 14, 16, 18, 20, 22, 25, 28), 8: (7, 8, 9, 10, 11, 12, 14, 16), 16: (4, 5, 6, 7, 8, 9, 10, 12)}
RECTIFIED = (6, 8, 10, 12, 15, 19)
BY_ACTIVATION = {"relu": RECTIFIED, "leaky_relu": RECTIFIED, "hardtanh": (6, 8, 10, 12, 15, 19, 24)}

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
                for classes, widths in BY_CLASSES.items()
                for depth in (2, 3)
                for width in widths
            ),
            *(("cross_entropy", 2, dim, "relu", 1, width) for dim, widths in BY_DIMENSION.items() for width in widths),
            *(
                ("cross_entropy", 2, 4, activation, 2, width)
                for activation, widths in BY_ACTIVATION.items()
                for width in widths
            ),
        ],
    },
    seeds=range(12, 24),
)
