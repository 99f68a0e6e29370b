"""Metrics of a user's: wanted like probes, computed at every measurement, stored, verified, drawn and in MLflow."""

import inspect
import random as python_random

import pytest
import torch

from memsweep import Sweep, TrialConfig, table
from memsweep.analysis.core import catalog, frames
from memsweep.analysis.questions import metrics as question
from memsweep.check.inspection import incomplete
from memsweep.check.verification import DIFFERENT, EXACT, verify
from memsweep.data import tasks
from memsweep.engine.door import problems
from memsweep.engine.train import plain, trainer
from memsweep.engine.train.comparison import alone
from memsweep.results.compaction import compact
from memsweep.results.mlflow import projection, trial_runs
from memsweep.results.status import overview
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.packing import Pack
from memsweep.run.policy.calibration import metric_remarks
from memsweep.run.rounds.definition import records_before, write_wanted
from memsweep.run.rounds.replay import Replay
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import ConfigError
from tests.cases import trial
from tests.test_launch import memsweep_


def margin(outputs, labels, inputs):
    """How far the given label's output is above the others' mean, and the size of inputs."""
    given = outputs.gather(1, labels[:, None])[:, 0]
    return {"mean": (given - outputs.mean(1)).mean(), "least": given.amin(), "input": inputs.abs().amax()}


def scaled(outputs, labels, inputs, own):
    return {"mean": own.scale * outputs.mean()}


def branching(outputs, labels, inputs):
    return {"sign": torch.ones(()) if outputs.mean() > 0 else -torch.ones(())}  # this line


def drawing(outputs, labels, inputs):
    return {"any": outputs[torch.randint(len(outputs), ())].mean().double()}


def undefined(outputs, labels, inputs):
    return {"value": outputs.mean() / 0}


def squares(outputs, labels, inputs):
    return {"mean": (outputs.flatten(1) - labels).square().mean()}


def broken(outputs, labels, inputs, own):
    return {"value": outputs.mean() + {"right": 0}[own.kind]}


def here(function):
    return f"tests.test_own_metrics:{function.__name__}"


MARGIN = here(margin)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


def run(store, *trials, slots=8, **pack):
    for _ in run_pack(Pack(tuple(trials), slots, **pack), store):
        pass


def rows(store, **columns):
    return [row for row in store.current("metrics").to_pylist() if columns.items() <= row.items()]


# Identity


def test_metrics_are_no_part_of_the_identity():
    assert trial(metrics=(MARGIN,)).trial_id == trial().trial_id
    assert trial(metrics=(MARGIN,)).setting_id == trial().setting_id
    assert trial(metrics=(MARGIN,)).imports == (MARGIN,)
    for wrong in (("margin",), (MARGIN, MARGIN), ("my lab:x",)):
        with pytest.raises(ConfigError, match=r"must be import paths such as my_lab\.metrics:margin, each once"):
            TrialConfig.of({"metrics": wrong})


def test_trials_without_wanted_metrics_run_again_with_the_same_numbers(store):
    sweep, more = Sweep("s", trial(), seeds=range(2)), Sweep("s", trial(metrics=(MARGIN,)), seeds=range(2))
    write_wanted(sweep, sweep.trials, store)
    run(store, *sweep.trials)
    before = store.trial_rows([t.trial_id for t in sweep])
    assert Replay(sweep, store).missing() == []
    assert len(Replay(more, store).missing()) == len(plan.work(more.trials, store).missing) == 2
    write_wanted(more, Replay(more, store).missing(), store)
    assert overview(store)[0]["missing"] == 2 and len(incomplete(store)) == 2
    assert MARGIN in incomplete(store)[0]
    run(store, *more.trials)
    assert overview(store)[0]["finished"] == 2 and incomplete(store) == [] and Replay(more, store).missing() == []
    assert Replay(sweep, store).missing() == []  # what wants less is settled too
    after = store.trial_rows([t.trial_id for t in sweep])
    assert {t: row["weights_fingerprint"] for t, row in after.items()} == {
        t: row["weights_fingerprint"] for t, row in before.items()
    }
    assert {row["metrics"] for row in after.values()} == {MARGIN}
    assert records_before("s", store) == {t.trial_id: ((), (), (MARGIN,)) for t in sweep}
    compact(store)
    assert overview(store)[0]["finished"] == 2 and len(rows(store)) == 2 * 2 * 3 * 4


