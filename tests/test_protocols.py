"""A mend that changes numbers raises the protocol of the configurations concerned, and of no others."""

import pytest

from memsweep.check import verification
from memsweep.data import tasks
from memsweep.results.status import older
from memsweep.results.storage.store import Store
from memsweep.run import plan
from memsweep.run.policy import protocols
from memsweep.run.policy.protocols import Examiner
from memsweep.run.rounds.replay import Replay
from memsweep.spec import mends
from memsweep.spec.config import TrialConfig, trial_id_of
from memsweep.spec.options import TASK_SIZES
from memsweep.spec.search import BestSearch
from memsweep.spec.sweep import Sweep, SweepError
from tests.cases import SMALL, ended, trial

NARROW = mends.Mend(2, "products with one column", ("model.width", "model.family"), lambda width, family: width == 1)
DEPTH = Examiner(
    2,
    lambda trial: trial.model if ":" in trial.model.family else None,
    lambda trial: "two layers" if trial.model.depth == 2 else "",
)
OWN = "tests.cases:Normalized"


@pytest.fixture
def mended(monkeypatch):
    """Width 1 gives other numbers, and so do own networks of depth 2."""
    monkeypatch.setattr(mends, "MENDS", (NARROW,))
    monkeypatch.setattr(protocols, "EXAMINERS", (DEPTH,))
    monkeypatch.setattr(protocols, "_reasons", {})


def number(config):
    return config.flat()["protocol"]


def sweep(**axes):
    return Sweep("widths", SMALL, axes={name.replace("__", "."): values for name, values in axes.items()})


def test_a_mend_raises_the_protocol_of_its_own_configurations_alone(mended):
    narrow, wide = TrialConfig.of({"model.width": 1}), TrialConfig.of({"model.width": 8})
    assert (number(narrow), number(wide)) == (2, 1)
    old = TrialConfig.of({"model.width": 1, "protocol": 1})
    assert number(old) == 1 and old.trial_id != narrow.trial_id
    assert trial_id_of({**narrow.flat(), "protocol": 1}) == old.trial_id
    assert narrow.with_fields({"model.width": 8}).trial_id == wide.trial_id  # as searches propose trials
    assert TrialConfig.of({"model.width": 8, "protocol": 1}).trial_id == wide.trial_id


def test_unset_names_the_trial_that_it_named_before():
    assert TrialConfig().trial_id == TrialConfig.of({"protocol": 1}).trial_id == "1cb3114809f0ddbf"


def test_an_own_network_is_examined_once_and_raised_alone(mended, monkeypatch):
    seen = []
    counted = DEPTH._replace(reason=lambda trial: seen.append(trial) or DEPTH.reason(trial))
    monkeypatch.setattr(protocols, "EXAMINERS", (counted,))
    asked = Replay(sweep(model__family=("mlp", OWN), model__depth=(1, 2), seeds__order=(0, 1, 2)), None)
    trials = asked.trials
    raised = [trial for trial in trials if number(trial) == 2]
    assert len(trials) == 12 and len(seen) == 2
    assert {(trial.model.family, trial.model.depth) for trial in raised} == {(OWN, 2)} and len(raised) == 3


def test_an_own_network_that_cannot_be_examined_is_left_to_the_launch_to_report(mended, monkeypatch):
    monkeypatch.setattr(protocols, "EXAMINERS", (DEPTH._replace(reason=lambda trial: 1 / 0),))
    assert [number(t) for t in Replay(sweep(model__family=(OWN,)), None).trials] == [1]


def test_a_search_raises_what_it_proposes_alone(mended):
    search = BestSearch({"model.family": ("mlp", OWN), "model.width": (1, 8)}, sampler="grid", configurations=4)
    asked = Replay(Sweep("best", SMALL, search=search), None)
    found = {(t.model.family, t.model.width): number(t) for t in asked.trials}
    assert found == {("mlp", 1): 2, ("mlp", 8): 1, (OWN, 1): 2, (OWN, 8): 2}  # SMALL has depth 2


def test_what_is_settled_under_an_older_protocol_is_missing_and_said(mended, tmp_path):
    store = Store(tmp_path, create=True)
    old = [trial(seed=seed, model__width=1, protocol=1) for seed in range(3)]
    same = [trial(seed=seed, model__width=8) for seed in range(2)]
    store.write("trials", [stored(t) for t in (*old, *same)])
    wanted = [*(t.with_fields({"protocol": None}) for t in old), *same]
    work = plan.work(wanted, store)
    assert [t.trial_id for t in work.settled] == [t.trial_id for t in same] and len(work.missing) == 3
    sentence = (
        "3 stored trials are of an older protocol: they stay readable, and a launch that wants them trains them again"
    )
    assert protocols.remark(work.missing, store) == older(store) == sentence
    assert protocols.remark(work.settled, store) == "" == protocols.remark(work.missing, None)


def test_an_own_networks_older_trials_are_said_once_its_newer_ones_are_wanted(mended, tmp_path):
    store = Store(tmp_path, create=True)
    (new,) = Replay(sweep(model__family=(OWN,)), store).trials
    store.write("trials", [stored(new.with_fields({"protocol": 1}))])
    assert older(store) == ""
    from memsweep.run.rounds.definition import write_wanted

    write_wanted(sweep(model__family=(OWN,)), [new], store)
    assert older(store).startswith("1 stored trial is of an older protocol: it stays readable")


