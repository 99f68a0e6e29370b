"""Weights that are kept: the bits that were measured, in a plain torch module, wherever they are stored."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import memsweep
from memsweep import Sweep, SweepError
from memsweep.check import inspection, trained
from memsweep.check.verification import EXACT, verify
from memsweep.engine.nn import models
from memsweep.results import kept_files, networks, status
from memsweep.results.compaction import compact
from memsweep.results.storage.store import Store, StoreError
from memsweep.run import checkpoints, plan
from memsweep.run.policy import execution_plan
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.worker.execution import run_pack
from memsweep.spec.sweep_files import load_sweep
from tests.cases import CASES, trial
from tests.commands import own_folder, run
from tests.training import train

BASE = {"optimizer.epochs": 3, "data.examples": 200, "data.test_examples": 300, "data.validation_examples": 100}
RATES = {"optimizer.learning_rate": (0.1, 0.01)}
SWEEP = Sweep("kept", BASE, axes=RATES, seeds=range(3), keep="weights", keep_steps=(2, 4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train(SWEEP, Store(tmp_path_factory.mktemp("kept") / "results", create=True)).results


@pytest.fixture
def store(folder):
    return Store(folder)


def counts(module):
    """Right answers on validation and test examples, by plain torch."""
    data = module.data
    with torch.no_grad():
        predicted = module(torch.tensor(data.held_out_inputs).to(next(module.parameters()).dtype)).argmax(-1)
    right = predicted.numpy() == data.held_out_labels
    return right[: data.validation_count].sum(), right[data.validation_count :].sum()


def test_a_module_answers_as_the_trial_did(store):
    rows = {row["trial_id"]: row for row in store.trials().to_pylist()}
    for one in SWEEP.trials:
        module, row = trained.model(store, one.trial_id), rows[one.trial_id]
        assert not module.training and module.trial.trial_id == one.trial_id
        assert counts(module) == (row["validation_correct_count"], row["test_correct_count"])


def test_weights_are_those_of_the_fingerprint(store):
    """Those of the last step are what `trials` names; earlier ones are those of a shorter training."""
    ends = dict(zip(*store.trials(["trial_id", "weights_fingerprint"]).to_pydict().values(), strict=True))
    table = store.current("weights").to_pylist()
    kept = {(row["trial_id"], row["step"]) for row in table}
    assert kept == {(one.trial_id, step) for one in SWEEP.trials for step in (2, 4, 6)}
    assert {row["trial_id"]: row["weights_fingerprint"] for row in table if row["step"] == 6} == ends
    one = SWEEP.trials[0]
    short = memsweep.TrialConfig.of({**BASE, "optimizer.epochs": 2, "stop.steps": 4, "seed": 0})
    program = trained.trainer.compose([short])
    state, _ = trained.trainer.train(program, trained.trainer.init(program, [short]), 4)
    module = trained.model(store, one.trial_id, 4)
    for name, value in module.named_parameters():
        assert torch.equal(value, state.parameters[name][0]), name


def test_keeping_changes_no_number(tmp_path, store):
    bare = Sweep("kept", BASE, axes=RATES, seeds=range(3))
    other = train(bare, Store(tmp_path / "other", create=True))
    names = ["trial_id", "weights_fingerprint", "validation_correct_count", "validation_loss_sum_nats"]
    assert store.trials(names).sort_by("trial_id").equals(other.trials(names).sort_by("trial_id"))


def test_many_networks_are_evaluated_at_once(store):
    trial_ids = [one.trial_id for one in SWEEP.trials]
    inputs = trained.model(store, trial_ids[0]).data.held_out_inputs
    together = trained.outputs(store, trial_ids[::-1], inputs)
    assert together.shape == (6, 400, 10)
    for trial_id, answer in zip(trial_ids[::-1], together, strict=True):
        with torch.no_grad():
            alone = trained.model(store, trial_id)(torch.tensor(inputs)).numpy()
        np.testing.assert_allclose(answer, alone, atol=1e-5)
    earlier = trained.outputs(store, trial_ids, inputs, 2)
    assert not np.allclose(earlier, together[::-1])
    with pytest.raises(StoreError, match=r"inputs have the shape \[400, 63\]; \w+ reads \[N, 64\]"):
        trained.outputs(store, trial_ids, inputs[:, :63])


NETWORKS = [name for name in CASES if "adversarial" not in name and "perturb" not in name]


@pytest.mark.parametrize("case", NETWORKS)
def test_every_kind_of_network_is_rebuilt(case, tmp_path):
    """Buffers, shared parameters, averages and frozen layers too."""
    fields = {"probes": ("weights",), "optimizer__epochs": 1, "data__examples": 60, "data__test_examples": 0}
    trials = [trial(case, seed=seed, **fields) for seed in range(2)]
    store = Store(tmp_path / "results", create=True)
    program = trained.trainer.compose(trials)
    state = trained.trainer.init(program, trials)
    state, _ = trained.trainer.train(program, state, 3)
    for m, one in enumerate(trials):
        numbers = {name: value[m : m + 1].numpy() for name, value in trained.evaluation.numbers_of(state).items()}
        name = networks.write(store, [one.trial_id], numbers)
        module = models.build(one, *trained.tasks.shape(one)).eval()
        restored = {key: torch.from_numpy(value)[0] for key, value in networks.read(store, name, [0]).items()}
        assert module.load_state_dict(restored, strict=False).unexpected_keys == []
        for key, value in {**dict(module.named_parameters()), **dict(module.named_buffers())}.items():
            assert torch.equal(value, trained.evaluation.numbers_of(state)[key][m]), key


def test_a_settled_trial_without_weights_runs_again(tmp_path):
    bare = Sweep("kept", BASE, seeds=range(2))
    store = train(bare, Store(tmp_path / "results", create=True))
    assert plan.work(bare.trials, store).missing == ()
    kept = bare.keeping("weights")
    assert len(plan.work(kept.trials, store).missing) == 2 and kept.trials[0].trial_id == bare.trials[0].trial_id
    train(kept, store)
    assert [row["finished"] for row in status.overview(store)] == [2] and len(store.current("weights")) == 2
    assert plan.work(bare.trials, store).missing == () and inspection.incomplete(store) == []
    assert {verdict.outcome for verdict in verify(store)} == {EXACT}


def test_a_pack_that_was_interrupted_keeps_what_it_has_kept(tmp_path, monkeypatch):
    """The file of an early step is written before the row that names it, which waits in the checkpoint."""
    store = Store(tmp_path / "results", create=True)
    sweep = Sweep("kept", {**BASE, "optimizer.epochs": 40}, seeds=range(2), keep="weights", keep_steps=(2,))
    write_wanted(sweep, sweep.trials, store)
    chosen = execution_plan.choose(sweep.trials, store, "cpu", 1, compiling=False)
    (pack,) = plan.packs(sweep.trials, 1, None, chosen)
    running = run_pack(pack, store, checkpoint_seconds=0.0)
    while not checkpoints.stored(store):
        next(running)
    running.close()
    for path in store.results.glob("networks/*"):
        os.utime(path, (0, 0))
    assert kept_files.delete_useless(store, checkpoints.steps(store)) == 0
    (again,) = plan.packs(sweep.trials, 1, None, chosen, checkpoints.stored(store))
    list(run_pack(again, store))
    assert {row["step"] for row in store.current("weights").to_pylist()} == {2, sweep.trials[0].budget}
    assert kept_files.damaged(store) == []


def test_compaction_and_a_copy_keep_the_files(folder, tmp_path, run):
    os.system(f"cp -r {folder} {tmp_path}/copy")
    store = Store(tmp_path / "copy")
    before = store.current("weights").sort_by([("trial_id", "ascending"), ("step", "ascending")])
    networks.write(store, ["t"], {"w": np.zeros((1, 3), np.float32)})
    for path in store.results.glob("networks/*"):
        os.utime(path, (0, 0))
    assert run("compact", "--results", store.results)[0] == 0
    assert store.current("weights").sort_by([("trial_id", "ascending"), ("step", "ascending")]).equals(before)
    assert {path.stem for path in store.results.glob("networks/*")} == set(before["file"].to_pylist())
    assert counts(trained.model(store, SWEEP.trials[3].trial_id))
    compact(store)


def test_a_file_that_is_missing_or_changed_is_found(folder, tmp_path):
    os.system(f"cp -r {folder} {tmp_path}/copy")
    store = Store(tmp_path / "copy")
    row = networks.rows(store, [SWEEP.trials[0].trial_id])[0]
    path = kept_files.path_of(store, "weights", row["file"])
    path.write_bytes(path.read_bytes()[:-1])
    (finding,) = [found for found in inspection.inspect(store) if found.kind == "weights"]
    assert finding.is_wrong and str(path) in finding.message and "changed" in finding.message
    with pytest.raises(StoreError, match=r"can't be read"):
        trained.model(store, SWEEP.trials[0].trial_id)
    path.unlink()
    with pytest.raises(StoreError, match=r"missing. Restore it"):
        trained.model(store, SWEEP.trials[0].trial_id)
    assert "No such file" in next(found.message for found in inspection.inspect(store) if found.kind == "weights")


def test_a_file_for_plain_torch(folder, tmp_path, run):
    one = SWEEP.trials[0]
    arguments = ("weights", one.trial_id, "--results", folder, "--out")
    code, _, err = run(*arguments, "w.safetensors")
    assert code == 0 and "w.safetensors: step 6, 1" in err
    module = models.build(one, 64, 10)
    module.load_state_dict(load_file("w.safetensors"))
    other = trained.model(Store(folder), one.trial_id)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    assert run(*arguments, "w.safetensors")[0] == 2  # it exists
    code, _, err = run(*arguments, "x.safetensors", "--step", 3)
    assert code == 2 and f"{one.trial_id}: its weights are not kept at step 3, but at 2, 4, 6." in err
    code, _, err = run("weights", "none", "--results", folder, "--out", "x.safetensors")
    assert code == 2 and "none: its weights are not kept. Launch its sweep again with --keep weights." in err
    code, _, err = run(*arguments, "none/x.safetensors")
    assert code == 2 and "can't be written (No such file or directory)" in err and not Path("x.safetensors").exists()


def test_plan_counts_bytes_and_trials(run):
    code, out, _ = run("plan", "smoke", "--keep", "weights", "--keep-steps", "3,5", "--format", "jsonl", "--limit", 2)
    row = json.loads(out)
    parameters = sum(value.numel() for value in models.build(load_sweep("smoke").trials[0], 64, 10).parameters())
    assert code == 0 and row["weights_mib"] == round(2 * 3 * 4 * parameters / 2**20, 3)
    code, out, _ = run("plan", "smoke", "--format", "jsonl", "--limit", 2)
    assert "weights_mib" not in json.loads(out)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"keep": "all"}, "keep = 'all': must be nothing or weights or state."),
        ({"keep_steps": (3,)}, "keep_steps = (3,): nothing is kept; add keep = 'weights'."),
        ({"keep": "weights", "keep_steps": (2.5,)}, "keep_steps: 2.5 must be a whole number of steps, 0 or more."),
        (
            {"keep": "weights", "axes": {"probes": [(), ("examples",)]}},
            "probes is an axis; add 'weights' to its values",
        ),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(SweepError) as error:
        Sweep("kept", BASE, **arguments)
    assert message in str(error.value)


def test_words_that_are_no_steps(run):
    code, _, err = run("plan", "smoke", "--keep", "weights", "--keep-steps", "a")
    assert code == 2 and "must be whole numbers, such as 100,200" in " ".join(err.split())


class Net(torch.nn.Linear):
    def __init__(self, model, input_dim, classes):
        super().__init__(input_dim, classes)


def test_a_users_network_needs_trust(tmp_path):
    sweep = Sweep("kept", {**BASE, "model.family": "tests.test_weights:Net"}, keep="weights")
    store = train(sweep, Store(tmp_path / "results", create=True))
    with pytest.raises(StoreError, match="own_code=True"):
        trained.model(store, sweep.trials[0].trial_id)
    assert counts(trained.model(store, sweep.trials[0].trial_id, own_code=True))


def test_networks_that_cannot_be_lifted_are_evaluated_in_turn(tmp_path):
    sweep = Sweep("kept", {**BASE, "model.family": "tests.test_choices:Branching"}, seeds=range(2), keep="weights")
    store = train(sweep, Store(tmp_path / "results", create=True))
    assert set(store.current("packs", ["mode"])["mode"].to_pylist()) == {"serial"}
    trial_ids = [one.trial_id for one in sweep.trials]
    inputs = torch.tensor(trained.model(store, trial_ids[0], own_code=True).data.held_out_inputs)
    together = trained.outputs(store, trial_ids, inputs.numpy(), own_code=True)
    for trial_id, answer in zip(trial_ids, together, strict=True):
        with torch.no_grad():
            alone = [trained.model(store, trial_id, own_code=True)(block) for block in inputs[:256].split(256)]
        np.testing.assert_allclose(answer[:256], torch.cat(alone).numpy(), atol=1e-5)