# Values


@pytest.mark.parametrize("mode", ["fused", "serial"])
def test_values_are_those_of_plain_torch_whatever_the_company(store, mode):
    trials = [
        trial(seed=0, metrics=(MARGIN,)),
        trial(seed=1),
        trial(seed=2, metrics=(MARGIN, here(branching)), data__examples=70),
        trial(seed=3, metrics=(MARGIN,), data__validation_examples=0),
    ]
    run(store, *trials, mode=mode)
    for one in (trials[0], trials[2]):
        program = trainer.compose([one], mode=mode)
        alone_curve = alone(one, program).curve
        for row in rows(store, trial_id=one.trial_id):
            assert alone_curve[row["step"]][f"{row['metric']} {row['part']} {row['name']}"] == row["value"]
        data, last = tasks.load(one), one.budget
        model, _ = plain.train(one, last)
        model.eval()
        parts = {
            "train": (data.inputs, data.labels),
            "validation": (
                data.held_out_inputs[: data.validation_count],
                data.held_out_labels[: data.validation_count],
            ),
        }
        for part, (inputs, labels) in parts.items():
            x, y = torch.tensor(inputs), torch.tensor(labels)
            expected = margin(model(x), y, x)
            found = {
                row["name"]: row["value"]
                for row in rows(store, trial_id=one.trial_id, step=last, part=part, metric=MARGIN)
            }
            assert found == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-5)
    assert rows(store, trial_id=trials[1].trial_id) == []
    assert {row["part"] for row in rows(store, trial_id=trials[3].trial_id)} == {"train"}
    steps = [row["step"] for row in store.current("steps").to_pylist() if row["trial_id"] == trials[0].trial_id]
    assert sorted({row["step"] for row in rows(store, trial_id=trials[0].trial_id)}) == steps


def test_metrics_of_tasks_with_targets_are_given_them(store):
    one = trial("gru, adding, truncated", metrics=(here(squares),))
    run(store, one)
    (end,) = store.trial_rows([one.trial_id]).values()
    (value,) = (row["value"] for row in rows(store, step=end["step_count"], part="validation"))
    assert value == pytest.approx(end["validation_squared_error_sum"] / end["validation_target_count"], rel=1e-5)


def test_own_hyperparameters_are_given_and_infinite_values_are_null(store):
    one, two = (trial(own__scale=scale, metrics=(here(scaled), here(undefined))) for scale in (1.0, 2.0))
    run(store, one)
    run(store, two)
    first, second = (
        [row["value"] for row in rows(store, trial_id=t.trial_id, metric=here(scaled))] for t in (one, two)
    )
    assert second == pytest.approx([2 * value for value in first]) and all(first)
    assert {row["value"] for row in rows(store, metric=here(undefined))} == {None}


def test_values_that_the_function_draws_depend_on_the_trial_alone(store):
    trials = [trial(seed=seed, metrics=(here(drawing),)) for seed in range(3)]
    run(store, *trials)
    program = trainer.compose(trials[:1])
    for one in trials:
        curve = alone(one, program).curve
        assert all(
            curve[row["step"]][f"{row['metric']} {row['part']} any"] == row["value"]
            for row in rows(store, trial_id=one.trial_id)
        )


def test_a_restored_pack_has_the_metrics_before_its_checkpoint(store, tmp_path):
    trials = [trial(seed=seed, metrics=(MARGIN,)) for seed in range(2)]
    run(store, *trials)
    other = Store(tmp_path / "other", create=True)
    pack = Pack(tuple(trials), 2)
    interrupted = run_pack(pack, other)
    next(interrupted), next(interrupted), next(interrupted)
    interrupted.close()
    run(other, *trials, slots=2)
    key = ("trial_id", "step", "part", "name", "value")
    found, expected = (sorted(tuple(row[k] for k in key) for row in rows(s)) for s in (other, store))
    assert found == expected and found


