"""Claims on what networks can hold, after Cover, Zhang et al., Collins et al. and Morris et al.

Bits of labels are Collins' I (`bits` of `memsweep.analysis.questions.capacity`), bits of strings Morris' code length
(`code_length` of `sequence_capacity`); both are lower bounds of a network's capacity, from a limited number of
trainings.
Thresholds without a named source are ours.
"""

from __future__ import annotations

from memsweep.analysis.claims.background_evidence import (
    CELLS,
    GATED,
    LIKE_BUDGETS,
    RECONSTRUCTION_MARGIN,
    UNGATED,
    bits_of_cells,
    gates_hold,
    gating_order,
    linear_in_parameters,
    numbers_come_back,
    solves_longer,
    transformer_plateau,
    unrolling,
    within_budget,
)
from memsweep.analysis.claims.claim import Basis, Claim, Paper, without_sweep
from memsweep.analysis.claims.feedforward_evidence import (
    COVER_MARGIN,
    DRAWS,
    GUESSING_MARGIN,
    LABELLINGS,
    LARGEST_ERROR,
    constructed,
    corruption_curve,
    cover_transition,
    random_fitted,
)
from memsweep.analysis.core import frames
from memsweep.analysis.questions import random_labels, reconstruction, trainability

_RANDOM = ("random_labels",)
_BITS = ("sequence_capacity",)
_BEST = "a seed's largest I over set sizes, which offer every cell 1 to 6.5 labels a parameter, in 6,000 steps"

