"""Arpit et al. 2017, A Closer Look at Memorization in Deep Networks (ICML; arXiv 1706.05394).

The paper has no tables, error bars or tests, and values could not be read from its curves: the compared quantities are
the paper's, every threshold is ours unless a claim states otherwise. All tests are on digits and MLPs at our size.
"""

from __future__ import annotations

from memsweep.analysis.claims.arpit2017_critical import (
    denser_as_noise_is_fitted,
    denser_with_noise,
    noise_is_denser,
    rises_then_falls,
    rises_then_stays,
)
from memsweep.analysis.claims.arpit2017_evidence import (
    FITTING,
    REPLICATES,
    RUN_COUNT,
    cross_class,
    dispersion,
    examples_hurt_noise,
    gini,
    noise_costs,
    noise_needs_width,
    of_unequal_examples,
    patterns_first,
    random_labels_take_longer,
    width_helps_noise,
)
from memsweep.analysis.claims.arpit2017_noise import NOISE
from memsweep.analysis.claims.arpit2017_regularizers import CAP, REGULARIZERS, TOLERANCE, dropout_keeps_most, slowed
from memsweep.analysis.claims.claim import Basis, Claim, Paper
from memsweep.analysis.core import frames
from memsweep.analysis.questions import class_sensitivity
from memsweep.analysis.questions.critical_samples import MULTIPLE
from memsweep.analysis.questions.critical_samples import QUERY as CRITICAL_SAMPLES
from memsweep.analysis.questions.learning_order import QUERY as RUNS
from memsweep.analysis.questions.loss_sensitivity import QUERY as LOSS_SENSITIVITY
from memsweep.analysis.questions.noise_capacity import QUERY as FITS

_CRITICAL = f"in {MULTIPLE:g} times the paper's box"
_BY_SEED, _TREND = "sign test over seeds", "Page's trend test over seeds"
_PROBED = ("part", "radius_multiple")