def test_a_checkpoint_without_the_wanted_metrics_is_not_taken_up(store):
    interrupted = run_pack(Pack((trial(),), 1), store)
    next(interrupted), next(interrupted)
    interrupted.close()
    one = trial(metrics=(MARGIN,))
    run(store, one, slots=1)
    steps = [row["step"] for row in store.current("steps").to_pylist()]
    assert len(steps) == 4 and sorted({row["step"] for row in rows(store)}) == sorted(steps)
    assert {row["cause"] for row in store.read("packs").to_pylist()} == {None}


def test_a_metric_that_raises_ends_its_own_trials_alone(store):
    trials = [trial(seed=s, own__kind="right", metrics=(here(broken),) if s else ()) for s in range(2)]
    wrong = [trial(seed=s, own__kind="wrong", metrics=(here(broken),) if s else ()) for s in range(3)]
    run(store, *trials)
    run(store, *wrong)
    ends = store.trial_rows([t.trial_id for t in (*trials, *wrong)])
    assert [ends[t.trial_id]["status"] for t in (*trials, *wrong)] == ["finished"] * 3 + ["failed"] * 2
    assert "KeyError: 'wrong'" in ends[wrong[1].trial_id]["cause"]


def test_verify_compares_metrics(store):
    sweep = Sweep("s", trial(metrics=(MARGIN,)), seeds=range(3))
    write_wanted(sweep, sweep.trials, store)
    run(store, *sweep.trials)
    assert [verdict.outcome for verdict in verify(store, own_code=True)] == [EXACT] * 3
    (part,) = store.parts("metrics")
    changed = [{**row, "value": row["value"] + (row["name"] == "least")} for row in store.read("metrics").to_pylist()]
    part.unlink()
    store.write("metrics", changed)
    verdict = next(verify(store, own_code=True))
    assert (verdict.outcome, verdict.worst.split()[0]) == (DIFFERENT, MARGIN)


# The door


def no_names(outputs, labels, inputs):
    return outputs.mean()


def nothing(outputs, labels, inputs):
    return {}


def vector(outputs, labels, inputs):
    return {"mean": outputs.mean(1)}


def number(outputs, labels, inputs):
    return {"mean": outputs.mean().item()}


def odd_name(outputs, labels, inputs):
    return {"the mean": outputs.mean()}


def many(outputs, labels, inputs):
    return {f"n{i}": outputs.mean() for i in range(51)}


def random(outputs, labels, inputs):
    return {"mean": outputs.mean() + python_random.random()}


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_names, "returns Tensor; must return a dict of names and scalar tensors."),
        (nothing, "returns an empty dict"),
        (vector, "'mean' is float32 [90]; must be a scalar tensor"),
        (number, "'mean' is float; must be a scalar tensor"),
        (odd_name, "names a value 'the mean'"),
        (many, "returns 51 values; at most 50"),
        (random, "returns different numbers for the same inputs"),
    ],
)
def test_metrics_that_return_something_else_are_refused(function, words):
    (problem,) = problems(trial(metrics=(MARGIN, here(function))))
    assert problem.startswith(f"metrics = {here(function)!r}: ") and words in problem


def test_metrics_that_fit_are_let_in_and_the_line_that_prevents_fusing_is_named():
    one = trial(own__kind="wrong", metrics=(MARGIN, here(branching), here(drawing), here(undefined), here(broken)))
    assert problems(one) == []
    remarks = metric_remarks(one)
    assert len(remarks) == 2 and remarks[0].startswith(f"{here(branching)}: members follow in turn")
    assert "if outputs.mean() > 0" in remarks[0] and "# this line" in remarks[0] and here(drawing) in remarks[1]


# Figures and MLflow


