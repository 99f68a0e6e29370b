"""Do weights made by construction hold every label, with as few units as are proven enough, and how precisely?

Expected: in double precision two hidden layers of 2 sqrt(N) ReLU units and 4K more hold any N points of K classes,
without a step of training; in single precision fewer and fewer labels survive as N grows from 1,000 on. (After Yun et
al. 2019, whose theorems were read in secondary sources; the construction is ours. Here all three layers have the width
of the widest; units that are left over are off. The rate is 0: the one step changes nothing.)
"""

from memsweep import Sweep

ROOTS = (4, 8, 16, 32, 64, 100)

SWEEP = Sweep(
    "construction",
    base={
        "data.task": "gaussian",
        "data.input_dim": 8,
        "data.label_scheme": "random",
        "data.validation_examples": 0,
        "model.family": "mlp",
        "model.depth": 3,
        "model.initialization": "memorizer",
        "optimizer.learning_rate": 0.0,
        "optimizer.batch_size": 1,
        "stop.steps": 1,
    },
    axes={
        ("data.examples", "data.classes", "model.width"): [
            (root**2, classes, max(2 * root, 4 * classes)) for root in ROOTS for classes in (2, 10)
        ],
        "compute.dtype": ("float64", "float32"),
    },
    seeds=range(10),
)
