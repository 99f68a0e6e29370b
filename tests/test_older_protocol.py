"""A folder of protocol 1, some of whose configurations have other numbers since: nothing is lost, the rest is anew."""

import shutil
from pathlib import Path

import pytest

import memsweep
from memsweep.cli.app import app
from memsweep.results.status import older
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.packing import Pack
from memsweep.run.policy import protocols
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.rounds.replay import Replay
from memsweep.run.worker import provenance
from memsweep.run.worker.execution import run_pack
from tests.stored_code import FROZEN, SKIPPING, SWEEP

STORED = Path(__file__).parent / "stored" / "2026-11-28"
OLD_IDS = {
    ("mlp", "digits", 8): "f65d654297bc93ea",
    ("mlp", "digits", 1): "c133caa4c019b3b9",
    (FROZEN, "digits", 8): "59977e2468cd25ac",
    ("mlp", SKIPPING, 8): "e65bf81b59446f87",
}
MENDED = [(FROZEN, "digits", 8), ("mlp", SKIPPING, 8), ("mlp", "digits", 1)]
"""Whose numbers protocol 2 gives otherwise."""


@pytest.fixture
def store(tmp_path):
    return Store(shutil.copytree(STORED, tmp_path / "results"))


@pytest.fixture
def runner(store):
    from typer.testing import CliRunner

    def run(*arguments):
        return CliRunner().invoke(app, [*arguments, "--results", str(store.results)])

    return run


def named(trial):
    return trial.model.family, trial.data.task, trial.model.width


def train_anew(store):
    """What a launch does with the sweep, without Ray."""
    replay = Replay(SWEEP, store)
    write_wanted(SWEEP, replay.trials, store)
    for trial in replay.missing():
        for _ in run_pack(Pack((trial,), slots=1), store):
            pass
    return replay


def test_old_rows_are_read_and_exported_as_before(store):
    trials = memsweep.table("trials", store.results)
    assert set(trials["trial_id"]) == set(OLD_IDS.values()) and set(trials["protocol"]) == {1}
    assert memsweep.sql("select count(*) as n from steps", store.results)["n"].tolist() == [12]


def test_only_what_a_mend_concerns_is_missing(store):
    replay = Replay(SWEEP, store)
    assert {named(trial) for trial in replay.missing()} == set(MENDED)
    for trial in replay.trials:
        assert (trial.trial_id == OLD_IDS[named(trial)]) == (named(trial) not in MENDED)
        assert trial.with_fields({"protocol": 1}).trial_id == OLD_IDS[named(trial)]
    assert protocols.remark(replay.missing(), store).startswith(f"{len(MENDED)} stored trial")


def test_it_is_trained_anew_beside_the_old_rows(store):
    before = memsweep.table("trials", store.results).set_index("trial_id")
    replay = train_anew(store)
    assert not Replay(SWEEP, store).missing() and not plan.work(replay.trials, store).missing
    after = memsweep.table("trials", store.results).set_index("trial_id")
    assert len(after) == len(before) + len(MENDED) and set(after["protocol"]) == {1, 2}
    names = ["train_correct_count", "validation_correct_count", "weights_fingerprint", "protocol", "class_count"]
    assert after.loc[before.index, names].equals(before[names])
    for number, count in ((1, 4), (2, len(MENDED))):
        where = f"select count(*) as n from trials where protocol = {number}"
        assert memsweep.sql(where, store.results)["n"].tolist() == [count]
    assert older(store).startswith(f"{len(MENDED)} stored trial")


def test_verify_says_older_protocol_and_not_different(store, runner):
    for mended in MENDED:
        found = runner("verify", "--own-code", OLD_IDS[mended], "--format", "jsonl")
        assert found.exit_code == 0 and '"older protocol"' in found.stdout, found.output
        assert "0 differ; 1 of an older protocol" in found.stderr
    unmended = runner("verify", "--own-code", OLD_IDS["mlp", "digits", 8], "--format", "jsonl")
    # another make of processor rounds otherwise
    (trained_on,) = set(memsweep.table("packs", store.results)["device_name"])
    is_same = provenance.processor() in (trained_on, f"{trained_on}, AVX2")  # older tables lack the instructions
    assert unmended.exit_code in ((0,) if is_same else (0, 3)) and "0 differ" in unmended.stderr, unmended.output


def test_status_and_plan_say_how_many_are_of_an_older_protocol(store, runner):
    train_anew(store)
    assert f"{len(MENDED)} stored trial" in runner("status").stderr


def test_plan_says_what_it_trains_anew(runner):
    found = runner("plan", "tests/stored_code.py", "--device", "cpu", "--workers", "1", "--compile", "never")
    assert found.exit_code == 0 and "of an older protocol" in found.stderr, found.output
