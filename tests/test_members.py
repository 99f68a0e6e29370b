"""Own hyperparameters per member (`members`): tensors that do not split packs, the same packed, alone and in torch."""

import json

import pytest
import torch
from torch import nn

from memsweep import Sweep, TrialConfig
from memsweep.check.verification import EXACT, verify
from memsweep.engine import door
from memsweep.engine.train import plain, trainer
from memsweep.engine.train.comparison import alone, weights_fingerprint
from memsweep.results.storage.store import Store
from memsweep.run.packing import CANNOT_BE_FUSED, Pack, by_program, make_packs
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import ConfigError, trial_id_of
from memsweep.spec.sweep import SweepError
from tests.test_exactness import run


class Tempered(nn.Module):
    def __init__(self, model, input_dim, classes, own):
        super().__init__()
        self.layer = nn.Linear(input_dim, classes)
        self.register_buffer("temperature", own.temperature)

    def forward(self, inputs):
        return self.layer(inputs) / self.temperature


class Keeping(Tempered):
    """Keeps its fields, and reads them later: one network serves all members of a pack."""

    def __init__(self, model, input_dim, classes, own):
        super().__init__(model, input_dim, classes, own)
        self.own = own

    def forward(self, inputs):
        return self.layer(inputs) / self.own.temperature


class Closing(Tempered):
    def __init__(self, model, input_dim, classes, own):
        super().__init__(model, input_dim, classes, own)
        self.scale = lambda h: h / own.temperature

    def forward(self, inputs):
        return self.scale(self.layer(inputs))


def power(parameters, inputs, logits, own):
    return own.strength * sum((value.abs() + 0.1).pow(own.power).sum() for value in parameters.values())


def focal(logits, labels, inputs, own):
    hit = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    return -((1 - hit.exp()) ** own.power) * hit


def branching(logits, labels, inputs, own):
    if own.power > 1:
        return 2 * nn.functional.cross_entropy(logits, labels, reduction="none")
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def begin(parameters, own):
    return {name: own.kept * torch.ones_like(value) for name, value in parameters.items()}


def update(gradients, state, parameters, rate, own):
    state = {name: own.kept * state[name] + gradients[name] for name in parameters}
    return {name: value - rate * state[name] for name, value in parameters.items()}, state


bounded = (begin, update)


def scaled(outputs, labels, inputs, own):
    return {"mean": own.power * outputs.mean()}


def warm(step, steps, own):
    assert isinstance(own.power, float)  # on the host
    return min((step + 1) / (8 * own.power), 1.0)


FIELDS = {
    "model.family": "tests.test_members:Tempered",
    "regularization.penalty": "tests.test_members:power",
    "regularization.penalty_strength": 0.01,
    "optimizer.objective": "tests.test_members:focal",
    "optimizer.name": "tests.test_members:bounded",
    "optimizer.schedule": "tests.test_members:warm",
    "metrics": ("tests.test_members:scaled",),
    "data.examples": 64,
    "data.validation_examples": 32,
    "optimizer.batch_size": 16,
    "optimizer.epochs": 2,
    "own.kind": "text",
    "own.strength": 0.5,
}
MEMBERS = ("own.kept", "own.power", "own.strength", "own.temperature")
ROWS = ((0.1, 1.5, 0.7), (0.3, 2.0, 1.3), (0.9, 2.5, 2.1))


def sweep_of(fields=FIELDS, members=MEMBERS, **others):
    axes = {("own.kept", "own.power", "own.temperature"): ROWS}
    return Sweep("members", fields, axes=axes, members=members, **others)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", create=True)


# Packs and exactness


def test_declared_fields_do_not_split_packs():
    declared = sweep_of(seeds=(0, 1)).trials
    assert [len(pack.trials) for pack in make_packs(declared, 1, 8)] == [6]
    assert len(make_packs(sweep_of(members=(), seeds=(0, 1)).trials, 1, 8)) == 3
    assert len(by_program([*declared, *sweep_of(members=MEMBERS[1:]).trials])) == 1 + 3
    others = [trial.with_fields({"own.kind": "other"}) for trial in declared]
    assert len(by_program([*declared, *others])) == 2