PAPER = Paper(
    "arpit2017",
    "Arpit et al. (2017), A Closer Look at Memorization in Deep Networks",
    "The whole text was read, but figures only through captions and text, so that no curve's value is available; the "
    "paper has no tables, error bars or tests.",
    (
        Claim(
            1,
            "After one epoch, some real examples are nearly always right and others nearly always wrong; with random "
            "labels this is less so, though more than by chance; noise inputs are all equally hard.",
            Basis.CONFIRMED,
            "Dispersion: variance over examples of the share of runs in which an example is right, within classes, "
            "by that of equally hard examples given each run's accuracy in a class. Real above random labels, these "
            "above 1, noise inputs between 0.8 and 1.5 (bounds ours; the paper compares curves with binomial draws). "
            f"Bootstrap over examples, {RUN_COUNT} runs on the same data.",
            ("learning_order",),
            dispersion,
            RUNS,
            replicates=RUN_COUNT,
            injected=of_unequal_examples,
        ),
        Claim(
            2,
            "Loss sensitivity is less equal among real examples than among random inputs.",
            Basis.CONFIRMED,
            "Difference of Gini coefficients of the L1 norms, mean over the second half of training, above 0 (the "
            f"paper's comparison, of curves); {_BY_SEED}.",
            ("loss_sensitivity",),
            lambda rows: gini(rows, "task"),
            LOSS_SENSITIVITY,
            NOISE,
            REPLICATES,
        ),
        Claim(
            3,
            "That holds when every example is its own class, too.",
            Basis.CONFIRMED,
            f"As claim 2, with a class an example; {_BY_SEED}.",
            ("loss_sensitivity",),
            lambda rows: gini(rows, "unique"),
            LOSS_SENSITIVITY,
            NOISE,
            REPLICATES,
        ),
        Claim(
            4,
            "A class's loss depends most on inputs of that class; it depends more on inputs of other classes with real "
            "data than with random inputs.",
            Basis.CONFIRMED,
            "Share of the class-by-class map off its diagonal, real - random inputs, above 0; mean on the diagonal "
            f"above the mean off it in both (statistics ours: the paper shows maps); {_BY_SEED}.",
            ("loss_sensitivity",),
            cross_class,
            class_sensitivity.QUERY,
            NOISE,
            REPLICATES,
        ),
        Claim(
            5,
            "The best validation accuracy needs more units when a part of the training set is noise.",
            Basis.CONFIRMED,
            "Smallest width within half a point of a seed's best validation accuracy (until all is fitted), at the "
            "largest partial fraction of noise above that on clean data, for noise inputs and random labels (statistic "
            f"and half a point ours); {_BY_SEED}.",
            ("noise_capacity",),
            noise_needs_width,
            FITS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            6,
            "Width shortens the fitting of noise more than that of real data.",
            Basis.CONFIRMED,
            "Epochs until all training examples are right, narrowest by widest network, above that ratio on clean "
            f"data, at each partial fraction of noise inputs (statistic ours: the paper shows curves); {_BY_SEED}.",
            ("noise_capacity",),
            width_helps_noise,
            FITS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            7,
            "More examples lengthen the fitting of noise more than that of real data.",
            Basis.CONFIRMED,
            "Epochs until all training examples are right, most by fewest examples, above that ratio on clean data, at "
            f"each partial fraction of noise inputs (statistic ours: the paper shows curves); {_BY_SEED}.",
            ("noise_capacity",),
            examples_hurt_noise,
            FITS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            8,
            "Random labels take longer to fit than true ones.",
            Basis.CONFIRMED,
            "Epochs until all training examples are right, random by true labels, above 1 at every width "
            "(the paper states this of noise in general; its workshop paper's abstract states the opposite of "
            f"noise inputs, which are not tested); {_BY_SEED}.",
            ("noise_capacity",),
            random_labels_take_longer,
            FITS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            9,
            "Networks that fit noise inputs or random labels have more critical samples around validation examples.",
            Basis.CONFIRMED,
            f"Share of critical samples {_CRITICAL} at the end of training, noise - clean, above 0 for both kinds (the "
            f"paper's comparison); {_BY_SEED}.",
            ("critical_samples",),
            noise_is_denser,
            CRITICAL_SAMPLES,
            NOISE,
            REPLICATES,
            untrained=_PROBED,
        ),
        Claim(
            10,
            "Critical samples around validation examples become more, then stay as many, on real data and noise.",
            Basis.CONFIRMED,
            f"Share of critical samples {_CRITICAL}: rank correlation with the step above 0 in the first half of "
            "training, slope in the last quarter below a tenth of that in the first (statistics ours), on clean data, "
            f"noise inputs and random labels; {_BY_SEED}.",
            ("critical_samples",),
            rises_then_stays,
            CRITICAL_SAMPLES,
            replicates=REPLICATES,
            untrained=_PROBED,
        ),
        Claim(
            11,
            "Critical samples around training examples become more, then fewer.",
            Basis.CONFIRMED,
            f"Share of critical samples {_CRITICAL}: its peak lies above the first share and the last by more than 2 "
            "binomial standard errors of the difference (threshold ours), on clean data, noise inputs and random "
            f"labels; {_BY_SEED}.",
            ("critical_samples",),
            rises_then_falls,
            CRITICAL_SAMPLES,
            replicates=REPLICATES,
            untrained=_PROBED,
        ),
        Claim(
            12,
            "The more of the training set is noise, the more critical samples are around validation examples.",
            Basis.CONFIRMED,
            f"Share of critical samples {_CRITICAL} at the end rises along the fractions 0.2, 0.4, 0.6, 0.8, for noise "
            f"inputs and random labels (the paper's comparison, without a bound of ours); {_TREND}.",
            ("critical_samples",),
            denser_with_noise,
            CRITICAL_SAMPLES,
            NOISE,
            REPLICATES,
            untrained=_PROBED,
        ),
        Claim(
            13,
            "The more of the training set is noise, the lower is validation accuracy, at its peak and at the end.",
            Basis.CONFIRMED,
            "Validation accuracy falls along the fractions 0.2, 0.4, 0.6, 0.8, at the peak and at the end, for noise "
            f"inputs and random labels (the paper's comparison, without a bound of ours); {_TREND}.",
            ("learning_curves",),
            noise_costs,
            frames.STEPS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            14,
            "With random labels, validation accuracy peaks before the training set is fitted, and then falls, the more "
            "the more labels are random; at the peak true labels are fitted better than wrong ones.",
            Basis.CONFIRMED,
            "At each fraction from 0.2 to 0.8: best validation accuracy before training accuracy is 0.9; accuracy "
            "lost from there to the end above what the clean run loses (a peak is a maximum, so something is always "
            "lost); accuracy at the peak on true above that on wrong labels (ours). A set that is never fitted "
            f"counts as fitted at the end; {_BY_SEED}. What is lost rises along the fractions; {_TREND}.",
            ("learning_curves",),
            patterns_first,
            frames.STEPS,
            NOISE,
            REPLICATES,
        ),
        Claim(
            15,
            "Critical samples become more while random labels are fitted.",
            Basis.CONFIRMED,
            f"Share of critical validation samples {_CRITICAL}, at the first epoch with training accuracy 0.9 minus at "
            "that of best validation accuracy (interpolated between the epochs at which they are sought), above 0 and "
            f"above the clean run's rise over these epochs, at each fraction from 0.2 to 0.8 (statistic ours); "
            f"{_BY_SEED}.",
            ("critical_samples",),
            denser_as_noise_is_fitted,
            FITTING,
            ("critical_count",),  # settings alone don't distinguish early from late
            REPLICATES,
        ),
        Claim(
            16,
            "Dropout prevents memorization at the least cost among single regularizers; with adversarial training it "
            "does no worse.",
            Basis.CONFIRMED,
            "Share of its best clean validation accuracy that a regularizer keeps at strengths at which at most "
            f"{CAP:.0%} of random labels are fitted: dropout above each other single one, dropout with adversarial "
            f"training above dropout less {TOLERANCE:g} (cap and tolerance ours); {_BY_SEED}.",
            ("regularization", "adversarial_training"),
            dropout_keeps_most,
            frames.TRIALS,
            REGULARIZERS,
            REPLICATES,
        ),
        Claim(
            17,
            "Regularizers slow memorization more than learning, and order differently on random labels by their "
            "training loss.",
            Basis.CONFIRMED,
            "Epochs until training accuracy is 0.9, by those without regularizer: on random labels above that on true "
            "ones, mean over regularizers of the logarithm, each at the strength of best mean validation accuracy. "
            "Kendall's tau of a seed's order of settings by final training loss on true labels with the other seeds' "
            f"mean order: on true above on random labels (statistics ours); {_BY_SEED}.",
            ("regularization",),
            slowed,
            frames.STEPS,
            ("data_noise_fraction",),
            REPLICATES,
        ),
    ),
)
