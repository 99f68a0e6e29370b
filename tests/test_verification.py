"""Stored trials are run again, alone and in plain torch; what differs or is missing is told."""

import json
import os

import pytest
import torch

from memsweep.check import verification
from memsweep.check.inspection import incomplete
from memsweep.check.verification import EXACT, error_of, verify
from memsweep.cli.app import app
from memsweep.engine.train import comparison, optim
from memsweep.results.storage.store import Store, StoreError
from memsweep.run.packing import Pack
from memsweep.run.worker import measurement
from memsweep.run.worker.execution import run_pack
from tests.cases import trial

TRIALS = [trial("decay", seed=seed, probes=("examples",)) for seed in range(4)] + [trial("dropout", seed=0)]


def wanted(t, position=0):
    return {
        "sweep": "small",
        "trial_id": t.trial_id,
        "setting_id": t.setting_id,
        "position": position,
        "seed": t.seed,
        "probes": ",".join(t.probes),
        "configuration": json.dumps(t.flat()),
    }


@pytest.fixture
def store(tmp_path):
    """One with all trials, each from a pack."""
    store = Store(tmp_path, create=True)
    store.write("wanted", [wanted(t, i) for i, t in enumerate(TRIALS)])
    for _ in run_pack(Pack(tuple(TRIALS), slots=5), store):
        pass
    return store


def rewritten(store, table, change):
    """The same tables with other rows in one of them."""
    rows = [change(row) for row in store.read(table).to_pylist()]
    for part in store.parts(table):
        part.unlink()
    store.write(table, [row for row in rows if row is not None])


def test_an_honest_store_is_exact(store):
    assert incomplete(store) == []
    verdicts = list(verify(store, sample=10))
    assert [v.trial_id for v in verdicts] == [t.trial_id for t in TRIALS]
    assert {(v.weights, v.measurements, v.worst, v.compiled, v.holds) for v in verdicts} == {
        (EXACT, EXACT, "", False, True)
    }
    assert {v.plain_weights for v in verdicts[:4]} == {EXACT}  # SGD on a small MLP


def test_a_changed_number_is_found(store):
    first = TRIALS[0].trial_id

    def change(row):
        wrong = row["trial_id"] == first and row["step"] == 9
        return {**row, "train_loss_sum_nats": row["train_loss_sum_nats"] * 1.01} if wrong else row

    rewritten(store, "steps", change)
    (verdict,) = verify(store, [first])
    assert not verdict.holds and verdict.worst == "train_loss_sum_nats"
    assert float(verdict.measurements) == pytest.approx(0.01, rel=0.1)
    (other,) = verify(store, [TRIALS[1].trial_id])
    assert other.holds


def test_other_weights_are_found(store):
    rewritten(store, "trials", lambda row: {**row, "weights_fingerprint": "0" * 16})
    (verdict,) = verify(store, sample=1)
    assert verdict.weights == "differ" and verdict.measurements == EXACT and not verdict.holds


def test_old_tables_have_no_fingerprint(store):
    rewritten(store, "trials", lambda row: {**row, "weights_fingerprint": None})
    (verdict,) = verify(store, sample=1)
    assert verdict.weights == "not stored" and verdict.holds


def test_wrong_training_is_found(store, monkeypatch):
    """A reference that trains at another rate: the comparison with plain torch is no formality."""
    right = verification.plain.train
    other = lambda t, *rest: right(t.with_fields({"optimizer.learning_rate": 0.11}), *rest)  # noqa: E731
    monkeypatch.setattr(verification.plain, "train", other)
    (verdict,) = verify(store, sample=1)
    assert float(verdict.plain_weights) > 1e-4


def test_what_is_missing_is_told(store):
    late, short, bare = trial("sgd", seed=9), TRIALS[0].trial_id, TRIALS[1].trial_id
    store.write("wanted", [wanted(late, 9)])
    rewritten(store, "steps", lambda row: None if (row["trial_id"], row["step"]) == (short, 5) else row)
    rewritten(store, "examples", lambda row: None if (row["trial_id"], row["example"]) == (bare, 3) else row)
    assert set(incomplete(store)) == {
        f"{short} of small: 3 rows in steps, not 4",
        f"{bare} of small: 89 rows in examples, not 90",
        f"{late.trial_id} of small: missing",
    }


