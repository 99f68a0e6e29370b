"""How large a set of random labels does a network of fixed width fit, by classes, inputs and nonlinearity?

Three blocks, each at one width. Classes: two and three hidden layers of 16 units, trained on squares of one-hot
answers. Input dimension: one hidden layer of 4 units, Gaussian inputs, so in general position. Nonlinearity: two hidden
layers of 12 units. Each seed's largest set is found by bisection of thirty-one sizes, each a fifth larger. Expected, if
trained networks hold what constructions do: with two hidden layers the largest set is N* ~ d^2 / K, while a third layer
of K units or more makes it independent of K; it grows like d D with the inputs, as the parameters do to within a tenth
of the exponent where D is 16 or more; and hard-tanh, each unit of which is two ReLUs, fits up to four times what ReLU
does, since two layers of twice the units hold four times as many. (After Yun et al. 2019, whose theorems were read in
secondary sources; they speak of existence, the questions about training are ours.)
Seeds 0 to 11 and 12 to 23 decided a former question, the least width that fits 128 labels, on grids that were too
coarse and ended too early. Seeds 1000 and 1001 were a pilot, which chose the range of sizes and the steps, nothing
else: no largest set below 22 or above 400, and of 41 sets that were fitted within 3,000 steps 38 within 2,000. New
seeds decide: 13 networks x 24 seeds x 5 sizes, 3.1M member steps at most.
"""

from memsweep import CapacitySearch, Sweep, logspace

CLASSES = (2, 4, 8)
INPUTS = (16, 32, 64, 128)
ACTIVATIONS = ("relu", "leaky_relu", "hardtanh")

SWEEP = Sweep(
    "largest_set",
    base={
        "data.task": "gaussian",
        "data.label_scheme": "random",
        "data.validation_examples": 0,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.01,
        "optimizer.batch_size": 128,
        "stop.fit": 1.0,
        "stop.steps": 2000,
        "stop.measure_steps": 100,
    },
    axes={
        (
            *("optimizer.objective", "data.classes", "data.input_dim"),
            *("model.activation", "model.depth", "model.width"),
        ): [
            *(("squared", classes, 4, "relu", depth, 16) for classes in CLASSES for depth in (2, 3)),
            *(("cross_entropy", 2, inputs, "relu", 1, 4) for inputs in INPUTS),
            *(("cross_entropy", 2, 4, activation, 2, 12) for activation in ACTIVATIONS),
        ],
        "data.examples": [round(size) for size in logspace(0.9, 3.3, 31)],
    },
    seeds=range(24, 48),
    search=CapacitySearch(share=0.5, tuned=()),
)
