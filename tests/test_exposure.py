"""Exposure of strings with repeats: the probe against plain torch, its figures, and the claims of Carlini et al."""

import numpy as np
import pandas as pd
import pytest
import torch

from memsweep.analysis.claims.carlini2019 import PAPER
from memsweep.analysis.claims.verdicts import Verdict
from memsweep.analysis.core import figures
from memsweep.analysis.questions import exposure as question
from memsweep.engine.probes import exposure
from memsweep.engine.train import trainer
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack
from memsweep.run.worker.execution import run_pack
from tests.cases import trial
from tests.claims import judged, seeds_of, sides
from tests.test_analysis import drawn, only

STRINGS = {"data__examples": 60, "data__validation_examples": 40, "data__sequence_length": 6}
PROBED = {"probes": ("exposure",), "probe_steps": (0,)}


def test_losses_and_ranks_are_those_of_plain_torch():
    """Of members with different canaries, each beside its own unseen strings, of different numbers."""
    repeats, unseen_counts = ((4, 1), (1, 2, 9)), (25, 40)
    trials = [
        trial(
            "transformer, strings", **STRINGS | {"seed": m, "data__repeats": each, "data__validation_examples": count}
        )
        for m, (each, count) in enumerate(zip(repeats, unseen_counts, strict=True))
    ]
    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    state, _ = trainer.advance(program, state, trainer.steps_to_measurement(state))
    measured = exposure.measure(program, state)
    assert measured.candidates.tolist() == [*unseen_counts]
    for m, member in enumerate(state.members):
        numbers = {name: value[m] for name, value in {**state.parameters, **state.buffers}.items()}

        def losses(inputs, targets, numbers=numbers):
            answers = torch.func.functional_call(program.evaluated, numbers, (torch.tensor(inputs),))
            of_tokens = torch.nn.functional.cross_entropy(answers.mT, torch.tensor(targets), reduction="none")
            return of_tokens.sum(1).detach()

        data, count = member.data, len(repeats[m])
        canaries = losses(data.inputs[:count], data.targets[:count])
        unseen = losses(data.held_out_inputs[: unseen_counts[m]], data.held_out_targets[: unseen_counts[m]])
        assert torch.allclose(measured.loss[m, :count], canaries, atol=1e-4)
        for i in range(count):
            apart = (unseen - canaries[i]).abs().min() > 1e-3
            assert not apart or measured.likelier[m, i] == int((unseen <= canaries[i]).sum())


def test_a_pack_stores_exposures_before_training_and_at_the_end(tmp_path):
    store = Store(tmp_path, create=True)
    repeats = (30, 1, 1)
    probed = trial("transformer, strings", seed=0, data__repeats=repeats, optimizer__epochs=40, **PROBED, **STRINGS)
    for _ in run_pack(Pack((probed,), 1), store):
        pass
    rows = pd.DataFrame(store.current("exposure").to_pylist())
    assert len(rows) == 6 and sorted(set(rows["step"])) == [0, probed.budget]
    assert rows["candidate_count"].eq(40).all() and rows["repeat_count"].tolist() == [*repeats, *repeats]
    last = rows[rows["step"] == probed.budget].set_index("example")
    assert last.loc[0, "likelier_count"] == 0 and last["loss_nats"].idxmin() == 0


@pytest.mark.parametrize(
    "fields",
    [{"data__repeats": ()}, {"data__repeats": (2,), "data__validation_examples": 0}],
)
def test_exposure_needs_repeats_and_unseen_strings(fields):
    with pytest.raises(ValueError, match="exposure ranks strings"):
        trial("transformer, strings", **{**STRINGS, **PROBED, **fields})


# Figures and claims.

SEEDS = range(seeds_of("exposure"))
CANDIDATES = 1023


def ranked(bits, before=1.4):
    """What is stored of canaries; bits: (repeats, width, length) -> mean exposure at the end."""
    rng, rows = np.random.default_rng(0), []
    for width in (8, 16, 32):
        for length in (4, 8, 16):
            for seed in SEEDS:
                about = {
                    **{"trial_id": f"{width}-{length}-{seed}", "setting_id": f"{width}-{length}", "seed": seed},
                    **{"status": "finished", "model_width": width, "data_sequence_length": length, "sweep": "exposure"},
                }
                for step in (0, 1000):
                    for example, repeats in enumerate((1, 1, 2, 2, 4, 4)):
                        mean = bits(repeats, width, length) if step else before
                        exposed = np.clip(mean + 0.3 * rng.normal(), 0, 10)
                        rows.append(
                            {
                                **{**about, "step": step, "example": example, "repeat_count": repeats},
                                **{"likelier_count": 2 ** (10 - exposed) - 1, "candidate_count": CANDIDATES},
                                "loss_nats": 1.0,
                            }
                        )
    return pd.DataFrame(rows)


def as_published(repeats, width, length):
    return 2.5 + np.log2(repeats) + 0.5 * np.log2(width / 8) + 0.5 * np.log2(length / 4)


def upside_down(repeats, width, length):
    return max(0.3, 6.5 - as_published(repeats, width, length))


TABLES = {
    **{number: sides(lambda: ranked(as_published), lambda: ranked(upside_down)) for number in (1, 2, 3)},
    4: sides(lambda: ranked(as_published), lambda: ranked(lambda *_: 0.8)),
}
"""Number of a finding -> function of a side, as `tests.test_verdicts` reads it."""


@pytest.mark.parametrize("number", TABLES)
def test_networks_before_training_reproduce_nothing(number):
    row = judged(PAPER, number, ranked(as_published))
    assert row["verdict"] == Verdict.REPRODUCED and row["p_untrained"] > 0.05


def test_exposure_is_by_rank_and_a_mean_over_strings_then_seeds():
    rows = ranked(as_published)
    first = rows[(rows["trial_id"] == "8-4-0") & (rows["step"] == 1000)].assign(
        likelier_count=[0, 1023, 0, 0, 511, 511]
    )
    scored = question.exposures(first).set_index("repeat_count")
    assert scored.loc[1, "exposure"] == pytest.approx((10 + 0) / 2) and scored.loc[2, "exposure"] == 10
    assert scored.loc[4, "exposure"] == pytest.approx(1)
    summary = question.summarize(rows)
    row = only(summary, model_width=16, data_sequence_length=8, repeat_count=4)
    assert row["estimate"] == pytest.approx(as_published(4, 16, 8), abs=0.2) and row["seeds"] == len(SEEDS)


def test_figures_are_drawn_of_whole_and_of_missing_sweeps():
    rows = ranked(as_published)
    lost = rows.assign(
        status="missing", step=np.nan, repeat_count=np.nan, likelier_count=np.nan, candidate_count=np.nan
    )
    for shown in (rows, lost.drop_duplicates("trial_id"), rows[:6]):
        summary = question.summarize(shown)
        for figure in question.FIGURES:
            with figures.canvas() as ax:
                ax = figure.draw(summary, ax)
                assert ax.containers or ax.texts
    names = {trace["name"] for trace in drawn(question.FIGURES[0].draw, question.summarize(rows))["data"]}
    assert {"8", "32", "chance"} <= names
