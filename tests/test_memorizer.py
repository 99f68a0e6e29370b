"""Constructed weights hold every label, with as few units as are promised, or are refused."""

import numpy as np
import pytest
import torch

from memsweep import ConfigError, TrialConfig
from memsweep.data import tasks
from memsweep.engine.nn import memorizer, models
from memsweep.engine.nn.memorizer import TiesError, answers, classifier, in_general_position
from memsweep.engine.train import trainer
from tests.cases import trial


def drawn(examples, dim, classes=2):
    rng = np.random.default_rng(examples)
    return rng, rng.standard_normal((examples, dim)), rng.integers(0, classes, examples)


def hidden_units(layers):
    return sum(len(bias) for _, bias in layers[:-1])


@pytest.mark.parametrize("dim", [1, 8])
@pytest.mark.parametrize("examples", [1, 2, 3, 16, 60, 100, 512, 2048])
def test_every_number_is_held_with_four_roots_of_n_units(examples, dim):
    rng, inputs, _ = drawn(examples, dim)
    targets = rng.uniform(-1, 1, examples)
    layers = memorizer.memorizer(inputs, targets, rng)
    # a point is known to eps of the line, and slopes are the inverse of gaps, the smallest of which is about 1 / N^2
    tolerance = max(1e-9, 1e-13 * examples**2)
    np.testing.assert_allclose(answers(layers, inputs)[:, 0], targets, atol=tolerance)
    assert hidden_units(layers) <= 4 * np.ceil(np.sqrt(examples)) + 2


def test_full_groups_need_two_layers_of_two_roots():
    rng, inputs, _ = drawn(1024, 4)
    first, second, _ = memorizer.memorizer(inputs, rng.uniform(-1, 1, 1024), rng)
    assert (len(first[1]), len(second[1])) == (63, 64)


@pytest.mark.parametrize("classes", [1, 2, 10, 50])
@pytest.mark.parametrize("examples", [1, 30, 2048])
def test_classes_are_one_hot(examples, classes):
    rng, inputs, labels = drawn(examples, 8, classes)
    layers = classifier(inputs, labels, classes, rng)
    np.testing.assert_allclose(answers(layers, inputs), np.eye(classes)[labels], atol=1e-12)
    assert hidden_units(layers) <= 4 * np.ceil(np.sqrt(examples)) + 2 + 4 * classes


def test_no_kink_lies_on_a_point():
    rng, inputs, labels = drawn(300, 5, 3)
    h = inputs
    for weight, bias in classifier(inputs, labels, 3, rng)[:-1]:
        before = h @ weight.T + bias
        assert np.abs(before).min() > 1e-6
        h = np.maximum(before, 0)


@pytest.mark.parametrize(("examples", "dim", "classes"), [(1, 3, 1), (50, 5, 3), (7, 1, 2), (1000, 50, 10)])
def test_one_layer_holds_points_in_general_position(examples, dim, classes):
    rng, inputs, labels = drawn(examples, dim, classes)
    layers = in_general_position(inputs, labels, classes, rng)
    np.testing.assert_allclose(answers(layers, inputs), np.eye(classes)[labels], atol=1e-9)
    assert hidden_units(layers) <= 4 * examples / dim + 4 * classes


def test_points_that_coincide_are_refused():
    rng, inputs, labels = drawn(20, 3)
    inputs[7] = inputs[3]
    with pytest.raises(TiesError, match="coincide"):
        classifier(inputs, labels, 2, rng)
    with pytest.raises(TiesError, match="general position"):
        in_general_position(inputs, np.arange(20), 20, rng)
    inputs[:, 2] = 1.0
    with pytest.raises(TiesError, match="general position"):
        in_general_position(inputs, np.zeros(20, int), 1, rng)


# As first weights of a trial.

HELD = {
    "data.task": "gaussian",
    "data.input_dim": 6,
    "data.label_scheme": "random",
    "data.classes": 4,
    "data.validation_examples": 0,
    "model.initialization": "memorizer",
    "compute.dtype": "float64",
}


def held(depth, **fields):
    dotted = {name.replace("__", "."): value for name, value in fields.items()}
    return TrialConfig.of({**HELD, "data.examples": 200, "model.width": 150, "model.depth": depth, **dotted})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("depth", [1, 3])
