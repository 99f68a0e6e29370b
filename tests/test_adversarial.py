"""Critical samples are found where they are: against the closed form of a linear classifier, and inside the box."""

import pytest
import torch
from torch.nn import functional

from memsweep.data import tasks
from memsweep.data.pools import DataError
from memsweep.engine import adversarial
from memsweep.engine.adversarial import RADIUS, search
from memsweep.engine.train import trainer
from memsweep.engine.train.evaluation import numbers_of
from memsweep.engine.train.program import MODES
from tests.cases import trial

ITERATIONS = 100


@pytest.fixture
def linear():
    """Weights [M, D, K] and inputs [M, B, D] of two linear classifiers, many of them near a boundary."""
    random = torch.Generator().manual_seed(0)
    return torch.randn(2, 12, 3, generator=random), torch.randn(2, 400, 12, generator=random) / 100


def margins(weights, inputs):
    """[M, B]: how far each input is from another prediction, in the largest change of an input; closed form."""
    logits = inputs @ weights
    best = logits.argmax(-1)
    own = torch.stack([w[:, b] for w, b in zip(weights, best, strict=True)])  # [M, D, B]
    gap = logits.amax(-1, keepdim=True) - logits
    steepness = (own[..., None] - weights[:, :, None, :]).abs().sum(1)  # [M, B, K]
    return torch.where(gap > 0, gap / steepness, torch.inf).amin(-1)


def climb_of(weights):
    def climb(inputs, labels):
        x = inputs.detach().requires_grad_()
        logits = x @ weights
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        return torch.autograd.grad(loss, x)[0], logits.detach()

    return climb


def found_in(weights, inputs, climb=None):
    keys, span = torch.tensor([3, 4]), torch.ones(2)
    return search(climb or climb_of(weights), inputs, span, keys, ITERATIONS)


def test_critical_samples_of_a_linear_classifier(linear):
    weights, inputs = linear
    far = margins(weights, inputs)
    found = found_in(weights, inputs)
    assert not found.is_critical[far > RADIUS].any()
    assert found.is_critical[far < 0.9 * RADIUS].float().mean() > 0.97  # with two classes; a third may mislead it
    assert 0.05 < found.is_critical.float().mean() < 0.95


def test_found_samples_are_in_the_box_and_predicted_otherwise(linear):
    weights, inputs = linear
    found = found_in(weights, inputs)
    assert (found.inputs - inputs).abs().max() <= RADIUS * (1 + 1e-4)
    changed = (found.inputs @ weights).argmax(-1) != (inputs @ weights).argmax(-1)
    assert torch.equal(changed, found.is_critical)
    assert torch.equal(found.inputs[~found.is_critical], inputs[~found.is_critical])


def test_climbing_the_wrong_way_finds_less(linear):
    """The literal pseudo-code raises the predicted class; then only noise crosses a boundary."""
    weights, inputs = linear
    right = climb_of(weights)
    wrong = found_in(weights, inputs, lambda x, labels: (-right(x, labels)[0], right(x, labels)[1]))
    assert wrong.is_critical.sum() < found_in(weights, inputs).is_critical.sum() / 2


@pytest.mark.parametrize("mode", MODES)
def test_members_search_apart(mode, wide_boxes):
    """The box follows the range of the inputs, and nobody's samples depend on the others'."""
    trials = [trial("adversarial", seed=seed) for seed in range(2)]
    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    inputs = torch.stack([torch.tensor(tasks.load(t).inputs[:20]) for t in trials])
    keys = torch.tensor([5, 6])
    together = adversarial.training_inputs(program, state, inputs, keys)
    moved = (together - inputs).abs().flatten(1).amax(1)
    assert (moved <= adversarial.RADIUS * state.examples.input_range * 1.001).all() and moved.min() > 0
    for m, one in enumerate(trials):
        alone = trainer.compose([one], mode=mode)
        own = trainer.init(alone, [one])
        for module in (alone.module, alone.evaluated):
            module.load_state_dict({name: value[0] for name, value in numbers_of(own).items()})
        found = adversarial.training_inputs(alone, own, inputs[m : m + 1], keys[m : m + 1])
        assert (found[0] - together[m]).abs().max() < 1e-6 * state.examples.input_range[m]


def test_images_span_one_and_other_inputs_what_they_span():
    assert tasks.load(trial()).input_range == 1.0
    data = tasks.load(trial("synthetic"))
    assert data.input_range == data.inputs.max() - data.inputs.min() > 3


@pytest.mark.parametrize("inputs, shape", [(121, (1, 11)), (784, (1, 28)), (3072, (3, 32)), (363, (3, 11))])
def test_images_are_square(inputs, shape):
    assert tasks.image_shape(inputs) == shape


@pytest.mark.parametrize("inputs", [1, 64, 100, 300, 785, 2 * 784])
def test_what_is_no_image_is_refused_in_words(inputs):
    with pytest.raises(DataError, match=f"with {inputs} inputs: needs square images"):
        tasks.image_shape(inputs)
    if inputs == 64:
        assert (
            "with 64 inputs: needs square images"
            in tasks.check(
                trial("cnn", data__task="digits", data__input_dim=0, data__label_scheme="task", data__classes=0)
            )[0]
        )
