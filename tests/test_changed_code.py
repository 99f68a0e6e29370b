"""A launch whose user's code has changed: what it refuses, what `--changed` does, and what tables show."""

import json
import os
import sys
from collections import Counter

import pytest

from memsweep import Sweep
from memsweep.analysis.core import frames
from memsweep.analysis.report import report
from memsweep.check.verification import verify
from memsweep.data.texts import DataError
from memsweep.results import query, status
from memsweep.results.compaction import compact
from memsweep.results.mlflow import projection
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store, StoreError
from memsweep.run import checkpoints, launch_record
from memsweep.run.launch_options import LaunchOptions
from memsweep.run.packing import Pack
from memsweep.run.preview import preview
from memsweep.run.rounds.launch_code import LaunchCode
from memsweep.run.rounds.replay import Replay
from memsweep.run.rounds.rounds import Rounds
from memsweep.run.worker import provenance, sources
from memsweep.run.worker.writer import PackWriter
from memsweep.spec.code import code_of
from memsweep.spec.config import ConfigError
from memsweep.spec.schema import Status
from memsweep.spec.sweep import SweepError
from memsweep.spec.sweep_files import load_sweep
from tests.test_launch import memsweep_

RELU = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.enter, self.leave = nn.Linear(input_dim, model.width), nn.Linear(model.width, classes)

    def forward(self, inputs):
        return self.leave(torch.relu(self.enter(inputs)))  # the activation


def l1(parameters, inputs, logits):
    return sum(value.abs().sum() for value in parameters.values())
