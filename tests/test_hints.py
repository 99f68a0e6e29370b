"""Names that are no field: hints are by meaning and spelling, and there is none where nothing is near."""

import pytest

from memsweep.spec.config import FIELDS, ConfigError, TrialConfig
from memsweep.spec.fields import hints


def problems_of(values):
    with pytest.raises(ConfigError) as caught:
        TrialConfig.of(values)
    return caught.value.problems


MEANT = {
    "optimizer.learning_rate": "optimizer.lr lr learningRate model.learning_rate optimizer.learnig_rate",
    "regularization.weight_decay": "wd weight_decay optimizer.weight_decay",
    "optimizer.batch_size": "bs batch batchsize",
    "model.width": "width hidden_size hidden_dim model.hidden model.witdh modle.width model_width MODEL.WIDTH",
    "model.depth": "n_layers num_layers layers model.dpeth",
    "regularization.dropout": "dropout_rate p model.dropout",
    "data.noise_fraction": "label_noise data.noise noise_fractoin",
    "data.examples": "n_train train_size n",
    "data.classes": "num_classes",
    "optimizer.epochs": "epochs optimizer.epohcs",
    "stop.steps": "steps max_steps",
    "seed": "random_seed",
    "optimizer.momentum": "momentum",
    "optimizer.betas": "beta1 optimizer.beta1",
    "optimizer.clip": "grad_clip optimizer.clipp",
    "optimizer.name": "optimizer opt",
    "model.activation": "activation nonlinearity",
}
"""Field -> other names that people give it."""


@pytest.mark.parametrize("name, field", [(name, field) for field, names in MEANT.items() for name in names.split()])
def test_a_field_is_found_by_its_meaning_or_spelling(name, field):
    assert problems_of({name: 1}) == (f"{name!r} is no field of a trial. Did you mean {field!r}?",)


def test_a_name_of_several_meanings_names_each():
    (text,) = problems_of({"noise": 1})
    assert "'data.noise_fraction' or 'regularization.input_noise' or 'regularization.hidden_noise'" in text
    assert problems_of({"regularization.noise": 1})[0].endswith(
        "Did you mean 'regularization.input_noise' or 'regularization.hidden_noise'?"
    )


@pytest.mark.parametrize(
    "name, rest",
    [
        ("optimizer.warmup", "optimizer has name, learning_rate, momentum"),
        ("model.kernels", "model has family, width, depth"),
        ("warmup", "Groups: data, model"),
        ("kernels", "Groups: data, model"),
        ("x", "Groups: data, model"),
    ],
)
def test_where_no_field_is_near_there_is_no_hint(name, rest):
    (text,) = problems_of({name: 1})
    assert text.startswith(f"{name!r} is no field of a trial. {rest}") and "Did you mean" not in text


def test_what_others_call_a_field_leads_to_a_field():
    """The table of meanings names fields that there are."""
    assert set(hints._MEANINGS) <= FIELDS.keys()
