"""Suggestions for unknown field names: by synonym, by the name within a group, by spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MEANINGS = {
    "data.task": "dataset data ds data_set dataset_name",
    "data.examples": "n n_train num_train train_size n_samples num_samples samples n_examples num_examples "
    "train_examples training_examples dataset_size data_size",
    "data.validation_examples": "n_val num_val val_size val valid n_valid valid_size validation validation_size "
    "val_examples n_validation",
    "data.test_examples": "n_test num_test test_size test",
    "data.input_dim": "input_size n_features num_features features in_features input_dimension n_inputs inputs",
    "data.label_scheme": "labels random_labels label_kind",
    "data.noise_kind": "noise_type corruption_type",
    "data.noise_fraction": "noise label_noise noise_rate noise_level noise_ratio label_noise_fraction corruption "
    "flip flip_prob flip_probability",
    "data.sequence_length": "seq_len seq_length sequence_len length time_steps timesteps n_timesteps",
    "data.classes": "k num_classes n_classes class_count output_dim n_outputs",
    "data.vocabulary": "vocab vocab_size n_tokens num_tokens tokens",
    "model.family": "model arch architecture network net model_type model_name",
    "model.width": "hidden hidden_size hidden_dim hidden_units hidden_width n_hidden num_hidden units n_units "
    "num_units neurons d_model channels",
    "model.depth": "layers n_layers num_layers n_layer hidden_layers n_hidden_layers num_hidden_layers",
    "model.heads": "n_heads num_heads n_head nhead attention_heads",
    "model.norm": "normalization batch_norm layer_norm batchnorm layernorm norm_layer",
    "model.parametrization": "mup parameterization",
    "model.frozen_layers": "freeze frozen",
    "model.cell": "rnn rnn_type cell_type",
    "model.gate_bias": "forget_bias",
    "model.activation": "act act_fn activation_fn activation_function nonlinearity",
    "model.initialization": "init initializer weight_init",
    "regularization.dropout": "p drop p_drop drop_prob drop_rate dropout_rate dropout_prob dropout_p",
    "regularization.input_noise": "noise input_sigma",
    "regularization.hidden_noise": "noise",
    "regularization.weight_decay": "wd decay l2 l2_reg lambda",
    "regularization.label_smoothing": "smoothing label_smooth",
    "regularization.penalty": "l1 regularizer",
    "regularization.penalty_strength": "penalty_weight lambda",
    "optimizer.name": "optimizer opt optim solver algorithm optimizer_name",
    "optimizer.learning_rate": "lr rate eta step_size learn_rate base_lr max_lr init_lr",
    "optimizer.momentum": "mom",
    "optimizer.betas": "beta beta1 beta2 b1 b2 beta_1 beta_2",
    "optimizer.clip": "grad_clip clip_grad clip_norm gradient_clip gradient_clipping max_grad_norm grad_norm clipping",
    "optimizer.batch_size": "bs batch minibatch minibatch_size mini_batch_size",
    "optimizer.epochs": "epoch n_epochs num_epochs max_epochs",
    "optimizer.truncation": "bptt tbptt truncate",
    "optimizer.objective": "loss criterion loss_fn",
    "optimizer.averaging": "ema ema_decay polyak swa weight_averaging",
    "optimizer.schedule": "scheduler lr_schedule lr_scheduler lr_decay",
    "compute.dtype": "precision",
    "compute.autocast": "amp mixed_precision bf16",
    "stop.fit": "early_stop early_stopping",
    "stop.steps": "max_steps n_steps num_steps total_steps iterations n_iterations n_iter num_iter max_iter iters "
    "updates n_updates train_steps training_steps budget",
    "stop.measure_steps": "eval_every log_every measure_every eval_steps eval_interval log_interval",
    "seed": "random_seed random_state rng",
    "seeds.init": "init",
    "seeds.noise": "noise",
    "seeds.labels": "labels",
}
"""Field -> names for it in other software."""
SHORTEST = 4
"""Fewest letters of a name that is compared by spelling: a name as short as `lr` resembles too many others."""
LIKENESS = 0.75
"""Least similarity of a misspelled name, as difflib computes it."""


def fields_meant(name: str, fields: Iterable[str]) -> list[str]:
    """Returns at most three of these dotted fields that a name may mean; [] if no field is similar.

    If the name has a group and a matching field is in it, fields of other groups are left out.

    >>> fields_meant("optimizer.lr", ["optimizer.learning_rate", "optimizer.clip"])
    ['optimizer.learning_rate']
    """
    fields = list(fields)
    group, _, leaf = name.strip().rpartition(".")
    words: dict[str, list[str]] = {}
    pairs = ((field, word) for field, others in _MEANINGS.items() for word in others.split())
    for field, word in (*pairs, *((field, field.rpartition(".")[2]) for field in fields)):
        if field in fields and field not in words.setdefault(_plain(word), []):
            words[_plain(word)].append(field)
    word = _plain(leaf)
    if whole := [field for field in fields if _plain(field) == _plain(name)]:  # model_width
        return whole
    near = [word] if word in words else []
    if not near and len(word) >= SHORTEST:
        near = difflib.get_close_matches(word, [other for other in words if len(other) >= SHORTEST], 3, LIKENESS)
    meant = list(dict.fromkeys(field for other in near for field in words[other]))
    return ([field for field in meant if group and field.startswith(f"{group}.")] or meant)[:3]


def hint(names: Iterable[str]) -> str:
    """Returns the question "Did you mean ...?" for these names; "" without names.

    >>> hint(["model.width", "model.depth"])
    "Did you mean 'model.width' or 'model.depth'?"
    """
    quoted = [repr(name) for name in names]
    return f"Did you mean {' or '.join(quoted)}?" if quoted else ""


def _plain(name: str) -> str:
    """Returns the letters and digits in lower case: learningRate, learning-rate and learning_rate become equal."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