def test_trials_of_a_gpu_are_not_run_again_on_a_cpu(store, monkeypatch):
    rewritten(store, "packs", lambda row: {**row, "device": "cuda"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StoreError, match="trained on a GPU, but torch can use no GPU here"):
        list(verify(store, sample=1))


def test_strangers_are_refused(store):
    with pytest.raises(StoreError, match="nobody: not among the 5 finished trials"):
        list(verify(store, ["nobody"]))


def test_the_command_says_what_it_found(store, runner_result):
    code, out, err = runner_result("verify", "--results", str(store.results), "--format", "jsonl")
    assert code == 0 and len(out.splitlines()) == 3
    assert "3 trials run again: 3 exact, 0 differ; 0 trials incomplete" in err


def changed(store, table, factor):
    """The first measured losses of a trial are others."""
    first = TRIALS[0].trial_id
    rewritten(
        store,
        table,
        lambda row: (
            {**row, "train_loss_sum_nats": row["train_loss_sum_nats"] * factor} if row["trial_id"] == first else row
        ),
    )


def test_rounding_and_another_training_have_exit_codes_of_their_own(store, runner_result):
    words = ("verify", TRIALS[0].trial_id, "--results", str(store.results), "--format", "jsonl")
    changed(store, "steps", 1 + 1e-6)
    code, out, err = runner_result(*words)
    assert code == 3 and '"rounding"' in out and "0 exact, 1 by rounding, 0 differ" in err
    changed(store, "steps", 1.01)
    code, out, err = runner_result(*words)
    assert code == 1 and '"different"' in out and '"train_loss_sum_nats"' in out and "0 exact, 1 differ" in err


def test_weights_that_alone_differ_are_named(store, runner_result):
    rewritten(store, "trials", lambda row: {**row, "weights_fingerprint": "0" * 16})
    code, out, err = runner_result("verify", "--results", str(store.results), "--sample", "1", "--format", "jsonl")
    assert code == 3 and json.loads(out)["worst"] == "weights_fingerprint" and "1 by rounding, 0 differ" in err


def test_data_that_is_not_what_was_trained_on_is_named(store, runner_result):
    """As of a task that ignores rng, or a file that has changed."""
    rewritten(store, "trials", lambda row: {**row, "data_fingerprint": "0" * 16})
    (verdict,) = verify(store, sample=1)
    assert (verdict.outcome, verdict.worst) == ("different", "data_fingerprint")
    code, _, err = runner_result("verify", "--results", str(store.results), "--sample", "1")
    assert code == 1 and "data_fingerprint is " in err and "but 0000000000000000 is stored" in err


class Shared(torch.nn.Module):
    """Two names for one sub-module, tied weights, and a buffer of truth values."""

    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.enter = torch.nn.Linear(input_dim, input_dim)
        self.again = self.enter
        self.third = torch.nn.Linear(input_dim, input_dim)
        self.third.weight = self.enter.weight
        self.leave = torch.nn.Linear(input_dim, classes)
        self.register_buffer("mask", torch.ones(input_dim, dtype=torch.bool))
        self.register_buffer("of_no_state", torch.ones(()), persistent=False)

    def forward(self, inputs):
        h = torch.tanh(self.third(torch.tanh(self.again(torch.tanh(self.enter(inputs))))))
        return self.leave(h * self.mask * self.of_no_state)


def add(store, *trials):
    store.write("wanted", [wanted(t, 9) for t in trials])
    for one in trials:
        for _ in run_pack(Pack((one,), slots=1), store):
            pass


def test_shared_submodules_and_tied_weights_are_verified(store):
    shared = trial("decay", model__family="tests.test_verification:Shared", model__initialization="he")
    add(store, shared)
    (verdict,) = verify(store, [shared.trial_id], own_code=True)
    assert (verdict.outcome, verdict.weights) == (EXACT, EXACT)
    assert verdict.plain_weights == EXACT or float(verdict.plain_weights) < 1e-6


class Forgetful(torch.nn.Linear):
    """Works until it does not."""

    def __init__(self, model, input_dim, classes):
        super().__init__(input_dim, classes)

    def forward(self, inputs):
        if "FORGETFUL" in os.environ:
            raise RuntimeError("my own mistake")
        return super().forward(inputs)


def test_the_error_of_one_trial_is_a_row_and_the_rest_is_verified(store, runner_result, monkeypatch):
    own = trial(model__family="tests.test_verification:Forgetful")
    add(store, own)
    monkeypatch.setenv("FORGETFUL", "1")
    words = ("--results", str(store.results), "--format", "jsonl")
    code, out, err = runner_result("verify", "--own-code", own.trial_id, TRIALS[0].trial_id, *words)
    assert code == 1 and [json.loads(line)["outcome"] for line in out.splitlines()] == ["error", "exact"]
    assert "RuntimeError: my own mistake" in err and "1 exact, 0 differ; 1 ended in an error" in err


def test_a_trial_that_needs_trust_does_not_hide_the_others(store, runner_result):
    own = trial(model__family="tests.test_verification:Forgetful")
    add(store, own)
    words = ("--results", str(store.results), "--format", "jsonl")
    code, out, err = runner_result("verify", own.trial_id, TRIALS[0].trial_id, *words)
    assert code == 1 and [json.loads(line)["outcome"] for line in out.splitlines()] == ["error", "exact"]
    assert "use --own-code" in err


@pytest.fixture
def runner_result():
    from typer.testing import CliRunner

    def run(*arguments):
        found = CliRunner().invoke(app, list(arguments))
        return found.exit_code, found.stdout, found.stderr

    return run


def test_a_failed_trial_is_run_alone_and_its_error_told(store, runner_result):
    broken = trial(seed=9, model__family="tests.test_verification:Broken")
    store.write("wanted", [wanted(broken, 9)])
    for _ in run_pack(Pack((broken,), slots=1), store):
        pass
    with pytest.raises(StoreError, match=r"code that this would run, tests.test_verification:Broken. If you trust"):
        error_of(store, broken.trial_id)
    code, out, err = runner_result("verify", "--own-code", broken.trial_id, "--results", str(store.results))
    assert code == 1 and out == ""
    assert f"{broken.trial_id} alone: Traceback" in err and "RuntimeError: my own mistake" in err
    code, out, err = runner_result(
        "verify", "--own-code", broken.trial_id, TRIALS[0].trial_id, "--results", str(store.results)
    )
    assert code == 1 and TRIALS[0].trial_id in out and "my own mistake" in err


def test_a_failed_trial_that_is_mended_is_told_too(store, runner_result):
    rewritten(store, "trials", lambda row: {**row, "status": "quarantined", "cause": "it hung"})
    code, _, err = runner_result("verify", TRIALS[0].trial_id, "--results", str(store.results))
    assert code == 0 and "finished without an error" in err


class Broken(torch.nn.Linear):
    def __init__(self, model, input_dim, classes):
        super().__init__(input_dim, classes)

    def forward(self, inputs):
        raise RuntimeError("my own mistake")


def test_a_compared_pack_stores_how_far_a_member_is_from_its_run_alone(tmp_path):
    store = Store(tmp_path, create=True)
    for pack in (Pack(tuple(TRIALS), 5, compared=True), Pack((trial("decay", seed=8), trial("decay", seed=9)), 2)):
        for _ in run_pack(pack, store):
            pass
    assert store.read("packs")["deviation"].to_pylist().count(0.0) == 1
    assert store.read("packs")["deviation"].null_count == 1
    assert store.trials()["deviation"].to_pylist().count(0.0) == 1
    assert max(store.read("packs")["compare_seconds"].to_pylist()) > 0


def test_a_leak_between_members_is_stored_as_a_deviation(tmp_path, monkeypatch):
    right = optim.sgd_

    def leaking(parameters, gradients, moments, coefficients):
        for gradient in gradients.values():
            gradient.add_(gradient.mean(0, keepdim=True), alpha=1e-3)
        right(parameters, gradients, moments, coefficients)

    monkeypatch.setattr(optim, "sgd_", leaking)
    store = Store(tmp_path, create=True)
    for _ in run_pack(Pack(tuple(TRIALS), 5, compared=True), store):
        pass
    assert store.read("packs")["deviation"][0].as_py() > 1e-5


def test_a_comparison_stops_at_a_measurement_when_its_time_is_over(tmp_path, monkeypatch):
    for limit in ("COMPARED_SECONDS", "COMPARED_SHARE"):
        monkeypatch.setattr(measurement, limit, 0.0)
    ran = []
    right = comparison.alone
    monkeypatch.setattr(comparison, "alone", lambda *args: ran.append(right(*args)) or ran[-1])
    store = Store(tmp_path, create=True)
    for _ in run_pack(Pack(tuple(TRIALS), 5, compared=True), store):
        pass
    assert not ran[0].ended and 1 <= len(ran[0].curve) < 4
    assert store.trials()["deviation"].to_pylist().count(0.0) == 1
