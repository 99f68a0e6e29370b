"""The probe of permuted labels: its classifier, its areas, its floor, and that it is the same however a pack runs."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from torch.nn.functional import one_hot

from memsweep import ConfigError
from memsweep.engine.probes import permutations
from memsweep.engine.train import streams, trainer
from memsweep.results.storage.store import Store
from memsweep.run.worker import probes
from memsweep.spec.seeds import key
from tests.cases import trial
from tests.test_repeated_probes import measured, ran, trained

GENERATOR = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch):
    monkeypatch.setattr(permutations, "PERMUTATIONS", 20)


def macro(labels, scores):
    return np.mean([roc_auc_score(labels == k, scores[:, k]) for k in np.unique(labels)])


def reading(train, copies, labels, held_out=None):
    """The rows of made-up features [E, F]."""
    labels = torch.as_tensor(labels)
    own = permutations._Labels(permutations._permuted(labels, 0, "train"), permutations._permuted(labels, 0, "other"))
    others = [
        *[torch.as_tensor(copies)] * len(permutations.RHOS),
        torch.as_tensor(copies if held_out is None else held_out),
    ]
    return permutations._results("hidden", torch.as_tensor(train), others, own, labels)


def test_scores_and_areas_are_those_of_sklearn():
    train, other = GENERATOR.normal(2, 3, (60, 7)), GENERATOR.normal(2, 3, (40, 7))
    labels = np.stack([GENERATOR.permutation(np.arange(60) % 3) for _ in range(5)])
    told = np.stack([GENERATOR.permutation(np.arange(40) % 4) for _ in range(5)])  # a class that scores know not
    told[told == 3] = 0
    mean, deviation = train.mean(0), train.std(0)
    found = permutations.scores(torch.tensor(train), torch.tensor(other), torch.tensor(labels))
    areas = permutations.areas(found, torch.tensor(told))
    for own, asked, scores, area in zip(labels, told, found.numpy(), areas, strict=True):
        ridge = Ridge(alpha=permutations.RIDGE * 60).fit((train - mean) / deviation, np.eye(3)[own])
        expected = ridge.predict((other - mean) / deviation)
        np.testing.assert_allclose(scores + ridge.intercept_, expected, atol=1e-6)
        assert area == pytest.approx(macro(asked, expected), abs=1e-9)


def test_ties_count_half():
    scores = torch.tensor(GENERATOR.integers(3, size=(2, 50, 2)), dtype=torch.float32)
    labels = torch.tensor(np.stack([GENERATOR.permutation(np.arange(50) % 2) for _ in range(2)]))
    for area, own, told in zip(permutations.areas(scores, labels), scores.numpy(), labels.numpy(), strict=True):
        assert area == pytest.approx(macro(told, own), abs=1e-12)


def test_the_variance_is_that_of_scores_that_tell_nothing():
    labels = np.arange(200) % 5
    drawn = torch.tensor(GENERATOR.normal(size=(2000, 200, 5)), dtype=torch.float32)
    spread = permutations.areas(drawn, torch.tensor(labels).expand(2000, -1)).var()
    assert permutations.chance_variance(torch.tensor(labels)) == pytest.approx(float(spread), rel=0.1)


def test_features_that_tell_the_class_alone_learn_and_memorize_nothing():
    labels = np.arange(120) % 4
    classes = np.eye(4)[labels] @ GENERATOR.normal(size=(4, 9))
    *copies, held_out = reading(classes, classes, labels)
    for row in copies:
        assert row.observed_auc == 1 and row.p_learn < 0.05
        assert row.null_median == pytest.approx(row.floor_auc, abs=0.01) and row.p_beyond_class == 1
        assert row.floor_auc > 0.5
    assert held_out.observed_auc == 1 and abs(held_out.null_median - 0.5) < 3 * held_out.variance**0.5


def test_features_that_tell_examples_memorize_and_learn_nothing():
    labels = np.arange(120) % 4
    own = np.eye(120)
    *copies, held_out = reading(own, own, labels, held_out=GENERATOR.normal(size=(120, 120)))
    for row in copies:
        assert row.null_median == 1 and row.p_beyond_class < 1e-6 and row.p_learn == 1
        assert abs(row.independent_median - 0.5) < 3 * row.variance**0.5
    assert abs(held_out.null_median - 0.5) < 3 * held_out.variance**0.5


def test_every_seed_permutes_its_own_labels_in_its_own_way():
    labels = torch.arange(60) % 3
    found = [permutations._permuted(labels, seed, "train") for seed in range(40)]
    assert len({tuple(row.tolist()) for own in found for row in own[1:]}) == 40 * permutations.PERMUTATIONS
    assert all(torch.equal(row.sort().values, labels.sort().values) for own in found for row in own)


def by_hand(program, state, m, rho_index):
    """Observed area of copies of one member, in plain torch and sklearn."""
    member = state.members[m]
    x = torch.tensor(member.data.inputs[: permutations.EXAMPLES]).to(program.dtype)
    own = {name: value[m] for name, value in {**state.parameters, **state.buffers}.items()}
    keys = torch.tensor([key(member.trial.seed, f"probes/permutations/copies/{rho_index}")])
    rho = permutations.RHOS[rho_index]
    noise = streams.normal(keys, x.numel()).view(x.shape) * x.std(0, correction=0)
    copies = x.mean(0) + rho * (x - x.mean(0)) + (1 - rho**2) ** 0.5 * noise
    layers = []

    def keep(h, _layer):
        layers.append(h)
        return h

    for inputs in (x, copies):
        torch.func.functional_call(program.evaluated, own, (inputs,), {"hidden": keep})
    depth, labels = len(layers) // 2, member.data.labels[: len(x)]
    train, other = (layers[i].detach().double().numpy() for i in (depth - 1, -1))
    scale = np.where(train.std(0) > 0, train.std(0), 1)
    wanted = one_hot(torch.tensor(labels)).numpy()
    ridge = Ridge(alpha=permutations.RIDGE * len(x)).fit((train - train.mean(0)) / scale, wanted)
    return macro(labels, ridge.predict((other - train.mean(0)) / scale))


@pytest.mark.parametrize("case", ["sgd", "cnn", "gaussian inputs"])
def test_hidden_features_and_copies_are_those_of_a_plain_pass(case):
    program, state = trained([trial(case, seed=seed) for seed in range(2)])
    for m, rows in enumerate(permutations.measure(program, state)):
        assert [(r.validation, r.rho) for r in rows] == [
            *(("copies", rho) for rho in permutations.RHOS),
            ("held_out", None),
        ]
        for i, row in enumerate(rows[:-1]):
            assert row.observed_auc == pytest.approx(by_hand(program, state, m, i), abs=1e-4)


@pytest.mark.parametrize("case", ["sgd", "cnn"])
def test_a_member_alone_has_the_areas_that_it_has_in_a_pack(case):
    def areas(trials, mode="fused"):
        program, state = trained(trials, mode)
        rows = probes.rows(program, state, range(len(trials)))["permutations"]
        names = ("observed_auc", "null_median", "floor_auc", "independent_median")
        return [[[row[name] for name in names] for row in rows if row["trial_id"] == own.trial_id] for own in trials]

    trials = [
        trial(case, seed=seed, data__examples=90 - 10 * (seed == 1), probes=("permutations",)) for seed in range(3)
    ]
    packed = areas(trials)
    np.testing.assert_allclose(areas(trials, "serial"), packed, atol=1e-4)
    for m, own in enumerate(trials):
        for mode in ("fused", "serial"):
            np.testing.assert_allclose(areas([own], mode)[0], packed[m], atol=1e-4)


def test_inputs_are_asked_before_training_and_features_that_are_no_numbers_never():
    trials = [trial(seed=seed) for seed in range(2)]
    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    found = permutations.measure(program, state)
    assert [{row.features for row in rows} for rows in found] == [{"hidden", "inputs"}] * 2
    next(iter(state.parameters.values()))[0] = float("nan")
    assert [{row.features for row in rows} for rows in permutations.measure(program, state)] == [
        {"inputs"},
        {"hidden", "inputs"},
    ]


def test_training_is_the_same_with_it(tmp_path):
    probed = [trial(seed=seed, probes=("permutations",), probe_steps=(0, 7)) for seed in range(3)]
    ran(store := Store(tmp_path / "probed", create=True), probed, 2)
    ran(plain := Store(tmp_path / "plain", create=True), [trial(seed=seed) for seed in range(3)], 2)
    assert measured(store) == measured(plain)
    rows = store.current("permutations").to_pylist()
    assert len(rows) == 3 * (3 + 1) * (len(permutations.RHOS) + 1)
    assert {row["step"] for row in rows} == {0, 7, probed[0].budget}


@pytest.mark.parametrize(
    "fields",
    [{"model.depth": 0}, {"data.label_scheme": "unique", "data.validation_examples": 0}],
)
def test_it_needs_classes_and_a_hidden_layer(fields):
    with pytest.raises(ConfigError, match="permutations need classes"):
        trial(probes=("permutations",), **fields)