def test_a_trial_begins_with_its_labels(depth, seed):
    config = held(depth, seed=seed, data__noise_kind="labels", data__noise_fraction=0.5)
    data = tasks.load(config)
    with torch.no_grad():
        logits = models.build(config, *tasks.shape(config))(torch.tensor(data.inputs).double())
    np.testing.assert_allclose(logits.numpy(), np.eye(4)[data.labels], atol=1e-9)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (held(3, model__width=16), "needs 32 here"),
        (held(1, model__width=100), "model.width = 100: .* needs"),
        (held(3, data__task="bits"), "coincide"),
    ],
)
def test_what_cannot_be_made_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        models.build(config, *tasks.shape(config))


@pytest.mark.parametrize(
    "fields", [{"model__depth": 2}, {"model__activation": "tanh"}, {"model__family": "cnn", "model__depth": 2}]
)
def test_other_networks_are_refused(fields):
    with pytest.raises(ConfigError, match="memorizing weights need an mlp"):
        trial(model__initialization="memorizer", **{"model__depth": 3, **fields})


def test_labels_alternate_along_the_line():
    data = tasks.load(trial("leaky, alternating", data__examples=7))
    order = np.argsort(data.inputs[:, 0])
    np.testing.assert_allclose(data.inputs[order, 0], np.linspace(-1, 1, 7), rtol=1e-6)
    assert list(data.labels[order]) == [0, 1, 0, 1, 0, 1, 0] and data.classes == 2


# First weights that interpolate, and a step beside them.

BESIDE = trial("squared, perturbed", data__examples=30, compute__dtype="float64")


def unperturbed(config):
    return config.with_fields({"model.perturbation": 0.0})


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_readout_is_made_whose_answers_are_one_hot(depth):
    config = unperturbed(BESIDE).with_fields({"model.depth": depth})
    data, (dim, classes) = tasks.load(config), tasks.shape(config)
    with torch.no_grad():
        found = models.build(config, dim, classes)(torch.tensor(data.inputs, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, np.eye(classes)[data.labels], atol=1e-10)


def test_fewer_units_than_examples_interpolate_nothing():
    with pytest.raises(ConfigError, match=r"model.width = 8: .* needs 30"):
        models.build(BESIDE.with_fields({"model.width": 8}), 64, 10)


def test_weights_are_perturbed_by_a_step_of_that_length_and_of_no_other():
    def flat(config):
        return torch.cat([p.detach().flatten() for p in models.build(config, 64, 10).parameters()])

    steps = {seed: flat(c) - flat(unperturbed(c)) for seed in (0, 1) for c in [BESIDE.with_fields({"seed": seed})]}
    assert [float(step.norm()) for step in steps.values()] == pytest.approx([0.5, 0.5])
    assert abs(float(torch.dot(steps[0], steps[1]))) < 0.05
    twice = flat(BESIDE.with_fields({"model.perturbation": 1.0})) - flat(unperturbed(BESIDE))
    torch.testing.assert_close(twice, 2 * steps[0])


def test_the_distance_is_from_unperturbed_weights_and_the_loss_is_of_squares():
    program = trainer.compose([BESIDE])
    state, measured = trainer.advance(program, trainer.init(program, [BESIDE]), 2)
    origin = models.build(unperturbed(BESIDE), 64, 10)
    apart = [state.parameters[name][0] - p.detach() for name, p in origin.named_parameters()]
    assert measured.counts["distance"][0] == pytest.approx(float(torch.cat([a.flatten() for a in apart]).norm()))
    data = tasks.load(BESIDE)
    with torch.no_grad():
        own = {name: value[0] for name, value in state.parameters.items()}
        found = torch.func.functional_call(origin, own, (torch.tensor(data.inputs, dtype=torch.float64),))
    half = ((found - torch.eye(10)[data.labels.tolist()]) ** 2).sum() / 2
    assert measured.counts["train_loss_sum_nats"][0] == pytest.approx(float(half))


def test_who_is_not_perturbed_has_no_distance():
    program = trainer.compose([unperturbed(BESIDE)])
    _, measured = trainer.advance(program, trainer.init(program, [unperturbed(BESIDE)]), 2)
    assert "distance" not in measured.counts


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"regularization.label_smoothing": 0.1}, "label_smoothing"),
        ({"regularization.adversarial": 0.1}, "adversarial"),
        ({"probes": ("loss_sensitivity",)}, "cross-entropy"),
    ],
)
def test_what_needs_cross_entropy_refuses_another_loss(fields, problem):
    with pytest.raises(ConfigError, match=problem):
        TrialConfig.of({"optimizer.objective": "squared", **fields})
