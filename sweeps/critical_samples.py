"""Do networks that fit noise draw boundaries closer to the data, and when?

The critical sample ratio over training, around validation and training examples, with more and more training examples
whose inputs or labels are noise. Expected: the noisier the set, the more critical samples; around validation examples
their share rises and then stays, around training examples it rises and falls again as they are fitted. (After Arpit et
al. 2017, sections 4.1 and 4.2, on an MLP and 5,000 digits of MNIST; the paper used MNIST, and CIFAR-10 with a
convolutional network. Its validation sets of noise inputs are not known to be noise or not; here they are always real.
Its box, 0.3/255 of the inputs' range, is the multiple 1; the wider ones are ours.) Seeds 0 to 11 were a first run,
which left claims 10 to 12 undecided, 12 to 35 a second, both on images of 8x8 pixels. New ones decide: 11 settings x 24
seeds x 1,000 steps, 0.26M member steps.
"""

from memsweep import Sweep

FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)

SWEEP = Sweep(
    "critical_samples",
    base={
        "data.task": "mnist5k",
        "data.examples": 500,
        "data.validation_examples": 500,
        "model.family": "mlp",
        "model.width": 128,
        "model.depth": 2,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.05,
        "optimizer.momentum": 0.9,
        "optimizer.batch_size": 50,
        "optimizer.epochs": 100,
        "probes": ("critical_samples",),
        "probe_steps": (0, 10, 40, 100, 200, 400, 600, 800),
    },
    axes={
        ("data.noise_kind", "data.noise_fraction"): [
            ("none", 0.0),
            *((kind, fraction) for kind in ("gaussian_inputs", "labels") for fraction in FRACTIONS),
        ],
    },
    seeds=range(36, 60),
)