"""
TANH = RELU.replace("relu", "tanh")
BASE = {"model.family": "changed_lab:Net", "data.examples": 100, "optimizer.epochs": 1}
WIDTHS = {"model.width": (8, 16)}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Returns a function that writes the module changed_lab."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "changed_lab", raising=False)  # of another test
    module = tmp_path / "changed_lab.py"
    module.write_text(RELU)
    return module.write_text


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def sweep(name="nets", axes=WIDTHS, seeds=(0, 1), **fields):
    return Sweep(name, BASE | fields, axes=axes, seeds=seeds)


def launch(sweep, store, changed=None, *, add=False, only=None, ended=Status.FINISHED):
    """Does what a launch does, but that it stores trials as ended without training.  Returns their number."""
    provenance.forget()
    code = LaunchCode(store, changed)
    store = store.accepting(code.accepted)
    replay = Replay(sweep, store, code=code)
    if add:
        code.request_stored(sweep.name)
    code.check()
    rounds = Rounds([replay], store, code=code, add=add)
    trials = rounds.missing[:only]
    rounds.note()
    if trials:
        launch_record.write([sweep], code, store)
    writer = PackWriter(store, "pack")
    for trial in trials:
        writer.enter(trial)
        writer.settle(trial, ended, {"cause": None, "step_count": 1})
    writer.flush()
    return len(trials)


def fingerprints(store, sweep=None):
    return Counter(query.table("trials", store, sweep)["code_fingerprint"])


def now():
    return code_of(["changed_lab:Net"]).fingerprint


# What stops a launch


def test_one_character_of_code_stops_the_next_launch(write, store):
    assert launch(sweep(), store) == 4
    write(TANH)
    with pytest.raises(SweepError) as stop:
        launch(sweep(axes={"model.width": (8, 16, 32)}), store)
    ids = [trial.trial_id for trial in sweep()]
    assert str(stop.value) == (
        "sweep nets: changed_lab:Net is not the code that 4 of its stored trials ran (changed_lab:Net changed); trials "
        f"{', '.join(ids[:3])}, .... Restore the code; or launch with --changed rerun, which runs these trials again "
        "and keeps their rows apart; or with --changed keep, which mixes both on purpose."
    )
    assert len(store.current("wanted")) == 4  # nothing was written
    with pytest.raises(SweepError, match="is not the code"):
        preview(sweep(), store, LaunchOptions(), print)
    write(RELU)
    assert launch(sweep(axes={"model.width": (8, 16, 32)}), store) == 2


@pytest.mark.parametrize(
    "text",
    [
        RELU.replace("# the activation", "# of hidden units"),
        RELU.replace("(nn.Module):\n", '(nn.Module):\n    """A network."""\n\n'),
        RELU.replace(".abs()", ".pow(2)"),  # the trials have no penalty
        RELU + "\n\nSIZE = 3\n",
    ],
    ids=["comment", "docstring", "another definition", "a new definition"],
)
def test_a_change_that_no_trial_runs_stops_nothing(write, store, text):
    launch(sweep(), store)
    write(text)
    assert launch(sweep(), store) == 0


@pytest.mark.parametrize(
    ("fields", "before", "after"),
    [
        ({"regularization.penalty": "changed_lab:l1", "regularization.penalty_strength": 0.1}, ".abs()", ".pow(2)"),
        ({"data.task": "changed_lab:rings"}, "return", "return "),
    ],
    ids=["penalty", "task"],
)
def test_penalties_and_tasks_count_too(write, store, fields, before, after):
    task = "\n\ndef rings(config, rng):\n    return rng.normal(size=(999, 3)), rng.integers(0, 2, 999)\n"
    write(RELU + task)
    launch(sweep(**fields), store)
    write((RELU + task).replace(before, after))
    if before == "return":  # a formatting alone
        assert launch(sweep(**fields), store) == 0
        write(RELU + task.replace("999, 3", "999, 4"))
    with pytest.raises(SweepError, match="is not the code that 4 of its stored trials ran"):
        launch(sweep(**fields), store)


def test_a_metric_counts_and_another_metric_is_no_change(write, store):
    metric = "\n\ndef norm(outputs, labels, inputs):\n    return {'norm': outputs.norm()}\n"
    write(RELU + metric)
    launch(sweep(), store)
    measured = sweep(metrics=("changed_lab:norm",))
    assert launch(measured, store) == 4  # the wanted metric is absent
    assert launch(measured, store) == launch(sweep(), store) == 0
    write(RELU + metric.replace("norm()", "norm(3)"))
    assert launch(sweep(), store) == 0  # no trial runs it
    with pytest.raises(SweepError, match="changed_lab:norm changed"):
        launch(measured, store)


def test_trials_that_an_error_ended_run_again_with_the_mended_code(write, store):
    launch(sweep(), store, ended=Status.FAILED)
    assert launch(sweep(), store) == 0
    write(TANH)
    assert launch(sweep(), store) == 4


def test_the_last_launch_defines_the_trials_that_are_compared(write, store):
    launch(sweep(axes={"model.width": (8,)}), store)
    write(TANH)
    with pytest.raises(SweepError, match="2 of its stored trials"):
        launch(sweep(axes={"model.width": (16,)}), store, add=True)
    assert launch(sweep(axes={"model.width": (16,)}), store) == 2


def test_a_trial_without_fingerprint_counts_and_is_mentioned(write, store, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(provenance, "code_columns", lambda imports: {})
        older.setattr(provenance, "forget", lambda: None)
        launch(sweep(), store)
    write(TANH)
    code = LaunchCode(store)
    replay = Replay(sweep(), store, code=code)
    code.check()
    assert replay.missing() == [] and code.remarks() == [
        "4 stored trials ran code of yours that an older memsweep did not record: they count, whether or not the code "
        "has changed since."
    ]


def test_options_are_rerun_and_keep():
    assert "--changed keep" in " ".join(LaunchOptions(changed="keep").words())
    with pytest.raises(ConfigError, match=r"changed = 'mix': must be rerun or keep\."):
        LaunchOptions(changed="mix")


# What --changed does


def test_rerun_runs_them_again_and_keeps_the_old_rows_apart(write, store):
    launch(sweep(), store)
    relu = now()
    write(TANH)
    tanh = now()
    assert launch(sweep(), store, "rerun", only=1) == 1
    assert status.overview(store)[0]["missing"] == 3
    assert fingerprints(store) == {tanh: 1}
    assert launch(sweep(), store) == 3  # an interrupted rerun goes on
    assert fingerprints(store) == {tanh: 4} and status.overview(store)[0]["finished"] == 4
    others = "select code_fingerprint, count(*) as n from trials_of_other_code group by all"
    assert query.sql(others, store).values.tolist() == [[relu, 4]]
    compact(store)
    assert query.sql(others, store).values.tolist() == [[relu, 4]]
    write(RELU)
    assert launch(sweep(), store, "rerun") == 0  # both codes are stored
    assert fingerprints(store) == {relu: 4}


def test_keep_mixes_both_and_asks_no_more(write, store):
    launch(sweep(), store)
    relu = now()
    write(TANH)
    more = sweep(axes={"model.width": (8, 16, 32)})
    assert launch(more, store, "keep") == 2
    assert fingerprints(store, "nets") == {relu: 4, now(): 2}
    assert launch(more, store) == 0
    write(TANH.replace("tanh", "sigmoid"))
    with pytest.raises(SweepError, match="4 of its stored trials"):
        launch(more, store)


def test_sweeps_that_share_a_trial_may_accept_different_code(write, store):
    launch(sweep("first"), store)
    relu = now()
    write(TANH)
    with pytest.raises(SweepError, match="sweep second: changed_lab:Net is not the code that 4"):
        launch(sweep("second"), store)
    assert launch(sweep("second"), store, "rerun") == 4
    tanh = now()
    for reader in (store, Snapshot(store.results)):
        assert fingerprints(reader, "first") == {relu: 4} and fingerprints(reader, "second") == {tanh: 4}
        assert {row["sweep"]: row["finished"] for row in status.overview(reader)} == {"first": 4, "second": 4}
        for name, fingerprint in (("first", relu), ("second", tanh)):
            assert set(frames.read(frames.TRIALS, name, reader)["code_fingerprint"]) == {fingerprint}
    assert len(store.trials()) == 4  # a row a trial
    compact(store)
    assert fingerprints(store, "first") == {relu: 4} and fingerprints(store, "second") == {tanh: 4}


def test_a_checkpoint_of_other_code_is_not_resumed(write, store):
    trials = tuple(sweep())
    executions = []
    for text in (RELU, TANH, RELU):
        write(text)
        executions.append(checkpoints.execution(Pack(trials, 4, code=LaunchCode(store).expected(trials)), "cpu"))
    assert executions[0] == executions[2] != executions[1]
    assert json.loads(json.dumps(executions[0])) == executions[0]  # as a checkpoint's header holds it


def test_code_that_changes_during_a_launch_ends_its_trials(write, store):
    trials = tuple(sweep())
    pack = Pack(trials, 4, code=LaunchCode(store).expected(trials))
    assert Pack.from_json(pack.to_json()).code == pack.code != ()
    provenance.forget()
    sources.check(trials, pack)
    write(TANH)
    sources.check(trials, pack)  # this process has imported the first code
    provenance.forget()
    with pytest.raises(DataError, match="changed_lab:Net: the code differs from the code when the launch began"):
        sources.check(trials, pack)


def test_the_report_says_that_codes_are_mixed(write, store):
    launch(sweep(), store)
    more = sweep(axes={"model.width": (8, 16, 32)})
    assert "versions of your code" not in report.write(store.results).read_text()
    relu = now()
    write(TANH)
    launch(more, store, "keep")
    page = report.write(store.results).read_text()
    assert f"mix 2 versions of your code, which --changed keep allows: 4 ran {relu}, 2 ran {now()}." in page


# What is stored


def test_rows_name_code_and_packages(write, store, tmp_path):
    launch(sweep(), store)
    row = store.trials().to_pylist()[0]
    assert row["code_fingerprint"] == now() and row["code_packages"].startswith("torch==")
    assert row["code_commit"] is None
    launched = store.current("launches").to_pylist()
    assert [entry["sweeps"] for entry in launched] == ["nets"]
    assert json.loads(launched[0]["code"])[now()]["changed_lab:Net"]
    assert "torch==" in launched[0]["packages"]
    run = projection.trial_run("nets", projection.plans(store.current("wanted"))[0].trials[row["trial_id"]], row, {})
    assert run.tags["code_fingerprint"] == now()


def test_commit_and_difference_of_the_users_tree(write, store, tmp_path, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    git = f"git -C {tmp_path} -c user.name=a -c user.email=a@example.org"
    (tmp_path / "keys.env").write_text("TOKEN=1\n")
    assert os.system(f"{git} init -q && {git} add changed_lab.py keys.env && {git} commit -qm first") == 0
    launch(sweep(), store)
    clean = store.trials(["code_commit"])["code_commit"][0].as_py()
    assert len(clean) == 40
    write(TANH)
    (tmp_path / "keys.env").write_text("TOKEN=2\n")
    launch(sweep(), store, "rerun")
    assert set(store.trials(["code_commit"])["code_commit"].to_pylist()) == {f"{clean}-dirty"}
    first, second = store.current("launches").sort_by("launched_at").to_pylist()
    assert first["code_diff"] == "" and first["code_commit"] == clean
    assert "+        return self.leave(torch.tanh" in second["code_diff"] and "TOKEN" not in second["code_diff"]


def test_the_sweep_file_is_stored_as_it_was_read(write, store, tmp_path):
    file = tmp_path / "nets.py"
    text = f"from memsweep import Sweep\n\nSWEEP = Sweep('nets', {BASE!r})\n"
    file.write_text(text)
    loaded = load_sweep(str(file)).with_axes(WIDTHS)
    file.unlink()
    launch(loaded, store)
    assert json.loads(store.current("launches")["sweep_files"][0].as_py()) == {str(file): text}


def test_a_password_in_the_command_is_not_stored(write, store, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/bin/memsweep", "launch", "x", "--tracking-uri", "https://me:secret@host/db"])
    launch(sweep(), store)
    command = store.current("launches")["command"][0].as_py()
    assert command == "memsweep launch x --tracking-uri https://host/db"


def test_verify_refuses_a_trial_of_other_code(write, store):
    launch(sweep(), store)
    write(TANH)
    with pytest.raises(StoreError, match="ran other code than changed_lab:Net is now"):
        list(verify(store, own_code=True))


def test_a_launch_stops_reruns_and_keeps(tmp_path, write, monkeypatch, importable, ray_address):
    (importable / "changed_lab.py").symlink_to(tmp_path / "changed_lab.py")
    monkeypatch.setenv("PYTHONPATH", str(importable))
    file = tmp_path / "nets.py"
    file.write_text(
        f"from memsweep import Sweep\n\nSWEEP = Sweep('nets', {BASE!r}, axes={{'model.width': (8,)}}, seeds=(0, 1))\n"
    )
    where = ("--results", str(tmp_path / "results"), "--tracking-uri", "none")
    joining = ("--address", ray_address)
    done = memsweep_("launch", str(file), *where, *joining)
    assert done.returncode == 0, done.stderr
    write(TANH)
    wider = ("--set", "model.width=8,16")
    refused = memsweep_("launch", str(file), *where, *wider)
    assert refused.returncode == 2 and "(changed_lab:Net changed)" in refused.stderr, refused.stderr
    again = memsweep_("launch", str(file), *where, *wider, "--changed", "rerun", *joining)
    assert "4 of 4 trials finished, 4 of them run now" in again.stderr, again.stderr
    store = Store(tmp_path / "results")
    rows = query.sql(
        "select code_fingerprint, count(*), count(distinct weights_fingerprint) from "
        "(from trials union all by name from trials_of_other_code) group by all order by 2",
        store,
    ).values.tolist()
    assert [row[1:] for row in rows] == [[2, 2], [4, 4]] and rows[1][0] == now()
    files = json.loads(store.current("launches")["sweep_files"][0].as_py())
    assert files == {str(file): file.read_text()}
    checked = memsweep_("verify", "--own-code", *where[:2])
    assert checked.returncode == 0, checked.stdout + checked.stderr
