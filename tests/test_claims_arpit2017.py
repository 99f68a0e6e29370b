"""Arpit et al. 2017: each claim's verdict on made-up trials that follow it, that go against it, and by chance."""

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.claims import arpit2017, arpit2017_regularizers, controls
from memsweep.analysis.claims.claim import MissingTrialsError
from memsweep.analysis.questions.critical_samples import MULTIPLE
from tests.claims import seeds_of

SEEDS = {
    name: seeds_of(name) for name in ("loss_sensitivity", "noise_capacity", "critical_samples", "learning_curves")
} | {"regularizers": seeds_of("regularization", "adversarial_training")}
CLAIMS = {claim.number: claim for claim in arpit2017.PAPER.claims}
FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)
NOISE = [("none", 0.0), *((kind, fraction) for kind in ("gaussian_inputs", "labels") for fraction in FRACTIONS)]


def trials(settings, make, seeds):
    """Rows that `make(generator, **setting)` gives of each setting and seed."""
    generator, rows = np.random.default_rng(0), []
    for seed in range(seeds):
        for number, setting in enumerate(settings):
            named = {"trial_id": f"{number}-{seed}", "sweep": "s", "seed": seed, "status": "finished", **setting}
            rows += [{**named, **row} for row in make(generator, **setting)]
    return pd.DataFrame(rows)


def noises(pairs=tuple(NOISE), **more):
    return [{"data_noise_kind": kind, "data_noise_fraction": fraction, **more} for kind, fraction in pairs]