def test_metrics_are_drawn_and_logged(store):
    sweep = Sweep("s", trial(metrics=(MARGIN,)), axes={"optimizer.learning_rate": (0.1, 0.2)}, seeds=range(2))
    write_wanted(sweep, sweep.trials, store)
    run(store, *sweep.trials[:3])
    result = catalog.answer(question, "s", store)
    assert len(result.figures) == 6 and result.figures[0].name == "tests.test_own_metrics.margin-input-train"
    chosen = result.summary[(result.summary["name"] == "mean") & (result.summary["part"] == "train")]
    assert sorted(chosen.groupby("setting")["missing"].max()) == [0, 1]
    last = chosen[chosen["setting"] == "learning rate 0.1"].iloc[-1]
    one, two = (
        rows(store, trial_id=t.trial_id, step=t.budget, name="mean", part="train")[0]["value"] for t in sweep.trials[:2]
    )
    assert last["estimate"] == pytest.approx((one + two) / 2) and last["step"] == sweep.trials[0].budget
    for figure in result.figures:
        assert figure.draw(result.summary, catalog.figures.Picture().subplots()).axison
    assert list(catalog.modules_of("s", store))[-1] == "s-metrics-"
    other = Sweep("plain", trial())
    write_wanted(other, other.trials, store)
    assert "plain-metrics-" not in catalog.modules_of("plain", store)
    assert frames.read(frames.METRICS, "plain", store).empty
    assert question.summarize(question.select(frames.read(frames.METRICS, "plain", store))).empty
    (made,) = [p for p in projection.plans(store.current("wanted")) if p.sweep == "s"]
    one = sweep.trials[0].trial_id
    curves = trial_runs.trial_runs(store, made, store.trial_rows([one]), lambda wanted: {})[one].curves
    assert "validation_tests.test_own_metrics.margin.least" in curves
    curve = curves["train_tests.test_own_metrics.margin.mean"]
    stored = rows(store, trial_id=one, name="mean", part="train")
    assert dict(zip(curve.steps, curve.values, strict=True)) == {row["step"]: row["value"] for row in stored}


# A launch


LAB = f"""
import torch

{inspect.getsource(margin)}

{inspect.getsource(branching)}
"""
SWEEP = """
from memsweep import Sweep
BASE = {"data.examples": 100, "optimizer.epochs": 2, "model.width": 8, "optimizer.name": "torch.optim:NAdam"}
SWEEP = Sweep("margins", BASE, axes={"optimizer.learning_rate": (0.01, 0.02)}, seeds=(0, 1))
"""


def test_a_launch_runs_trials_again_for_their_metrics_and_names_the_line(
    tmp_path, monkeypatch, importable, ray_address
):
    (importable / "my_metrics_lab.py").write_text(LAB)
    (tmp_path / "margins.py").write_text(SWEEP)
    monkeypatch.setenv("PYTHONPATH", str(importable))
    sweep, where = tmp_path / "margins.py", ("--results", tmp_path / "results")
    started = ("--tracking-uri", "none", "--address", ray_address)
    done = memsweep_("launch", sweep, *where, *started)
    assert done.returncode == 0 and "4 of 4 trials finished, 4 of them run now" in done.stderr, done.stderr
    assert "optimizer.name = 'torch.optim:NAdam' is one object a member" in done.stderr
    wanted = ("--set", "metrics=my_metrics_lab:margin", "--set", "optimizer.learning_rate=0.01")
    missing = memsweep_("missing", sweep, *where, *wanted, "--format", "jsonl").stdout.splitlines()
    assert len(missing) == 2
    refused = memsweep_("launch", sweep, *where, "--set", "metrics=my_metrics_lab:absent")
    assert refused.returncode == 2 and "my_metrics_lab:absent: can't be imported" in refused.stderr
    wanted = ("--set", "metrics=my_metrics_lab:margin,my_metrics_lab:branching")
    again = memsweep_("launch", sweep, *where, *wanted, *started)
    assert again.returncode == 0 and "4 of 4 trials finished, 4 of them run now" in again.stderr, again.stderr
    assert (
        "my_metrics_lab:branching: members follow in turn" in again.stderr and "if outputs.mean() > 0" in again.stderr
    )
    rows_ = table("metrics", tmp_path / "results")
    assert len(rows_) == 4 * 2 * 2 * (3 + 1) and set(rows_["part"]) == {"train", "validation"}
    assert memsweep_("missing", sweep, *where, *wanted, "--format", "jsonl").stdout == ""
    checked = memsweep_("verify", "--own-code", *where)
    assert checked.returncode == 0, checked.stdout + checked.stderr
