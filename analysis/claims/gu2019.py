"""Gu & Tresp 2019, Neural Network Memorization Dissection: one way to learn, N ways to memorize.

Only the abstract was available. Its statements are tested by measures of our own choice, and by those of Morcos, Raghu
& Bengio (2018), who studied the same question on convolutional networks. `gu2019_evidence` has the tests.
"""

from __future__ import annotations

from functools import partial

from memsweep.analysis.claims.claim import Basis, Claim, Paper
from memsweep.analysis.claims.gu2019_evidence import (
    KEYS,
    alike_with_true_labels,
    between_groups,
    first_layers,
    gradients,
    last_layers,
    learning_order,
    less_alike,
    on_training_inputs,
    simple_first,
    with_random_share,
    with_width,
)
from memsweep.analysis.core import frames
from memsweep.analysis.questions import similarity

EXAMPLES = frames.beside("examples", "b.example", "examples")
LABELS = ("data_noise_kind", "data_noise_fraction", "seeds_noise")
"""Columns that identify the labels a network was trained on."""

_claim = partial(Claim, sweeps=("similarity",), rows=similarity.QUERY, shuffled=LABELS, untrained=KEYS)
_EXCHANGE = "networks exchanged within seeds, and jackknife over seeds: both"
_SIGN = "sign test over disjoint pairs of networks"

PAPER = Paper(
    "gu2019",
    "Gu & Tresp 2019, Neural Network Memorization Dissection",
    "Only the abstract could be read: measures are ours, or those of Morcos et al. 2018, without any magnitude.",
    (
        _claim(
            1,
            "Networks trained on true labels predict alike on unseen inputs; trained on random labels they do not.",
            Basis.ABSTRACT,
            f"kappa larger with true labels than with each of several random labellings and with separate ones "
            f"({_EXCHANGE}); without a bound, as the abstract has none",
            measure=partial(less_alike, measure=similarity.KAPPA),
            injected=alike_with_true_labels,
        ),
        _claim(
            2,
            "On training inputs both kinds of networks predict alike, as all fit their labels.",
            Basis.RECONSTRUCTION,
            f"agreement on training examples above 0.95 in each group ({_SIGN}; bound ours, direction Morcos et al.)",
            measure=on_training_inputs,
        ),
        _claim(
            3,
            "Last hidden layers are more alike between networks trained on true labels than on one random labelling.",
            Basis.ABSTRACT,
            f"linear CKA, true labels above each of several random labellings ({_EXCHANGE}); the direction is that of "
            "Morcos et al., who use PWCCA",
            measure=last_layers,
            injected=alike_with_true_labels,
        ),
        _claim(
            4,
            "Networks with random labels are as far from each other as from a network with true labels.",
            Basis.RECONSTRUCTION,
            "|within random - between| below half of (within true - between), for each of several random labellings, "
            f"CKA of the last hidden layer ({_SIGN}, twice each): memorizers are nearer to a learner's distance than "
            "to that of learners from each other (midpoint ours, direction of Morcos et al.)",
            measure=between_groups,
        ),
        _claim(
            5,
            "First hidden layers hardly distinguish the two kinds of networks.",
            Basis.RECONSTRUCTION,
            "there is a gap of CKA, true less random labels, in the last hidden layer, and the first one's is below "
            f"half of it ({_SIGN}; bound ours, direction of Morcos et al.)",
            measure=first_layers,
        ),
        _claim(
            6,
            "The more labels are random, the less alike are networks that share them.",
            Basis.EXTENSION,
            "kappa, and CKA of the last hidden layer, fall along the shares; Page's trend test over disjoint pairs of "
            "networks",
            measure=with_random_share,
        ),
        _claim(
            7,
            "Input gradients are more alike between networks trained on true than on random labels, or not trained.",
            Basis.ABSTRACT,
            "mean cosine of the gradient of the predicted class's logit, where predictions agree, above that with "
            f"each of several and with separate random labellings ({_EXCHANGE}), and above its mean before training "
            f"({_SIGN}); measure ours",
            measure=gradients,
            injected=alike_with_true_labels,
        ),
        _claim(
            8,
            "Networks learn examples in a more similar order with true labels than with one random labelling.",
            Basis.RECONSTRUCTION,
            "Spearman of the first measured steps at which examples are right, true labels above each of several "
            f"random labellings ({_EXCHANGE}); ours",
            rows=EXAMPLES,
            measure=learning_order,
            injected=alike_with_true_labels,
            untrained=(),
        ),
        _claim(
            9,
            "Simple patterns come first: true labels are fitted sooner than random ones, clean before corrupted.",
            Basis.ABSTRACT,
            "ratio of steps to 0.9 training accuracy above 1; mean over measurements of accuracy on clean less "
            "corrupted examples above 0, over all shares of random labels (sign test over seeds; measures ours)",
            rows=frames.CURVES,
            measure=simple_first,
            untrained=(),
        ),
        _claim(
            10,
            "The wider networks with true labels are, the more alike; not so, or less, before training.",
            Basis.EXTENSION,
            f"PWCCA similarity of the last hidden layer's first {similarity.UNITS} units rises along the widths "
            "(Page's trend test over disjoint pairs of networks), and more from the narrowest to the widest than "
            f"before training ({_SIGN}); direction of Morcos et al.",
            measure=with_width,
            shuffled=("model_width",),
        ),
    ),
)
