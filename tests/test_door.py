"""What a user's network or penalty can't be used with is refused before anything is trained, by name and remedy."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from memsweep.engine.door import problems
from memsweep.run import plan
from memsweep.run.packing import program_name
from memsweep.spec.sweep import SweepError
from tests.cases import COPY, RECURRENT, trial


class Net(nn.Module):
    """A linear classifier whose answers a test changes."""

    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.out = nn.Linear(input_dim, self.outputs(classes))

    @staticmethod
    def outputs(classes):
        return classes

    def forward(self, inputs):
        return self.changed(self.out(inputs))

    def changed(self, logits):
        return logits


class Seven(Net):
    outputs = staticmethod(lambda classes: 7)


class One(Net):
    outputs = staticmethod(lambda classes: 1)


class Twelve(Net):
    outputs = staticmethod(lambda classes: 12)


class Middle(Net):
    changed = staticmethod(lambda logits: logits[:, None])


class Mean(Net):
    changed = staticmethod(lambda logits: logits.mean(0))


class Predicted(Net):
    changed = staticmethod(lambda logits: logits.argmax(1))


class Rounded(Net):
    changed = staticmethod(lambda logits: logits.round().long())


class Pair(Net):
    changed = staticmethod(lambda logits: (logits, logits))


class Detached(Net):
    changed = staticmethod(lambda logits: logits.detach())


class AllFrozen(Net):
    def __init__(self, model, input_dim, classes):
        super().__init__(model, input_dim, classes)
        self.requires_grad_(False)


class Sized(Net):
    """Has a table of 20 rows, as the batch has."""

    def changed(self, logits):
        return logits + torch.zeros(20, 1)


class OtherInEvaluation(Net):
    def changed(self, logits):
        return logits if self.training else logits.softmax(1).argmax(1)


def own(network, **fields):
    return trial(model__family=f"tests.test_door:{network.__name__}", **fields)


@pytest.mark.parametrize(
    ("network", "what"),
    [
        (Seven, "float32 [20, 7]"),
        (One, "float32 [20, 1]"),
        (Twelve, "float32 [20, 12]"),
        (Middle, "float32 [20, 1, 10]"),
        (Mean, "float32 [10]"),
        (Predicted, "int64 [20]"),
        (Rounded, "int64 [20, 10]"),
        (Pair, "tuple"),
    ],
)
def test_answers_that_do_not_fit_the_classes_are_refused(network, what):
    (problem,) = problems(own(network))[:1]
    assert problem == (
        f"model.family = 'tests.test_door:{network.__name__}': forward returns {what} for 20 examples; "
        "must return [B, classes] = [20, 10], a number for each class."
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_networks_that_fit_are_let_in(dtype):
    fine = ("tests.cases:Normalized", "tests.cases:HalfFrozen", "tests.test_door:Net", "tests.test_door:Fixed")
    for family in fine:
        assert problems(trial(model__family=family, compute__dtype=dtype)) == []


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (AllFrozen, "has no parameter to train"),
        (Detached, "the output of forward has no gradient"),
        (Sized, "forward fails for 256 examples in evaluation mode, although not for 20 in training (RuntimeError"),
        (
            OtherInEvaluation,
            "forward returns int64 [256] for 256 examples in evaluation mode; must return [B, classes]",
        ),
    ],
)
def test_what_would_train_nothing_or_fail_at_the_first_measurement_is_refused(network, words):
    (problem,) = problems(own(network))
    assert words in problem and f"tests.test_door:{network.__name__}" in problem


def test_a_network_that_raises_an_error_is_left_to_its_trial():
    assert problems(trial(model__family="tests.test_verification:Broken")) == []


# Tasks whose answers are sequences.


class Tokens(nn.Module):
    """Answers 4 symbols at 3 positions."""

    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.out = nn.Linear(input_dim, 3 * 4)

    def forward(self, inputs):
        return self.out(inputs).unflatten(1, (3, 4))


class Flat(Tokens):
    def forward(self, inputs):
        return self.out(inputs)


class Sum(Net):
    outputs = staticmethod(lambda classes: 1)


def test_answers_of_sequence_tasks_have_another_shape():
    copy = {name.replace(".", "__"): value for name, value in COPY.items() if not name.startswith("model.")}
    assert problems(own(Tokens, **copy)) == []
    (problem,) = problems(own(Flat, **copy))
    assert (
        "forward returns float32 [20, 12] for 20 examples; must return [B, positions, outputs] = [20, 3, 4]" in problem
    )
    adding = {name.replace(".", "__"): value for name, value in RECURRENT.items() if not name.startswith("model.")}
    adding |= {"data__task": "adding", "data__sequence_length": 6}
    assert problems(own(Sum, **adding)) == []
    assert "must return [B, positions, outputs] = [20, 1, 1]" in problems(own(Seven, **adding))[0]


# Numbers that are drawn in __init__ and are neither parameters nor buffers.


class Projected(Net):
    def __init__(self, model, input_dim, classes):
        super().__init__(model, input_dim, classes)
        self.inner = nn.Identity()
        self.inner.projection = torch.randn(input_dim, input_dim)

    def forward(self, inputs):
        return self.out(inputs @ self.inner.projection)


class Scaled(Net):
    def __init__(self, model, input_dim, classes):
        super().__init__(model, input_dim, classes)
        self.settings = {"scale": torch.rand(()).item()}

    def changed(self, logits):
        return logits * self.settings["scale"]


class Shuffled(Net):
    """In training alone."""

    def __init__(self, model, input_dim, classes):
        super().__init__(model, input_dim, classes)
        self.order = torch.randperm(classes).numpy()

    def changed(self, logits):
        return logits[:, self.order] if self.training else logits


class Closed(Net):
    def __init__(self, model, input_dim, classes):
        super().__init__(model, input_dim, classes)
        scale = torch.rand(())
        self.changed = lambda logits: logits * scale


class Fixed(Net):
    """A constant tensor, and one drawn from a generator of its own, are the same for all members."""

    def __init__(self, model, input_dim, classes):
        super().__init__(model, input_dim, classes)
        self.positions = torch.arange(classes) / classes
        self.noise = torch.rand(classes, generator=torch.Generator().manual_seed(0))
        self.unused = torch.rand(3)

    def changed(self, logits):
        return logits + self.positions.to(logits) + self.noise.to(logits)


@pytest.mark.parametrize(
    ("network", "name"),
    [(Projected, "inner.projection"), (Scaled, "settings"), (Shuffled, "order"), (Closed, "something")],
)
def test_numbers_of_a_members_own_that_all_would_share_are_refused(network, name):
    (problem,) = problems(own(network))
    assert problem == (
        f"model.family = 'tests.test_door:{network.__name__}': the seed sets {name}, neither parameter nor buffer, so "
        "that all members of a pack would share the values of the first member; use register_buffer or nn.Parameter."
    )


class NumpyWeights(Net):
    def __init__(self, model, input_dim, classes):
        super().__init__(model, input_dim, classes)
        self.scale = nn.Parameter(torch.tensor(np.random.rand(classes)))


class Dice(Net):
    def changed(self, logits):
        return logits * random.random()


def test_numbers_that_no_seed_governs_are_refused():
    assert "scale differ each time the network is built with the same seed" in problems(own(NumpyWeights))[0]
    assert "forward returns different numbers for the same inputs in two calls" in problems(own(Dice))[0]


def test_dropout_of_a_users_own_is_let_in():
    assert problems(trial(model__family="tests.test_choices:Dropping")) == []


def test_a_field_that_a_users_network_may_read_splits_its_packs_alone():
    """All members of a pack share the module of one, so that what its __init__ reads of the model must be equal."""
    for fields in ({"model__gate_bias": 2.0}, {"model__initialization": "he"}):
        assert program_name(own(Net, **fields)) != program_name(own(Net))
        assert program_name(trial(**fields)) == program_name(trial())


# Penalties.


def item(parameters, inputs, logits):
    return logits.square().mean().item()


def detached(parameters, inputs, logits):
    return logits.detach().square().mean()


def vector(parameters, inputs, logits):
    return logits.square().mean(1)


def count(parameters, inputs, logits):
    return (logits > 0).sum()


@pytest.mark.parametrize(
    ("penalty", "words"),
    [
        (item, "returns float, which has no gradient"),
        (detached, "its value has no gradient"),
        (vector, "returns float32 [20]; must return a floating scalar"),
        (count, "returns int64 []; must return a floating scalar"),
    ],
)
def test_penalties_that_train_nothing_are_refused(penalty, words):
    path = f"tests.test_door:{penalty.__name__}"
    named = {"regularization__penalty": path, "regularization__penalty_strength": 0.1}
    (problem,) = problems(trial(**named))
    assert problem.startswith(f"regularization.penalty = {path!r}: ") and words in problem
    assert problems(trial(regularization__penalty=path)) == []  # not called
    assert problems(trial("penalty")) == []


# Losses.


def item_loss(logits, labels, inputs):
    return logits.sum().item()


def matrix_loss(logits, labels, inputs):
    return logits.square()


def detached_loss(logits, labels, inputs):
    return logits.square().mean(1).detach()


def counted_loss(logits, labels, inputs):
    return (logits.argmax(1) != labels).long()


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (item_loss, "returns float; must return a tensor, of losses [B] or a scalar."),
        (matrix_loss, "returns float32 [90, 10] for 90 examples; must return losses [B] = [90]"),
        (counted_loss, "returns int64 [90] for 90 examples; must return losses [B] = [90]"),
        (detached_loss, "its value has no gradient, so nothing would be trained"),
    ],
)
def test_losses_that_train_nothing_are_refused(loss, words):
    path = f"tests.test_door:{loss.__name__}"
    (problem,) = problems(trial(optimizer__objective=path))
    assert problem.startswith(f"optimizer.objective = {path!r}: ") and words in problem
    assert problems(trial("own loss")) == problems(trial("own loss, scalar")) == []


# Where it is asked.


def test_a_launch_is_refused_with_every_problem_and_without_importing_it():
    bad = [own(Seven), own(Seven, seed=1), own(Projected), trial(model__width=9)]
    with pytest.raises(SweepError) as caught:
        plan.check(bad)
    assert [problem.split("'")[1] for problem in caught.value.problems] == [
        "tests.test_door:Seven",
        "tests.test_door:Projected",
    ]
    plan.check([own(Net), own(Crashing), own(Net, seed=1)])


class Crashing(Net):
    """Ends its process."""

    def __init__(self, model, input_dim, classes):
        super().__init__(model, input_dim, classes)
        import os

        os._exit(3)


def test_sweeps_without_code_of_a_users_own_start_no_process(monkeypatch):
    monkeypatch.setattr(plan.isolation, "evaluate", lambda *_: pytest.fail("evaluated"))
    plan.check([trial(), trial("dropout"), trial("lstm, copy")])