def test_an_older_protocol_that_is_named_is_trained_no_more(mended):
    old, fine = trial(model__width=1, protocol=1), trial(model__width=8, protocol=1)
    plan.check([fine, trial(model__width=1)])
    with pytest.raises(SweepError, match=r"^protocol = 1: this version gives other numbers .* Leave protocol unset"):
        plan.check([old, fine])


def test_verify_says_older_protocol(mended):
    old = trial(model__width=1, protocol=1)
    verdict = verification._verdict(old, {}, {}, verification.Way())
    assert (verdict.outcome, verdict.holds) == ("older protocol", True)


def stored(config):
    fields = {name.replace(".", "_"): value for name, value in config.flat().items() if not isinstance(value, tuple)}
    return ended(config.trial_id, "finished", **fields)


# Products that depended on a member's company.


@pytest.mark.parametrize(
    "fields, protocol",
    [
        ({}, 1),
        ({"model__width": 1}, 2),
        ({"model__width": 7}, 2),
        ({"model__width": 37}, 1),
        ({"model__width": 10}, 1),
        ({"model__width": 10, "optimizer__batch_size": 25}, 2),
        ({"model__width": 10, "optimizer__batch_size": 25, "compute__dtype": "float64"}, 1),
        ({"optimizer__batch_size": 25}, 1),
        ({"optimizer__batch_size": 1}, 1),
        ({"data__label_scheme": "random", "data__classes": 7}, 1),
        ({"model__depth": 0, "data__label_scheme": "random", "data__classes": 7}, 1),
        ({"data__task": "gaussian", "data__input_dim": 13, "data__label_scheme": "unique", "data__examples": 7}, 1),
        ({"data__task": "gaussian", "data__input_dim": 13, "data__label_scheme": "unique", "model__width": 7}, 2),
        ({"model__family": "attention", "data__task": "digits", "data__sequence_length": 8, "model__width": 7}, 1),
    ],
)
def test_protocol_2_is_of_mlps_with_uneven_layers_alone(fields, protocol):
    if fields.get("data__label_scheme") == "unique":
        fields = {"data__noise_kind": "none", "data__noise_fraction": 0.0, "data__validation_examples": 0, **fields}
    assert number(trial(**fields)) == protocol


def test_the_rule_and_the_program_agree():
    from memsweep.engine.nn.models import EvenLinear
    from memsweep.engine.train import trainer
    from tests.cases import CASES

    mended = (
        "tests.cases:HalfFrozen",
        "tests.cases:Delayed",
        "tests.cases:Shared",
    )  # which other mends concern, as the case of SAM
    families = {case: CASES[case].get("model.family") for case in CASES if case != "sam, own buffers"}
    cases = [trial(case) for case, family in families.items() if family not in mended]
    for batch, width in [(20, 8), (20, 1), (25, 6), (25, 8), (3, 10), (1, 32)]:
        cases += [trial(case, model__width=width, optimizer__batch_size=batch) for case in ("sgd", "synthetic")]
    for config in cases:
        layers = trainer.compose([config]).module.modules()
        is_even = not any(isinstance(layer, EvenLinear) for layer in layers)
        assert number(protocols.current(config)) == (1 if is_even else 2)


def test_sizes_of_tasks_are_those_of_their_data():
    for task, sizes in TASK_SIZES.items():
        assert tasks.shape(TrialConfig.of({"data.task": task, "data.validation_examples": 0})) == sizes


@pytest.mark.parametrize("family, protocol", [("Scored", 2), ("OneHidden", 2), ("Normalized", 1), ("ByHand", 1)])
def test_an_own_network_with_uneven_layers_is_raised_alone(family, protocol):
    config = protocols.current(trial(model__family=f"tests.cases:{family}"))
    assert number(config) == protocol


# Networks that replace their buffers.


@pytest.mark.parametrize(
    "family, optimizer, protocol",
    [
        *(("Normalized", "sam", 3), ("Normalized", "sgd", 1), ("Delayed", "sgd", 3), ("Delayed", "sam", 3)),
        ("Shared", "sgd", 3),
        *(("OneHidden", "sam", 2), ("ResNet", "sam", 1), ("ResNet", "sgd", 1)),
    ],
)
def test_protocol_3_is_of_networks_that_replace_buffers_under_sam_or_hand_them_on_alone(family, optimizer, protocol):
    file = "own_networks" if family == "ResNet" else "cases"
    old = trial(model__family=f"tests.{file}:{family}", optimizer__name=optimizer)
    config = protocols.current(old)
    assert number(config) == protocol and protocols.is_older(old.with_fields({"protocol": 1})) == (protocol > 1)


def test_buffers_are_examined_for_each_batch_size_and_dtype(monkeypatch):
    seen = []
    monkeypatch.setattr(protocols, "_reasons", {})
    monkeypatch.setattr(protocols.isolation, "evaluate", lambda name, trial: seen.append(name) or None)
    for fields in ({}, {"optimizer__batch_size": 10}, {"compute__dtype": "float64"}, {}):
        protocols.current(trial(model__family=OWN, optimizer__name="sam", **fields))
    assert sum(name.endswith("replaced_names") for name in seen) == 3


def test_the_problem_names_the_protocol_that_is_stored():
    old = trial(model__family=OWN, optimizer__name="sam", protocol=1)
    with pytest.raises(SweepError, match=r"^protocol = 1: .*, and stores them as protocol 3\."):
        plan.check([old])