PAPER = Paper(
    "background",
    "What networks can hold: Cover 1965, Zhang 2017, Collins 2017, Arora 2023, Morris 2025",
    "Zhang et al., Morris et al. and the main text of Collins et al. were read; of Cover only the abstract, of Arora "
    "et al. the abstract and the official generator.",
    (
        Claim(
            1,
            "A network of one hidden ReLU layer with 2n + d weights represents any labels of any n distinct points.",
            Basis.CONFIRMED,
            f"Theorem 1 of Zhang et al.: the network is built, not trained, on {DRAWS} draws of Gaussian points (d = "
            "1, 20, 100; n = 100, 500, 2000) with normal labels; weights counted in each, and the median over "
            f"draws of the largest error below {LARGEST_ERROR:g} in float64 (our bound of what rounding leaves).",
            (),
            constructed,
            is_check=True,
        ),
        Claim(
            2,
            "Half of all labellings of N = 2d points are linearly separable, and the transition sharpens with d.",
            Basis.ABSTRACT,
            f"Share of {LABELLINGS} random labellings of Gaussian points that a linear program separates within "
            f"{COVER_MARGIN:g} (ours) of Cover's C(N, d) / 2^N at each size, and a larger fall of it from 1.8 to 2.2 "
            "points a weight for 50 weights than for 10, bias included in d. (Training falls short of separable "
            "labellings.)",
            (),
            cover_transition,
            is_check=True,
        ),
        Claim(
            3,
            "A large network fits random labels with the settings that fit true ones, somewhat later; Gaussian inputs "
            "are fitted sooner than random labels.",
            Basis.CONFIRMED,
            "Training error 0 on all three, epochs to fit random labels over those of true ones between 1 and 10 (10 "
            "is ours; 'a small constant factor' there), fewer epochs for Gaussian inputs; sign test over seeds.",
            _RANDOM,
            random_fitted,
            shuffled=(random_labels.KIND, random_labels.FRACTION),
        ),
        Claim(
            4,
            "Test error rises with the share of random labels up to guessing, while training error stays 0.",
            Basis.CONFIRMED,
            "Smallest rise of test error between neighbouring shares above 0, test error at share 1 within "
            f"{GUESSING_MARGIN:g} (ours) of 1 - 1/K, training error 0 throughout; sign test over seeds.",
            _RANDOM,
            corruption_curve,
            shuffled=(random_labels.FRACTION,),
        ),
        Claim(
            5,
            "The bits that a recurrent cell holds grow linearly with its parameters.",
            Basis.CONFIRMED,
            f"Slope of log bits ({_BEST}) in log parameters within 1 +- 0.1 (our margin) for each of "
            f"{', '.join(CELLS)}, over the widths of the sweep: under one decade of parameters, where Collins et al. "
            "have several; sign test over seeds.",
            _BITS,
            linear_in_parameters,
            shuffled=("model_width", "data_examples", "parameter_count"),
        ),
        Claim(
            6,
            "Cells with tanh hold 2 to 6 bits a parameter; a ReLU cell holds 0.6 to 0.9 of what the tanh RNN does.",
            Basis.CONFIRMED,
            f"{_BEST} over widths too, a parameter, for each of {', '.join(CELLS)}, and the ratio of irnn to rnn; sign "
            "test over seeds. Collins et al. have 3 to 6 after thousands of tuned runs; 2 as the lower bound is ours.",
            _BITS,
            bits_of_cells,
        ),
        Claim(
            7,
            "More gates hold slightly less: bits a parameter of rnn above gru above lstm, by less than 30 %.",
            Basis.CONFIRMED,
            f"{_BEST} a parameter, averaged over widths; differences of cells by seed, and 0.3 (ours) as the most that "
            "lstm may fall short of rnn; sign test over seeds.",
            _BITS,
            gating_order,
            shuffled=("model_cell", "data_examples"),
        ),
        Claim(
            8,
            "Bits a parameter rise over the first few unrolled steps and then saturate.",
            Basis.CONFIRMED,
            f"{_BEST} a parameter, averaged (as logs) over cells and widths that have all three lengths: more at 5 "
            "steps than at 1, and less than 10 % (ours) of change from 5 to 10; sign test over seeds.",
            _BITS,
            unrolling,
            shuffled=("data_sequence_length", "data_examples"),
        ),
        Claim(
            9,
            "A cell holds about one real number a unit: a vector comes back if and only if there are as many units.",
            Basis.CONFIRMED,
            f"Squared error of a number of variance 1 below {reconstruction.SOLVED:g} from n_h = n_in on, by each of "
            f"{', '.join(CELLS)}; with fewer within {RECONSTRUCTION_MARGIN:g} of 1 - n_h / n_in, and cells as near to "
            "each other, at every size; sign test over seeds. 16 numbers, 64 in Collins et al.; bounds ours.",
            ("reconstruction",),
            numbers_come_back,
            shuffled=("model_width", "parameter_count"),
        ),
        Claim(
            10,
            "A transformer holds all of a set of random strings up to a plateau of 3 to 4 bits a parameter.",
            Basis.CONFIRMED,
            "A seed's bits after 6,000 steps within 10 % of min(bits of the set, its largest bits), at every set "
            "size, and its largest bits a parameter, averaged over widths, within [3, 4]; sign test over seeds. That "
            "the plateau hardly depends on precision, length and vocabulary is not tested: there is no bfloat16 here.",
            _BITS,
            transformer_plateau,
        ),
        Claim(
            11,
            "A perceptron holds fewer bits a parameter than a transformer, and that fewer than a recurrent cell.",
            Basis.EXTENSION,
            "2 bits (Cover) below 3.5 to 3.8 (Morris et al.) below about 5 (Collins et al.), each by Collins' I.",
            (),
            without_sweep(
                "no sweep of so small a budget compares capacities: in a pilot a transformer of 8 units labelled 600 "
                "random inputs hardly better than guessing after 3,000 steps"
            ),
        ),
        Claim(
            12,
            "The width that recalls D pairs grows with D for cells with a state of fixed size, not for attention.",
            Basis.ABSTRACT,
            "Smallest width with 99 % of queries right: log-log slope in D above 0.5, and within one step of the grid.",
            (),
            without_sweep(
                "sweep recall has one to three pairs, of which one needs no key: too few for a slope; "
                "sweeps/paper/recall.py has 4 to 64"
            ),
        ),
        Claim(
            13,
            "Of random settings more diverge with RNNs without gates than with gates.",
            Basis.CONFIRMED,
            "Share of a seed's learning rates, drawn log-uniformly from five decades, with which training ends in "
            f"weights that are no numbers or above {trainability.WORSE:g} times the loss of guessing (ours; Collins et "
            f"al. state no threshold), mean of {' and '.join(UNGATED)} less mean of {' and '.join(GATED)}; sign test "
            "over seeds.",
            ("trainability",),
            gates_hold,
            statuses=frames.SETTLED,
            shuffled=("model_cell",),
        ),
        Claim(
            14,
            "Gated cells copy and add over longer sequences than a tanh RNN with as many parameters.",
            Basis.RECONSTRUCTION,
            "Share of tasks (copying, adding), lengths and sizes that a seed solves within the budget, lstm less rnn "
            "and gru less rnn, each above 0 (ours), where parameters are within a factor of "
            f"{LIKE_BUDGETS:g}: sign test over seeds. A tie speaks for neither. One learning rate a task, lengths far "
            "below the literature's.",
            ("sequence_length",),
            solves_longer,
            shuffled=("model_cell", "model_width", "parameter_count"),
        ),
        Claim(
            15,
            "No network holds more bits than its weights have.",
            Basis.EXTENSION,
            "Bits of random labels, of wrong labels of noise, or of random strings, over 32 bits a float32 parameter: "
            "never above 1. A trial above it is an error of the bookkeeping, not a verdict.",
            ("capacity", "sequence_capacity", "learning_curves", "generalization"),
            within_budget,
            is_check=True,
        ),
    ),
)
