"""What a search's objective needs of trials is checked before any is trained."""

import pytest

from memsweep import BestSearch, BoundarySearch, CapacitySearch, Range, Sweep, SweepError
from memsweep.spec.config import FIELDS
from memsweep.spec.schema import NUMBERS
from memsweep.spec.search.objectives import NEEDS

WIDTHS = {"model.width": (8, 16)}
PLANE = {"model.width": (8, 16), "model.depth": (1, 2)}
UNVALIDATED = {"data.validation_examples": 0}
LABELS = {"data.noise_kind": "labels"}


def best(objective="validation_accuracy", space=WIDTHS):
    return BestSearch(space, {objective: "maximize"})


def boundary(objective):
    return BoundarySearch("model.width", "model.depth", objective=objective)


@pytest.mark.parametrize(
    "base, axes, search, words",
    [
        (UNVALIDATED, {}, best(), "objective 'validation_accuracy': data.validation_examples is 0; "),
        (UNVALIDATED, {}, best("validation_loss_nats"), "data.validation_examples must be 1 or more"),
        (UNVALIDATED, {}, best("validation_correct_count/train_count"), "data.validation_examples must be 1 or more"),
        ({}, {"data.validation_examples": (0,)}, best(), "data.validation_examples is 0"),
        ({}, {}, best(space={"data.validation_examples": (100, 0)}), "data.validation_examples is 0"),
        ({}, {}, best(space={"data.validation_examples": Range(0, 100)}), "data.validation_examples is 0"),
        ({}, {}, best("memorized_share"), "data.noise_kind is none and data.noise_fraction is 0.0"),
        (LABELS, {}, best("recovered_share"), "data.noise_fraction above 0"),
        (LABELS, {}, best("corrupted_correct_count/corrupted_count"), "data.noise_fraction above 0"),
        ({}, {}, best("validation_target_accuracy"), "data.task is digits"),
        ({}, {}, best("train_squared_error"), "data.task must be adding or reconstruction"),
        ({}, {}, best("fitted"), "stop.fit is 0"),
        ({}, {}, best("fitted_step"), "stop.fit is 0"),
        ({}, {}, best("solved_step"), "data.task must be one of copy"),
        ({}, {}, best("distance"), "model.perturbation must be above 0"),
        ({}, PLANE, boundary("test_accuracy"), "data.test_examples is 0"),
        ({}, PLANE, boundary("memorized_share"), "data.noise_kind is none"),
        ({}, PLANE, boundary("fitted"), "stop.fit is 0"),
        ({}, {**PLANE, "stop.fit": (0.9, 0)}, boundary("fitted"), "stop.fit is 0"),
        ({}, {"data.examples": (50, 100), "stop.fit": (1, 0)}, CapacitySearch(tuned=()), "stop.fit is 0"),
    ],
)
def test_an_objective_that_no_trial_would_store_is_refused(base, axes, search, words):
    with pytest.raises(SweepError) as refused:
        Sweep("s", base, axes=axes, search=search)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "base, axes, search",
    [
        ({}, {}, best()),
        (LABELS, {}, best("memorized_share", {"data.noise_fraction": Range(0, 0.5)})),
        ({}, {}, best("memorized_share", {"data.noise_kind": ("labels",), "data.noise_fraction": (0.2, 0.5)})),
        ({"data.test_examples": 9}, PLANE, boundary("test_accuracy")),
        ({"stop.fit": 1}, PLANE, boundary("fitted")),
        ({}, PLANE, boundary("train_accuracy")),
        ({}, PLANE, boundary("wall_seconds")),
    ],
)
def test_an_objective_that_trials_store_is_taken(base, axes, search):
    assert Sweep("s", base, axes=axes, search=search).search is search


def test_needs_are_about_fields_and_columns_that_there_are():
    assert all(set(need.fields) <= FIELDS.keys() for need in NEEDS)
    assert all(any(need.concerns(column) for column in (*NUMBERS, "fitted")) for need in NEEDS)