@pytest.mark.parametrize("mode", ["fused", "serial"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_packed_equals_alone_equals_plain(mode, dtype):
    trials = [trial.with_fields({"compute.dtype": dtype}) for trial in sweep_of()]
    ends, curves = run(trials, mode=mode)
    assert len({trainer.compose([trial], mode=mode).key for trial in trials}) == 1
    for trial in trials:
        lone, lone_curve = run([trial], mode=mode)
        assert curves[trial.trial_id] == lone_curve[trial.trial_id]
        model, _ = plain.train(trial, trial.budget)
        numbers = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        assert numbers["temperature"].item() == pytest.approx(trial.own.temperature)
        for name, value in ends[trial.trial_id].items():
            assert torch.equal(value, lone[trial.trial_id][name])
            tolerance = 0 if mode == "serial" else 1e-12 if dtype == "float64" else 1e-5
            torch.testing.assert_close(value, numbers[name].detach(), rtol=0, atol=tolerance)
    assert len({weights["layer.weight"].sum().item() for weights in ends.values()}) == len(trials)


@pytest.mark.parametrize("name", ["kept", "power", "strength", "temperature"])
def test_each_value_reaches_its_function(name):
    trial = sweep_of().trials[0]
    other = trial.with_fields({f"own.{name}": trial.own[name] + 0.25})
    runs = [alone(one, trainer.compose([one])) for one in (trial, other)]
    assert len({weights_fingerprint(one.state, 0) for one in runs}) == 2


def test_metrics_read_the_values_of_their_member():
    trials = [trial.with_fields({"optimizer.learning_rate": 0.0, "own.temperature": 1.0}) for trial in sweep_of()]
    program = trainer.compose(trials)
    _, measured = trainer.advance(program, trainer.init(program, trials), 4)
    scaled_means = {m: row[0].value / trials[m].own.power for m, row in measured.own.items()}
    assert len(scaled_means) == 3 and max(scaled_means.values()) == pytest.approx(min(scaled_means.values()), rel=1e-6)


# Stored trials


def test_a_pack_is_stored_and_verified_and_continues_from_its_checkpoint(store, tmp_path):
    sweep = sweep_of()
    write_wanted(sweep, sweep.trials, store)
    whole, (pack,) = Store(tmp_path / "whole", create=True), make_packs(sweep.trials, 1, 8)
    list(run_pack(pack, whole))
    stopped = run_pack(pack, store, checkpoint_seconds=0)
    next(stopped)
    stopped.close()
    assert store.trials(["status"])["status"].to_pylist() == ["interrupted"] * 3
    list(run_pack(pack, store))
    names = ["trial_id", "status", "weights_fingerprint", "members"]
    rows = [sorted(one.trials(names).to_pylist(), key=str) for one in (store, whole)]
    assert rows[0] == rows[1] and {row["members"] for row in rows[0]} == {",".join(MEMBERS)}
    assert {verdict.outcome for verdict in verify(store, own_code=True)} == {EXACT}


def test_the_declaration_is_part_of_the_identity():
    trial, constant = sweep_of().trials[0], sweep_of(members=()).trials[0]
    assert trial.trial_id != constant.trial_id and trial.setting_id != constant.setting_id
    assert trial.trial_id == sweep_of(members=MEMBERS[::-1]).trials[0].trial_id
    assert trial_id_of(json.loads(json.dumps(trial.flat()))) == trial.trial_id
    assert trial_id_of(json.loads(json.dumps(constant.flat()))) == constant.trial_id
    again = Pack.from_json(Pack((trial, constant), 2).to_json()).trials
    assert [one.trial_id for one in again] == [trial.trial_id, constant.trial_id]
    based = Sweep("members", TrialConfig.of(FIELDS), axes={"own.power": (1.0,)}, members=("own.power",))
    assert based.trials[0].members == ("own.power",)


# Refusals


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (("own.kind",), r"own.kind = 'text' \(base\): is in members, .* give it numbers"),
        (("own.absent",), r"members: no trial has the field own.absent; set it in base or axes"),
        (("model.width",), r"members = .*: .* must be fields such as own.temperature"),
        ("own.power", r"members = 'own.power': .* must be a list"),
    ],
)
def test_wrong_declarations_are_refused(members, words):
    with pytest.raises(SweepError, match=words):
        sweep_of(members=members)


def test_a_trial_refuses_a_declared_text():
    with pytest.raises(ConfigError, match=r"own.x = 'a': is in members"):
        TrialConfig.of({"own.x": "a", "members": ("own.x",)})
    with pytest.raises(ConfigError, match=r"own.x = True: is in members"):
        TrialConfig.of({"own.x": 1, "members": ("own.x",)}).with_fields({"own.x": True})


def test_a_function_that_branches_makes_members_train_in_turn(store):
    sweep = sweep_of(FIELDS | {"optimizer.objective": "tests.test_members:branching"})
    list(run_pack(Pack(sweep.trials, 3), store))
    assert {row["status"] for row in store.trials(["status"]).to_pylist()} == {"finished"}
    (row,) = store.read("packs", ["mode", "cause"]).to_pylist()
    assert row["mode"] == "serial" and CANNOT_BE_FUSED in row["cause"] and "if own.power > 1" in row["cause"]


@pytest.mark.parametrize(("kind", "name"), [("Keeping", "own"), ("Closing", "scale")])
def test_a_network_that_keeps_a_value_is_refused(kind, name, store):
    sweep = sweep_of(FIELDS | {"model.family": f"tests.test_members:{kind}"})
    (sentence,) = door.problems(sweep.trials[0])
    assert f"(members) sets {name}, neither parameter nor buffer" in sentence and "use register_buffer" in sentence
    with pytest.raises(ConfigError, match="neither parameter nor buffer"):
        trainer.init(trainer.compose(sweep.trials), sweep.trials)
    list(run_pack(Pack(sweep.trials, 3), store))  # as if the launch had not seen it: each trains alone
    stored = {row["trial_id"]: row["weights_fingerprint"] for row in store.trials().to_pylist()}
    for trial in sweep:
        lone = alone(trial, trainer.compose([trial]))
        assert stored[trial.trial_id] == weights_fingerprint(lone.state, 0)


def test_a_network_with_buffers_is_accepted():
    assert door.problems(sweep_of().trials[0]) == []