def runs(sign):
    """What the query RUNS gives: examples as hard as each other (0), or of two kinds."""

    def make(generator, data_noise_kind, data_noise_fraction):
        spread = {"none": 0.4, "labels": 0.15, "gaussian_inputs": 0.0}[data_noise_kind]
        spread = spread if sign > 0 else 0.4 - spread if sign < 0 else 0.0
        for example in range(1000):  # as in the sweep
            share = 0.5 + spread * (1 if example % 2 else -1)
            count = generator.binomial(100, share)
            yield {"given_label": example // 100, "run_count": 100, "right_count": count, "variance": 25.0}

    return trials(noises((("none", 0.0), ("gaussian_inputs", 1.0), ("labels", 1.0))), make, seeds=1)


def gini(sign):
    def make(generator, data_noise_kind, data_noise_fraction, data_label_scheme):
        level = 0.4 + 0.1 * sign * (data_noise_kind == "none")
        return [{"step": step, "gini_l1": level + 0.01 * generator.normal()} for step in (100, 600, 800)]

    pairs = (("none", 0.0), ("gaussian_inputs", 1.0))
    settings = [s for scheme in ("task", "unique") for s in noises(pairs, data_label_scheme=scheme)]
    return trials(settings, make, SEEDS["loss_sensitivity"])


def classes(sign):
    def make(generator, data_noise_kind, data_noise_fraction):
        other = 0.3 + 0.1 * sign * (data_noise_kind == "none") + 0.01 * generator.normal()
        for i in range(3):
            for j in range(3):
                yield {"output_class": i, "input_class": j, "gradient_l1": 1.0 if i == j else other}

    return trials(noises((("none", 0.0), ("gaussian_inputs", 1.0))), make, SEEDS["loss_sensitivity"])


def fits(sign):
    """Noise costs more width and time where sign is positive, less where it is negative."""

    def make(generator, data_noise_kind, data_noise_fraction, model_width, data_examples):
        noise = sign * data_noise_fraction
        narrow, large = 6 - np.log2(model_width) / 2, np.log2(data_examples / 250)
        epochs = 2 ** (2 + noise + (0.5 + noise / 4) * (narrow + large) + 0.02 * generator.normal())
        needed = 64 * 4**noise
        best = 0.9 - 0.05 * max(0, np.log2(needed / model_width)) - 0.001 * np.log2(model_width)
        steps = round(epochs * data_examples / 10)
        yield {
            **{"optimizer_batch_size": 10, "step_count": steps, "fitted_step": steps},
            **{"best_count": 1000 * best + 0.1 * generator.normal(), "best_of": 1000},
        }

    places = [(width, 1000) for width in (16, 32, 64, 128, 256)] + [(64, 250), (64, 4000)]
    pairs = [pair for pair in NOISE if pair[1] in (0, 0.4, 0.8, 1)]
    settings = [s for w, n in places for s in noises(pairs, model_width=w, data_examples=n)]
    return trials(settings, make, SEEDS["noise_capacity"])


def critical(sign):
    """Rises and then stays, or falls; the more noise the higher, or the lower; of training examples with a peak."""

    def make(generator, data_noise_kind, data_noise_fraction):
        level = 0.4 + 0.3 * sign * data_noise_fraction
        for step in (0, 10, 40, 100, 200, 400, 600, 800, 1000):
            grown = min(step / 150, 1) if sign >= 0 else 1 - step / 1500
            fallen = grown if sign <= 0 else min(step / 150, 1) - step / 2000
            for part, share in (("validation", level * grown), ("train", level * fallen)):
                count = 2000 * share + (generator.normal() if step < 150 or sign <= 0 else 0)
                row = {"step": step, "radius_multiple": MULTIPLE, "part": part, "example_count": 2000}
                yield {**row, "critical_count": np.clip(round(count), 0, 2000)}

    return trials(noises(), make, SEEDS["critical_samples"])


def curves(sign):
    """Validation peaks at epoch 5 and falls as wrong labels are fitted; against it, it rises to the end."""

    def make(generator, data_noise_kind, data_noise_fraction):
        noise = data_noise_fraction
        for epoch in range(1, 41):
            fitted = 1 - noise * np.exp(-epoch / 8) if noise else 1 - np.exp(-epoch)
            late = max(0, epoch - 5) / 35
            fall = -0.2 * noise * late * sign if noise else 0.0
            level = 0.9 - 0.4 * noise * sign - (1 - min(epoch / 5, 1)) * 0.3
            wrong, clean = (0.1 + 0.9 * late, 0.9) if sign >= 0 else (0.9, 0.1 + 0.9 * late)
            counts = {
                "validation": level + fall + 0.0005 * generator.normal(),
                "train": fitted if sign >= 0 or not noise else 0.95,
            }
            yield {
                **{"step": 10 * epoch, "epoch": float(epoch), "train_loss_sum_nats": 1000 * np.exp(-epoch / 10)},
                **{f"{part}_correct_count": 1000 * share for part, share in counts.items()},
                **{"validation_count": 1000, "train_count": 1000, "clean_count": 100, "label_changed_count": 100},
                **{"clean_correct_count": 100 * clean, "memorized_count": 100 * wrong},
                **{
                    "critical_count": 500 + 4 * abs(sign) * noise * epoch + 0.1 * generator.normal(),
                    "example_count": 1000,
                },
            }

    return trials(noises(), make, SEEDS["learning_curves"])


REGULARIZERS = ("regularization_dropout", "regularization_weight_decay", "regularization_adversarial")
UNUSED = dict.fromkeys(set(arpit2017_regularizers.REGULARIZERS) - set(REGULARIZERS), 0.0)


def regularizers(sign):
    """Dropout keeps accuracy as it caps memorization, weight decay doesn't; or the other way round."""
    settings = [(0.0, 0.0, 0.0)]
    settings += [(s, 0.0, 0.0) for s in (0.2, 0.5, 0.8)] + [(0.0, s, 0.0) for s in (0.01, 0.1, 1.0)]
    settings += [(s, 0.0, s) for s in (0.2, 0.5, 0.8)]

    def make(generator, data_noise_fraction, **setting):
        dropout, decay, adversarial = setting.values()
        strength = dropout + (1 + np.log10(decay) / 2.5 if decay else 0)
        costly = (decay > 0) if sign > 0 else dropout > 0 if sign < 0 else True
        clean = 0.95 - 0.3 * strength * costly - 0.1 * (sign < 0) * adversarial + 0.002 * generator.normal()
        random, slow = data_noise_fraction == 1, strength * (sign if data_noise_fraction == 1 else -sign)
        time = 20 * 2.0**slow
        order = strength if not random or sign <= 0 else -strength
        for epoch in range(1, 81):
            final = epoch == 80
            share = min(0.95, 0.9 * epoch / time) if not (random and final) else 1 - strength
            yield {
                **{"step": epoch, "epoch": float(epoch), "train_count": 1000, "validation_count": 1000},
                **{"train_correct_count": 1000 * share, "validation_correct_count": 1000 * clean},
                "train_loss_sum_nats": 100 * (2 + order + 0.01 * generator.normal()),
            }

    named = [dict(zip(REGULARIZERS, setting, strict=True)) for setting in settings]
    settings = [{"data_noise_fraction": f, **setting} for f in (0.0, 1.0) for setting in named]
    return trials(settings, make, SEEDS["regularizers"]).assign(**UNUSED)


def last(rows):
    return rows.groupby("trial_id").tail(1)


FRAMES = {
    **{1: runs, 2: gini, 3: gini, 4: classes, **dict.fromkeys((5, 6, 7, 8), fits)},
    **{**dict.fromkeys((9, 10, 11, 12), critical), **dict.fromkeys((13, 14, 15), curves)},
    **{16: lambda sign: last(regularizers(sign)), 17: regularizers},
}


def table(number):
    """A function of a side: rows that bear a claim out (True) or speak against it; None: see `mixed`."""
    if number == 1:
        return lambda side: runs({True: 1, False: -1, None: 0}[side])
    return lambda side: None if side is None else FRAMES[number](1 if side else -1)


TABLES = {number: table(number) for number in FRAMES}


@pytest.mark.parametrize("number", [2, 4, 6, 9, 12, 16])
def test_chance_alone_seldom_reproduces_a_claim(number):
    shuffles = 20
    rate = controls.reproduced_by_chance(CLAIMS[number], FRAMES[number](1), np.random.default_rng(1), shuffles)
    assert rate <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / shuffles)


@pytest.mark.parametrize("number", FRAMES)
def test_a_claim_without_its_trials_says_so(number):
    rows = FRAMES[number](1)
    rows = rows[rows["data_noise_fraction"] == 0]
    with pytest.raises(MissingTrialsError):
        CLAIMS[number].measure(rows)
